"""A control plane with an operator of each role, three regions, two models, and traffic on demand."""

import random
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import httpx
import msgspec
from sqlalchemy.ext.asyncio import AsyncEngine

from chappe_control.seeding.schemas import Seed, SeedKey, SeedTenant
from chappe_control.seeding.service import plant_seed
from chappe_kernel.api_keys import KeyKind, generate_key
from chappe_kernel.ids import TENANT, encode_id, new_id
from chappe_kernel.rating import Counts, Outcome, Price, charge
from chappe_kernel.wire import control as wire
from chappe_store.session import Database
from chappe_tenants.operators.service import OperatorRole
from tests.conftest import DatabaseUrls
from tests.control.world import CREDENTIALS as _TWO_CREDENTIALS
from tests.control.world import MANIFEST as _ONE_MODEL
from tests.control.world import PEPPERS, Cell, HandClock
from tests.control.world import Tenant as Customer
from tests.pages.browser import Visitor
from tests.portal.reading import Element, read_page

CREDENTIALS = {**_TWO_CREDENTIALS, "it-mil": "credential-of-it-mil-0123456789"}
CHAT = "smollm2-135m-instruct"
EMBEDDINGS = "multilingual-e5-small"
_EMBEDDINGS_PRICE = Price(10, 10, 0, 100)
MANIFEST: dict[str, Any] = {
    **_ONE_MODEL,
    "regions": [
        *_ONE_MODEL["regions"],
        {"name": "it-mil", "jurisdiction": "IT", "gateway_url": "http://127.0.0.1:8431"},
    ],
    "listings": [
        *_ONE_MODEL["listings"],
        {
            **_ONE_MODEL["listings"][0],
            "name": EMBEDDINGS,
            "task": "embeddings",
            "default_output_tokens": 0,
            "max_output_tokens": 0,
            "regions": {"fr-par": msgspec.to_builtins(_EMBEDDINGS_PRICE)},
        },
    ],
    "deployments": [
        *_ONE_MODEL["deployments"],
        {
            "region": "fr-par",
            "name": EMBEDDINGS,
            "engine": "e5",
            "replicas": 2,
            "max_ongoing_requests": 8,
            "options": {},
        },
    ],
}


def address_of(role: OperatorRole) -> str:
    return f"{role}@operator.example"


@dataclass(frozen=True)
class ConsoleWorld:
    """Where it listens, what it runs on, and what a test may change behind its back (`sql`)."""

    http: httpx.AsyncClient
    urls: DatabaseUrls
    database: Database
    engine: AsyncEngine
    clock: HandClock
    _signed_in: dict[OperatorRole, Visitor] = field(default_factory=dict)

    def cell(self, region: str) -> "BusyCell":
        return BusyCell(region, self.http, self.clock)

    def nobody(self, language: str = "en") -> Visitor:
        return Visitor(self.http, language=language)

    async def operator(self, role: OperatorRole = OperatorRole.ADMINISTRATOR, language: str = "en") -> Visitor:
        """Signed in once for each role; another language is another visitor."""
        if language != "en":
            visitor = self.nobody(language)
            await visitor.console_sign_in(address_of(role))
            return visitor
        if role not in self._signed_in:
            self._signed_in[role] = self.nobody()
            await self._signed_in[role].console_sign_in(address_of(role))
        return self._signed_in[role]

    async def read(self, path: str, role: OperatorRole = OperatorRole.ADMINISTRATOR) -> Element:
        """The page, or the fragment, at `path`."""
        # Whatever the server remembers of the past, it reads again.
        self.clock.advance(400)
        answer = await (await self.operator(role)).get(path)
        assert answer.status_code == 200, (path, answer.status_code, answer.text[:500])
        return read_page(answer.text)

    async def tenant(self, name: str, *, funds_nano: int = 10_000_000_000, **changed: Any) -> Customer:
        key = generate_key(KeyKind.INFERENCE)
        values: dict[str, Any] = {"allowed_regions": ("fr-par", "DE"), "requests_per_minute": 600, **changed}
        seed = Seed(
            tenant=SeedTenant(name=name, **values),
            project="default",
            keys=(SeedKey("production", KeyKind.INFERENCE, key),),
        )
        async with self.database.operator() as session:
            tenant_id = await plant_seed(session, seed, peppers=PEPPERS, welcome_credit_nano=funds_nano)
        return Customer(tenant_id, {"inference": key})

    async def sql(self, statement: str, *values: Any) -> list[Any]:
        """As the superuser."""
        async with self.engine.connect() as connection:
            result = await connection.exec_driver_sql(statement, values or None)
            return [tuple(row) for row in result.all()] if result.returns_rows else []


