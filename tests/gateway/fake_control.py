"""A control plane in memory behind the real wire (`chappe_kernel.wire.control`), with real arithmetic for grants."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs
from uuid import UUID

import msgspec

from chappe_kernel.api_keys import KeyKind, Pepper, digest_key, generate_browser_token, generate_key
from chappe_kernel.ids import new_id
from chappe_kernel.rating import Price, charge
from chappe_kernel.wire.control import (
    DATABASE_TIME,
    AskContentTerms,
    AskGrant,
    ContentTerms,
    DeploymentSpec,
    Grant,
    Heartbeat,
    KeyChange,
    KeyChanges,
    KeyFacts,
    Listing,
    ListingInRegion,
    MonthlyBudget,
    PriceVersion,
    RateLimit,
    Recalls,
    Region,
    ResolveKey,
    ReturnGrant,
    Snapshot,
    Task,
    UsageBatch,
    UsageEvent,
    UsageReceipt,
)

CREDENTIAL = "region-secret"
PORTAL = "http://localhost:8400"
CHAT = "smollm2-135m-instruct"
EMBEDDINGS = "multilingual-e5-small"
ELSEWHERE_ONLY = "only-in-frankfurt"
PRICE = Price(60, 15, 210, 0)
STARTED = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass
class GivenGrant:
    ask: AskGrant
    amount_nano: int
    returned_nano: int = 0
    posted_nano: int = 0

    @property
    def pending_nano(self) -> int:
        return self.amount_nano - self.returned_nano - self.posted_nano


@dataclass
class FakeControl:
    """Tests read and change its attributes. Call `changed()` after a change that the snapshot shows."""

    gateway_urls: dict[str, str]
    funds: dict[UUID, int] = field(default_factory=dict)
    keys: dict[str, KeyFacts] = field(default_factory=dict)
    grants: dict[UUID, GivenGrant] = field(default_factory=dict)
    events: dict[UUID, UsageEvent] = field(default_factory=dict)
    other_stories: list[UsageEvent] = field(default_factory=list)
    """Events that contradict the first one of their request: what opens a discrepancy."""
    deliveries: list[UUID] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)
    heartbeats: list[Heartbeat] = field(default_factory=list)
    capacities: dict[str, int] = field(default_factory=dict)
    """How many requests Serve takes of a deployment; others' are unknown."""
    healthy: dict[str, bool] = field(default_factory=lambda: {"fr-par": True, "de-fra": True})
    elsewhere_regions: tuple[str, ...] = ("de-fra",)
    peppers: tuple[Pepper, ...] = (Pepper(1, b"p" * 32),)
    epoch: str = "epoch-1"
    portal_origin: str = PORTAL
    revision: int = 1
    """Raise it, and nobody can tell what changed; `announce` can."""
    announced: dict[int, KeyChange] = field(default_factory=dict)
    version: int = 1
    database_ahead_by: timedelta = timedelta(0)
    """Of this machine's clock, which is the gateways'."""
    next_prices: dict[str, PriceVersion] = field(default_factory=dict)
    """By listing: a version that follows the first one."""
    max_age_s: float = 300.0
    admit_s: float = 30.0
    settle_s: float = 180.0
    release_s: float = 200.0
    away: bool = False
    mute_key_changes: bool = False
    """Only the question whose keys changed finds no answer."""
    resolve_fails: bool = False
    resolve_delay_s: float = 0.005
    grant_delay_s: float = 0.0
    lose_grant_answers: int = 0
    """So many grants are given without the gateway's hearing of it."""
    monthly: dict[UUID, int] = field(default_factory=dict)
    """Monthly budgets, out of which nothing comes back but what is returned."""
    batch_prices: dict[str, Price] = field(default_factory=dict)
    """Of batches' lines, by listing."""
    prices: dict[str, Price] = field(default_factory=lambda: {CHAT: PRICE, EMBEDDINGS: Price(10, 10, 0, 0)})
    price_versions: dict[str, UUID] = field(default_factory=dict)
    _posted: dict[UUID, int] = field(default_factory=dict)

    def changed(self) -> None:
        self.version += 1

    def announce(self, tenant: UUID, key: str | None = None) -> None:
        """Something changed for this key, or for all of the tenant's."""
        self.revision += 1
        self.announced[self.revision] = KeyChange(tenant, self.keys[key].key_id if key else None)

    def new_tenant(self, funds_nano: int = 10_000_000_000) -> UUID:
        tenant = new_id()
        self.funds[tenant] = funds_nano
        return tenant

    def new_key(
        self,
        tenant: UUID,
        *,
        regions: tuple[str, ...] = ("fr-par", "de-fra"),
        kind: KeyKind = KeyKind.INFERENCE,
        models: tuple[str, ...] | None = None,
        requests_per_minute: int = 600_000,
        active: bool = True,
    ) -> str:
        key = generate_key(kind)
        key_id = new_id()
        self.keys[key] = KeyFacts(
            key_id=key_id,
            project_id=new_id(),
            tenant_id=tenant,
            kind=kind,
            active=active,
            currency="EUR",
            regions=regions,
            models=models,
            limits=(RateLimit(f"tenant:{tenant}", requests_per_minute), RateLimit(f"key:{key_id}", 10**6)),
        )
        return key

    def new_browser_token(self, key: str, valid_for_s: float = 600.0) -> str:
        """A token that stands for `key`. It ends by itself on the wire only: tests delete it when its time is over."""
        token = generate_browser_token()
        self.keys[token] = msgspec.structs.replace(self.keys[key], valid_for_s=valid_for_s)
        return token

    def change_key(self, key: str, **changes: Any) -> None:
        """What it may do is another thing from now on, and gateways hear of it."""
        self.keys[key] = msgspec.structs.replace(self.keys[key], **changes)
        self.announce(self.keys[key].tenant_id)

    def pending_nano(self, tenant: UUID) -> int:
        return sum(grant.pending_nano for grant in self.grants.values() if grant.ask.tenant_id == tenant)

    def posted_nano(self, tenant: UUID) -> int:
        return self._posted.get(tenant, 0)

    def free_nano(self, tenant: UUID) -> int:
        return self.funds[tenant] - self.posted_nano(tenant) - self.pending_nano(tenant)

    def lent_nano(self, budget: UUID) -> int:
        """What was leased within this monthly budget and not returned."""
        within = (grant for grant in self.grants.values() if budget in grant.ask.budgets)
        return sum(grant.amount_nano - grant.returned_nano for grant in within)

    def set_quotas(self, key: str, *limits: RateLimit, budgets: tuple[MonthlyBudget, ...] = ()) -> None:
        """The key has these, and no others."""
        self.keys[key] = msgspec.structs.replace(self.keys[key], limits=limits, budgets=budgets)

    def price_version(self, listing: str) -> UUID:
        return self.price_versions.setdefault(listing, new_id())

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body = await _read(receive)
        headers = dict(scope["headers"])
        path = scope["path"].removeprefix("/internal/v1")
        self.calls.append(f"{scope['method']} {path}")
        status, answer = 503, b'{"code":"away"}'
        if headers.get(b"authorization") != b"Bearer " + CREDENTIAL.encode():
            status, answer = 401, b'{"code":"invalid_credential"}'
        elif path == "/keys/changes" and not self.away and not self.mute_key_changes:
            status, answer = self._changes(scope["query_string"].decode())
        elif not self.away:
            status, answer = await self._route(path, headers, body)
        await send(
            {
                "type": "http.response.start",
                "status": status,
                "headers": [
                    (b"content-type", b"application/json"),
                    (b"content-length", b"%d" % len(answer)),
                    (b"etag", b'"%d"' % self.version),
                    (DATABASE_TIME.encode(), (datetime.now(UTC) + self.database_ahead_by).isoformat().encode()),
                ],
            }
        )
        await send({"type": "http.response.body", "body": answer})

    async def _route(self, path: str, headers: dict[bytes, bytes], body: bytes) -> tuple[int, bytes]:
        if path == "/snapshot":
            if headers.get(b"if-none-match") == b'"%d"' % self.version:
                return 304, b""
            return 200, msgspec.json.encode(self.snapshot())
        routes: dict[str, Callable[[bytes], Awaitable[tuple[int, bytes]]]] = {
            "/deployments": self._deployments,
            "/heartbeat": self._heartbeat,
            "/keys/resolve": self._resolve,
            "/content/terms": self._content_terms,
            "/grants": self._grant,
            "/grants/recalls": self._recalls,
            "/usage": self._usage,
        }
        if path in routes:
            return await routes[path](body)
        return await self._return(UUID(path.split("/")[2]), body)

    async def _deployments(self, _: bytes) -> tuple[int, bytes]:
        return 200, msgspec.json.encode(
            [DeploymentSpec(name, "simulated", 1, capacity, {}) for name, capacity in self.capacities.items()]
        )

    def snapshot(self) -> Snapshot:
        listings = (
            self._listing(CHAT, "chat", ("fr-par", "de-fra")),
            self._listing(EMBEDDINGS, "embeddings", ("fr-par",)),
            self._listing(ELSEWHERE_ONLY, "chat", self.elsewhere_regions),
        )
        regions = tuple(
            Region(name, name[:2].upper(), url, self.healthy[name]) for name, url in self.gateway_urls.items()
        )
        return Snapshot(
            version=str(self.version),
            epoch=self.epoch,
            max_age_s=self.max_age_s,
            regions=regions,
            listings=listings,
            peppers=self.peppers,
            portal_origin=self.portal_origin,
        )

    def _listing(self, name: str, task: Task, regions: tuple[str, ...]) -> Listing:
        price = self.prices.get(name, PRICE)
        versions: tuple[PriceVersion, ...] = (PriceVersion(self.price_version(name), STARTED, price),)
        if name in self.next_prices:
            versions = (*versions, self.next_prices[name])
        return Listing(
            name=name,
            publisher="huggingface",
            task=task,
            currency="EUR",
            created=1_790_000_000,
            context_tokens=2048,
            template_tokens=64,
            default_output_tokens=512,
            max_output_tokens=1024,
            regions=tuple(ListingInRegion(region, versions, self._batch_versions(name)) for region in regions),
        )

    def _batch_versions(self, name: str) -> tuple[PriceVersion, ...]:
        price = self.batch_prices.get(name)
        return () if price is None else (PriceVersion(self.price_version(name + " in batches"), STARTED, price),)

    def _price(self, event: UsageEvent) -> Price:
        """Of its version: a tenant's own, or the listing's."""
        for facts in self.keys.values():
            for version in facts.prices.get(event.listing, ()):
                if version.id == event.price_version and facts.tenant_id == event.tenant_id:
                    return version.price
        if event.listing in self.batch_prices and event.price_version == self.price_version(
            event.listing + " in batches"
        ):
            return self.batch_prices[event.listing]
        return self.prices.get(event.listing, PRICE)

    async def _heartbeat(self, body: bytes) -> tuple[int, bytes]:
        self.heartbeats.append(msgspec.json.decode(body, type=Heartbeat))
        return 204, b""

    def _changes(self, query: str) -> tuple[int, bytes]:
        asked = parse_qs(query)
        since, epoch = int(asked["since"][0]), asked.get("epoch", [""])[0]
        found = [self.announced.get(revision) for revision in range(since + 1, self.revision + 1)]
        known = [change for change in found if change is not None]
        told = epoch == self.epoch and since <= self.revision and len(known) == len(found)
        return 200, msgspec.json.encode(KeyChanges(self.epoch, self.revision, tuple(known) if told else None))

    async def _resolve(self, body: bytes) -> tuple[int, bytes]:
        if self.resolve_fails:
            return 503, b'{"code":"database_unavailable"}'
        question = msgspec.json.decode(body, type=ResolveKey)
        asked = {(digest.pepper_version, digest.digest) for digest in question.digests}
        found: tuple[int, bytes] = (404, b'{"code":"invalid_api_key"}')
        for key, facts in self.keys.items():
            if any((pepper.version, digest_key(key, pepper)) in asked for pepper in self.peppers):
                found = 200, msgspec.json.encode(facts)
        await asyncio.sleep(self.resolve_delay_s)
        return found

    async def _grant(self, body: bytes) -> tuple[int, bytes]:
        ask = msgspec.json.decode(body, type=AskGrant)
        await asyncio.sleep(self.grant_delay_s)
        given = self.grants.get(ask.grant_id)
        if given is None:
            rooms = [self.monthly[budget] - self.lent_nano(budget) for budget in ask.budgets]
            if any(self.monthly[budget] < ask.minimum_nano for budget in ask.budgets):
                detail = "the monthly budget of the project P is used up"
                problem = {"code": "monthly_budget_reached", "detail": detail, "param": "project"}
                return 402, msgspec.json.encode(problem)
            amount = min([ask.wanted_nano, self.free_nano(ask.tenant_id), *rooms])
            if amount < ask.minimum_nano:
                if self.funds[ask.tenant_id] - self.posted_nano(ask.tenant_id) >= ask.minimum_nano:
                    return 503, b'{"code":"budget_unavailable"}'
                return 402, b'{"code":"insufficient_funds"}'
            given = self.grants[ask.grant_id] = GivenGrant(ask, amount)
        if self.lose_grant_answers > 0:
            self.lose_grant_answers -= 1
            return 500, b""
        grant = Grant(ask.grant_id, given.amount_nano, self.admit_s, self.settle_s, self.release_s)
        return 200, msgspec.json.encode(grant)

    async def _content_terms(self, body: bytes) -> tuple[int, bytes]:
        """What the projects' keys say: of fr-par, whoever asks."""
        holders = msgspec.json.decode(body, type=AskContentTerms).holders
        terms = []
        for holder in holders:
            keys = [facts for facts in self.keys.values() if facts.project_id == holder.project_id]
            kept = [facts.content_kept_for_s for facts in keys if "fr-par" in facts.regions]
            terms.append(ContentTerms(holder, max(kept, default=0.0)))
        return 200, msgspec.json.encode(terms)

    async def _recalls(self, _: bytes) -> tuple[int, bytes]:
        """None, soon: tests of recalls use the real one."""
        await asyncio.sleep(0.1)
        return 200, msgspec.json.encode(Recalls("", ()))

    async def _return(self, grant_id: UUID, body: bytes) -> tuple[int, bytes]:
        given = self.grants.get(grant_id)
        if given is None:
            return 404, b"{}"
        returned = msgspec.json.decode(body, type=ReturnGrant).returned_nano
        assert returned + given.posted_nano <= given.amount_nano, "more came back than was there"
        given.returned_nano = max(given.returned_nano, returned)
        return 204, b""

    async def _usage(self, body: bytes) -> tuple[int, bytes]:
        batch = msgspec.json.decode(body, type=UsageBatch)
        repeated = 0
        for event in batch.events:
            self.deliveries.append(event.request_id)
            if event.request_id in self.events:
                known = self.events[event.request_id]
                assert (known.tenant_id, known.grant_id) == (event.tenant_id, event.grant_id)
                if event != known and event not in self.other_stories:
                    self.other_stories.append(event)
                repeated += 1
                continue
            assert charge(self._price(event), event.outcome, event.counts) == event.amount_nano
            assert event.amount_nano <= event.hold_nano
            self.events[event.request_id] = event
            self._posted[event.tenant_id] = self.posted_nano(event.tenant_id) + event.amount_nano
            if event.grant_id in self.grants:
                self.grants[event.grant_id].posted_nano += event.amount_nano
        receipt = UsageReceipt(self.epoch, len(batch.events) - repeated, repeated, 0)
        return 200, msgspec.json.encode(receipt)


async def _read(receive: Any) -> bytes:
    body = b""
    while True:
        message: dict[str, Any] = await receive()
        body += bytes(message.get("body", b""))
        if not message.get("more_body"):
            return body
