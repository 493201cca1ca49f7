"""Gateways as the machine drives them: the gateway's own holds (`TenantBook`), a wall clock that may be wrong, and a
spool that survives them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

from chappe_gateway.access.snapshot import View
from chappe_gateway.money.grants import Hold, LeasedGrant, TenantBook
from chappe_kernel.rating import Counts, Outcome, charge, upper_bound
from chappe_kernel.wire import control as wire

Purpose = tuple[UUID, tuple[UUID, ...]]
"""A tenant, and the monthly budgets within which its grants are leased."""


@dataclass(frozen=True)
class Caller:
    """A key, whose it is, and the monthly budgets that it must keep to."""

    tenant_id: UUID
    project_id: UUID
    key_id: UUID
    budgets: tuple[UUID, ...]


@dataclass
class Running:
    """A request that was admitted."""

    request_id: UUID
    caller: Caller
    hold: Hold
    price: wire.PriceVersion
    max_prompt_tokens: int
    max_completion_tokens: int
    started_at: datetime
    began: float


@dataclass
class Spooled:
    event: wire.UsageEvent
    epoch: str | None = None
    """Of the database that acknowledged it."""


@dataclass
class Gateway:
    name: str
    region: str
    view: View
    wall_error: timedelta = timedelta(0)
    polled_at: float = 0.0
    epoch: str = ""
    books: dict[Purpose, TenantBook] = field(default_factory=dict)
    unanswered: dict[Purpose, tuple[wire.AskGrant, float]] = field(default_factory=dict)
    running: list[Running] = field(default_factory=list)
    spool: list[Spooled] = field(default_factory=list)

    def unshipped(self) -> list[Spooled]:
        return [spooled for spooled in self.spool if spooled.epoch is None]

    def book(self, purpose: Purpose) -> TenantBook:
        return self.books.setdefault(purpose, TenantBook())

    def take(self, purpose: Purpose, grant: wire.Grant, asked_at: float) -> LeasedGrant:
        """As the gateway does it: its deadlines count from when it asked."""
        leased = LeasedGrant(
            grant_id=grant.grant_id,
            amount_nano=grant.amount_nano,
            asked_at=asked_at,
            admit_until=asked_at + grant.admit_for_s,
            settle_by=asked_at + grant.settle_for_s,
            release_at=asked_at + grant.release_for_s,
        )
        book = self.book(purpose)
        book.retire_oldest()
        book.add(leased)
        return leased

    def admit(
        self, request_id: UUID, caller: Caller, bounds: tuple[int, int], now: datetime, monotonic: float
    ) -> Running | None:
        wall = now + self.wall_error
        # By the database's time, which the control plane told: the wall clock only dates records.
        version = self.view.price_in_force("tiny-chat", now)
        if version is None:
            return None
        amount = upper_bound(version.price, *bounds)
        hold = self.book((caller.tenant_id, caller.budgets)).hold(monotonic, amount)
        if hold is None:
            return None
        running = Running(request_id, caller, hold, version, *bounds, wall, monotonic)
        self.running.append(running)
        return running

    def settle(self, running: Running, ending: "Ending", monotonic: float) -> None:
        """Ends the hold and commits the event."""
        self.running.remove(running)
        event = event_of(running, ending, monotonic)
        running.hold.book.settle(running.hold, event.amount_nano)
        self.spool.append(Spooled(event))

    def die(self, heir: "Gateway", endings: Sequence["Ending"], monotonic: float) -> None:
        """Killed. What is on disk stays; its requests are settled by the engine's records, by whoever takes over."""
        for running, ending in zip(self.running, endings, strict=True):
            heir.spool.append(Spooled(event_of(running, ending, monotonic, settled_by="engine")))
        self.running = []
        self.books = {}
        self.unanswered = {}

    def saw_epoch(self, epoch: str) -> None:
        """A restored database: everything again, and no more holds in grants that it may not know."""
        if epoch != self.epoch:
            for spooled in self.spool:
                if spooled.epoch != epoch:
                    spooled.epoch = None
            for book in self.books.values():
                book.retire_all()
            self.epoch = epoch


@dataclass(frozen=True)
class Ending:
    """How a request ended, and what both witnesses counted. What is generated and not charged is waived."""

    outcome: Outcome
    prompt_tokens: int
    cached_tokens: int
    generated: int
    delivered: int

    @property
    def charged(self) -> Counts:
        made = min(self.generated, self.delivered) if self.outcome is Outcome.FAILED else self.generated
        return Counts(self.prompt_tokens, self.cached_tokens, made)


def event_of(
    running: Running, ending: Ending, monotonic: float, settled_by: wire.Witness = "gateway"
) -> wire.UsageEvent:
    engine = Counts(ending.prompt_tokens, ending.cached_tokens, ending.generated)
    seen = Counts(ending.prompt_tokens, ending.cached_tokens, ending.delivered)
    return wire.UsageEvent(
        request_id=running.request_id,
        tenant_id=running.caller.tenant_id,
        project_id=running.caller.project_id,
        key_id=running.caller.key_id,
        grant_id=running.hold.grant.grant_id,
        listing="tiny-chat",
        price_version=running.price.id,
        outcome=ending.outcome,
        counts=ending.charged,
        amount_nano=charge(running.price.price, ending.outcome, ending.charged),
        hold_nano=running.hold.amount_nano,
        started_at=running.started_at,
        finished_at=running.started_at + timedelta(seconds=monotonic - running.began),
        attempt=1,
        delivered=None if settled_by == "engine" else seen,
        generated=engine,
        settled_by=settled_by,
    )