def show(tenant: Customer) -> str:
    return encode_id(TENANT, tenant.id)


@dataclass
class Used:
    """What a test posted, to compare pages with."""

    requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    rated_nano: int = 0


@dataclass(frozen=True)
class BusyCell(Cell):
    """A region that reports itself, and posts usage of every kind."""

    async def prices(self) -> dict[str, wire.PriceVersion]:
        return {
            listing.name: offer.prices[0]
            for listing in (await self.snapshot()).listings
            for offer in listing.regions
            if offer.region == self.name
        }

    async def report(self, *, gateway: str = "gw-1", loads: dict[str, int] | None = None) -> None:
        """One gateway with the newest snapshot and everything answering, and a reconciler that is content."""
        specs = msgspec.json.decode((await self.call("GET", "/deployments")).content, type=list[wire.DeploymentSpec])
        statuses = [wire.DeploymentStatus(spec.name, "running", "", spec.replicas) for spec in specs]
        await self._ok("POST", "/deployments/status", statuses)
        await self.beat_with(tuple(spec.name for spec in specs), gateway=gateway, loads=loads)

    async def beat_with(
        self,
        healthy: tuple[str, ...],
        *,
        gateway: str = "gw-1",
        loads: dict[str, int] | None = None,
        version: str | None = None,
    ) -> None:
        found = tuple(wire.DeploymentLoad(name, count) for name, count in (loads or {}).items())
        newest = (await self.snapshot()).version if version is None else version
        await self._ok("POST", "/heartbeat", wire.Heartbeat(gateway, newest, healthy, found))

    async def spend(self, customer: Customer, rng: random.Random, count: int) -> dict[str, Used]:
        """`count` requests of random models, sizes and endings, in one batch; what they come to, by model."""
        facts = await self.resolve(customer.keys["inference"])
        assert facts is not None
        grant = await self.ask(customer.id, 1_000_000)
        grant_id = grant.json()["grant_id"] if grant.status_code == 200 else str(new_id())
        prices = await self.prices()
        used: dict[str, Used] = defaultdict(Used)
        events = []
        for _ in range(count):
            model = rng.choice(sorted(prices))
            event = self.random_event(facts, UUID(grant_id), model, prices[model], rng)
            events.append(event)
            used[model].requests += 1
            used[model].prompt_tokens += event.counts.prompt_tokens
            used[model].completion_tokens += event.counts.completion_tokens
            used[model].rated_nano += event.amount_nano
        answer = await self._ok("POST", "/usage", wire.UsageBatch("gw-1", tuple(events)))
        receipt = msgspec.json.decode(answer.content, type=wire.UsageReceipt)
        assert (receipt.posted, receipt.quarantined) == (count, 0)
        return used

    def random_event(
        self, facts: wire.KeyFacts, grant_id: UUID, model: str, version: wire.PriceVersion, rng: random.Random
    ) -> wire.UsageEvent:
        prompt = rng.randint(1, 2000)
        completion = 0 if model == EMBEDDINGS else rng.randint(0, 500)
        counts = Counts(prompt, rng.choice([0, prompt // 2]), completion)
        outcome = rng.choice([Outcome.COMPLETED, Outcome.COMPLETED, Outcome.DISCONNECTED, Outcome.FAILED])
        amount = charge(version.price, outcome, counts)
        return wire.UsageEvent(
            request_id=new_id(),
            tenant_id=facts.tenant_id,
            project_id=facts.project_id,
            key_id=facts.key_id,
            grant_id=grant_id,
            listing=model,
            price_version=version.id,
            outcome=outcome,
            counts=counts,
            amount_nano=amount,
            hold_nano=max(amount, 1_000_000),
            started_at=self.clock.now(),
            finished_at=self.clock.now(),
        )

    async def _ok(self, method: str, path: str, message: Any) -> httpx.Response:
        answer = await self.call(method, path, message)
        assert answer.status_code < 300, answer.text
        return answer
