"""Organisations that signed up, and regions that report what they used: through the real routes, all of it."""

import random
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
import msgspec
from sqlalchemy.ext.asyncio import AsyncEngine

from chappe_control.settings import ControlSettings
from chappe_kernel.ids import TenantId, new_id
from chappe_kernel.rating import NO_COUNTS, Counts, Outcome, Price, charge
from chappe_kernel.wire import control as wire
from chappe_store.session import Database, TenantScope
from tests.control.world import Cell, HandClock
from tests.pages.browser import Visitor
from tests.portal.reading import Element, read_page

CHAT = "smollm2-135m-instruct"
BIG_CHAT = "mistral-small-24b"
EMBEDDINGS = "multilingual-e5-small"
TOO_MANY_TOKENS = 10_000_000
"""As the prompt of two or three requests, more than a new organisation's budget."""


@dataclass
class Customer:
    """An organisation with somebody signed in, and the secrets of its keys by name."""

    visitor: Visitor
    scope: TenantScope
    keys: dict[str, str] = field(default_factory=dict)

    @property
    def id(self) -> TenantId:
        return self.scope.tenant_id

    async def read(self, path: str, status: int = 200) -> Element:
        answer = await self.visitor.get(path)
        assert answer.status_code == status, (path, answer.status_code, answer.text[:500])
        assert answer.headers["content-type"].startswith("text/html")
        return read_page(answer.text)

    async def make_key(self, name: str, **fields: str) -> str:
        answer = await self.visitor.post("/keys", name=name, **{"kind": "inference", **fields})
        assert answer.status_code == 201, answer.text
        self.keys[name] = read_page(answer.text).by_id("secret").exact_text
        return self.keys[name]

    async def api(self, http: httpx.AsyncClient, path: str, **params: Any) -> Any:
        """With the key named `management`."""
        headers = {"authorization": f"Bearer {self.keys['management']}"}
        answer = await http.get(f"/api/v1{path}", headers=headers, params=params)
        assert answer.status_code == 200, answer.text
        return answer.json()


@dataclass(frozen=True)
class Offer:
    """What a region sells: the version in force, and its price."""

    version: UUID
    price: Price


@dataclass(frozen=True)
class PortalWorld:
    http: httpx.AsyncClient
    settings: ControlSettings
    database: Database
    engine: AsyncEngine
    clock: HandClock
    cells: dict[str, Cell]

    async def sign_up(self, organisation: str = "Exemple SA", **headers: str) -> Customer:
        visitor = Visitor(self.http, self.settings.portal_url, **headers)
        email = await visitor.sign_up(organisation)
        ((tenant_id,),) = await self.sql("SELECT tenant_id FROM member WHERE email = $1", email)
        return Customer(visitor, TenantScope(TenantId(UUID(str(tenant_id)))))

    async def sql(self, statement: str, *values: Any) -> list[Any]:
        """As the superuser."""
        async with self.engine.connect() as connection:
            result = await connection.exec_driver_sql(statement, values or None)
            return [tuple(row) for row in result.all()] if result.returns_rows else []

    async def offers(self, region: str) -> dict[str, Offer]:
        snapshot = await self.cells[region].snapshot()
        return {
            listing.name: Offer(offer.prices[0].id, offer.prices[0].price)
            for listing in snapshot.listings
            for offer in listing.regions
            if offer.region == region
        }

    async def use(self, customer: Customer, key: str, region: str, *counted: "Use") -> list[wire.UsageEvent]:
        """Requests that ran and were settled, posted in one batch."""
        cell = self.cells[region]
        facts = await cell.resolve(customer.keys[key])
        assert facts is not None
        asked = await cell.ask(customer.id, 1_000_000)
        # Who has no budget left uses without a grant: a gateway's spool may hold what was admitted long ago.
        grant = msgspec.json.decode(asked.content, type=wire.Grant).grant_id if asked.is_success else new_id()
        offers = await self.offers(region)
        events = [one.event(facts, grant, offers[one.model]) for one in counted]
        answer = await cell.call("POST", "/usage", wire.UsageBatch(f"{region}-gateway-0", tuple(events)))
        receipt = msgspec.json.decode(answer.content, type=wire.UsageReceipt)
        assert (receipt.posted, receipt.quarantined) == (len(events), 0), receipt
        return events


_COUNTS = Counts(42, 0, 8)
_TOOK = timedelta(seconds=1.5)


@dataclass(frozen=True)
class Use:
    """One request as its gateway saw it."""

    model: str = CHAT
    outcome: Outcome = Outcome.COMPLETED
    counts: Counts = _COUNTS
    ttft_ms: int | None = 120
    took: timedelta = _TOOK

    def event(self, facts: wire.KeyFacts, grant_id: UUID, offer: Offer) -> wire.UsageEvent:
        amount = charge(offer.price, self.outcome, self.counts)
        finished_at = datetime.now(UTC)
        return wire.UsageEvent(
            request_id=new_id(),
            tenant_id=facts.tenant_id,
            project_id=facts.project_id,
            key_id=facts.key_id,
            grant_id=grant_id,
            listing=self.model,
            price_version=offer.version,
            outcome=self.outcome,
            counts=self.counts,
            amount_nano=amount,
            hold_nano=max(amount, 100_000),
            started_at=finished_at - self.took,
            finished_at=finished_at,
            ttft_ms=self.ttft_ms,
        )


def random_uses(dice: random.Random, count: int, models: Sequence[str] = (CHAT, BIG_CHAT, EMBEDDINGS)) -> list[Use]:
    """Every model and ending, with and without tokens."""
    return [_random_use(dice, dice.choice(models)) for _ in range(count)]


def _random_use(dice: random.Random, model: str) -> Use:
    outcome = dice.choice(list(Outcome))
    prompt = dice.randint(1, 4000)
    output = 0 if model == EMBEDDINGS else dice.choice([0, dice.randint(1, 900)])
    counts = dice.choice([NO_COUNTS, *[Counts(prompt, dice.choice([0, prompt, prompt // 3]), output)] * 5])
    return Use(
        model=model,
        outcome=outcome,
        counts=counts,
        ttft_ms=dice.randint(5, 3000) if counts.completion_tokens else None,
        took=timedelta(milliseconds=dice.randint(0, 60_000)),
    )


def unlike() -> str:
    """A name that nobody else has."""
    return f"org {secrets.token_hex(4)}"
