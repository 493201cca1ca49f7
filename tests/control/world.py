"""Two tenants, two regions, one price list: what the control plane's tests have in common."""

import base64
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
import msgspec

from chappe_kernel.api_keys import Pepper
from chappe_kernel.ids import TenantId, new_id
from chappe_kernel.rating import Counts, Outcome, Price, charge
from chappe_kernel.wire import control as wire
from chappe_tenants.api_keys.service import digest_all
from chappe_tenants.peppers import parse_peppers

PEPPERS_TEXT = ",".join(f"{version}:{base64.b64encode(bytes([version]) * 32).decode()}" for version in (1, 2))
AUDIT_KEYS_TEXT = f"1:{base64.b64encode(b'a' * 32).decode()}"
PEPPERS: tuple[Pepper, ...] = parse_peppers(PEPPERS_TEXT)
WELCOME_NANO = 10_000_000_000
CREDENTIALS = {"fr-par": "credential-of-fr-par-0123456789", "de-fra": "credential-of-de-fra-0123456789"}
CHAT = "smollm2-135m-instruct"
PRICE = Price(input_nano_per_token=60, cached_input_nano_per_token=15, output_nano_per_token=210)
MANIFEST: dict[str, Any] = {
    "currency": "EUR",
    "regions": [
        {"name": "fr-par", "jurisdiction": "FR", "gateway_url": "http://127.0.0.1:8411"},
        {"name": "de-fra", "jurisdiction": "DE", "gateway_url": "http://127.0.0.1:8421"},
    ],
    "publishers": [{"name": "huggingface", "title": "Hugging Face"}],
    "listings": [
        {
            "name": CHAT,
            "publisher": "huggingface",
            "task": "chat",
            "context_tokens": 2048,
            "template_tokens": 64,
            "default_output_tokens": 512,
            "max_output_tokens": 1024,
            "regions": {"fr-par": msgspec.to_builtins(PRICE), "de-fra": msgspec.to_builtins(PRICE)},
        }
    ],
    "deployments": [
        {"region": region, "name": CHAT, "engine": "simulated", "replicas": 1, "max_ongoing_requests": 4, "options": {}}
        for region in ("fr-par", "de-fra")
    ],
}


class HandClock:
    """The machine's clocks, and what a test has added to them."""

    def __init__(self) -> None:
        self._ahead_s = 0.0

    def advance(self, seconds: float) -> None:
        self._ahead_s += seconds

    def now(self) -> datetime:
        return datetime.now(UTC) + timedelta(seconds=self._ahead_s)

    def monotonic(self) -> float:
        return time.monotonic() + self._ahead_s


@dataclass(frozen=True)
class Tenant:
    """A seeded tenant and the secrets of its keys by name."""

    id: TenantId
    keys: dict[str, str]

    def headers(self, key: str = "management") -> dict[str, str]:
        return {"authorization": f"Bearer {self.keys[key]}"}


@dataclass(frozen=True)
class Cell:
    """What a region does, over HTTP, with the credential of its own."""

    name: str
    http: httpx.AsyncClient
    clock: HandClock

    async def call(self, method: str, path: str, message: Any = None, **headers: str) -> httpx.Response:
        content = None if message is None else msgspec.json.encode(message)
        headers = {"authorization": f"Bearer {CREDENTIALS[self.name]}", **headers}
        return await self.http.request(method, f"/internal/v1{path}", headers=headers, content=content)

    async def snapshot(self) -> wire.Snapshot:
        """A fresh one: the control plane's copy has aged by then."""
        self.clock.advance(1)
        answer = await self.call("GET", "/snapshot")
        assert answer.status_code == 200, answer.text
        return msgspec.json.decode(answer.content, type=wire.Snapshot)

    async def key_changes(self, since: int = 0, epoch: str = "") -> wire.KeyChanges:
        """As of now: what the control plane read before has aged by then."""
        self.clock.advance(1)
        answer = await self.call("GET", f"/keys/changes?since={since}&epoch={epoch}")
        assert answer.status_code == 200, answer.text
        return msgspec.json.decode(answer.content, type=wire.KeyChanges)

    async def keys_revision(self) -> int:
        return (await self.key_changes()).revision

    async def resolve(self, key: str) -> wire.KeyFacts | None:
        answer = await self.call("POST", "/keys/resolve", wire.ResolveKey(digest_all(key, PEPPERS)))
        if answer.status_code == 404:
            assert answer.json()["code"] == "invalid_api_key"
            return None
        assert answer.status_code == 200, answer.text
        return msgspec.json.decode(answer.content, type=wire.KeyFacts)

    async def ask(
        self, tenant: TenantId, wanted_nano: int = 50_000_000, grant_id: UUID | None = None
    ) -> httpx.Response:
        ask = wire.AskGrant(grant_id or new_id(), tenant, "gw-1", wanted_nano, 1)
        return await self.call("POST", "/grants", ask)

    async def lease(self, tenant: TenantId) -> UUID:
        answer = await self.ask(tenant)
        assert answer.status_code == 200, answer.text
        return msgspec.json.decode(answer.content, type=wire.Grant).grant_id

    async def beat(self, *deployments: str, gateway: str = "gw-1") -> httpx.Response:
        return await self.call("POST", "/heartbeat", wire.Heartbeat(gateway, "", deployments))

    async def use(
        self, key: str, grant_id: UUID, count: int = 1, *, completion_tokens: int = 8
    ) -> list[wire.UsageEvent]:
        """Report `count` requests of 42 prompt tokens, and see them posted."""
        facts = await self.resolve(key)
        assert facts is not None
        events = [self.event(facts, grant_id, await self.price_version(), completion_tokens) for _ in range(count)]
        receipt = await self.ship(*events)
        assert (receipt.posted, receipt.quarantined) == (count, 0)
        return events

    async def ship(self, *events: wire.UsageEvent) -> wire.UsageReceipt:
        answer = await self.call("POST", "/usage", wire.UsageBatch("gw-1", events))
        assert answer.status_code == 200, answer.text
        return msgspec.json.decode(answer.content, type=wire.UsageReceipt)

    async def price_version(self) -> UUID:
        (listing,) = (listing for listing in (await self.snapshot()).listings if listing.name == CHAT)
        (offer,) = (offer for offer in listing.regions if offer.region == self.name)
        return offer.prices[0].id

    def event(
        self, facts: wire.KeyFacts, grant_id: UUID, price_version: UUID, completion_tokens: int = 8
    ) -> wire.UsageEvent:
        counts = Counts(prompt_tokens=42, cached_tokens=0, completion_tokens=completion_tokens)
        now = datetime.now(UTC)
        return wire.UsageEvent(
            request_id=new_id(),
            tenant_id=facts.tenant_id,
            project_id=facts.project_id,
            key_id=facts.key_id,
            grant_id=grant_id,
            listing=CHAT,
            price_version=price_version,
            outcome=Outcome.COMPLETED,
            counts=counts,
            amount_nano=charge(PRICE, Outcome.COMPLETED, counts),
            hold_nano=100_000,
            started_at=now,
            finished_at=now,
        )


@dataclass(frozen=True)
class World:
    """The running control plane, and everybody who calls it."""

    http: httpx.AsyncClient
    alice: Tenant
    bob: Tenant
    paris: Cell
    frankfurt: Cell
    clock: HandClock

    async def api(
        self, method: str, path: str, tenant: Tenant | None = None, key: str = "management", **rest: Any
    ) -> httpx.Response:
        headers = (tenant or self.alice).headers(key) | rest.pop("headers", {})
        return await self.http.request(method, f"/api/v1{path}", headers=headers, **rest)

    async def available_nano(self, tenant: Tenant) -> int:
        answer = await self.api("GET", "/balance", tenant)
        assert answer.status_code == 200, answer.text
        return int(answer.json()["available"].replace(".", ""))

    async def make_key(self, tenant: Tenant, **fields: Any) -> dict[str, Any]:
        answer = await self.api("POST", "/keys", tenant, json={"name": "made", **fields})
        assert answer.status_code == 201, answer.text
        made: dict[str, Any] = answer.json()
        return made
