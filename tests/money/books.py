"""What the control plane's books must say: a model in memory, by DESIGN's rules, without a database.

Times are the database's. A grant that is past its release counts no more, whether anybody has come by to free it or
not.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from chappe_billing.ledger.postings import TransactionKind
from chappe_kernel.wire.control import AskGrant, UsageEvent


@dataclass
class Purse:
    """One tenant's money."""

    funds_nano: int
    limit_nano: int
    posted_nano: int = 0
    written_off_nano: int = 0

    @property
    def spendable_nano(self) -> int:
        return self.funds_nano + self.limit_nano - self.posted_nano


@dataclass
class Lease:
    """A grant as the control plane knows it."""

    ask: AskGrant
    amount_nano: int
    release_at: datetime
    returned_nano: int = 0
    posted_nano: int = 0

    @property
    def rest_nano(self) -> int:
        return self.amount_nano - self.returned_nano - self.posted_nano


@dataclass(frozen=True)
class Cap:
    """A monthly budget: a tenant's, or one of its keys'."""

    tenant_id: UUID
    key_id: UUID | None
    amount_nano: int


@dataclass(frozen=True)
class Instruction:
    """A movement of funds that somebody outside wants, and may want again: under one reference it is done once."""

    tenant_id: UUID
    kind: TransactionKind
    amount_nano: int
    reference: str
    payment: str | None = None
    """The reference of the top-up that it takes back."""

    @property
    def funds_nano(self) -> int:
        """What it does to the tenant's funds."""
        is_paid_in = self.kind in {TransactionKind.TOP_UP, TransactionKind.GOODWILL_CREDIT}
        return self.amount_nano if is_paid_in else -self.amount_nano


@dataclass(frozen=True)
class Bounds:
    """What an ask may be answered: an amount within these, or the code of a refusal."""

    least_nano: int = 0
    most_nano: int = 0
    refusal: str | None = None


@dataclass
class Books:
    now: datetime
    purses: dict[UUID, Purse] = field(default_factory=dict)
    leases: dict[UUID, Lease] = field(default_factory=dict)
    caps: dict[UUID, Cap] = field(default_factory=dict)
    posted: dict[UUID, UsageEvent] = field(default_factory=dict)
    paid: dict[UUID, int] = field(default_factory=dict)
    """By request."""
    posted_in: dict[UUID, tuple[int, int]] = field(default_factory=dict)
    """By request: the year and month."""
    other_stories: set[tuple[UUID, UsageEvent]] = field(default_factory=set)
    given_back: Counter[UUID] = field(default_factory=Counter)
    """By request."""
    moved: dict[str, tuple[Instruction, UUID]] = field(default_factory=dict)
    """Movements of funds that were done, and by which transaction, by reference."""

    def open_leases(self, tenant_id: UUID) -> list[Lease]:
        return [
            lease for lease in self.leases.values() if lease.ask.tenant_id == tenant_id and lease.release_at > self.now
        ]

    def pending_nano(self, tenant_id: UUID) -> int:
        return sum(lease.rest_nano for lease in self.open_leases(tenant_id))

    def free_nano(self, tenant_id: UUID) -> int:
        return max(0, self.purses[tenant_id].spendable_nano - self.pending_nano(tenant_id))

    def spent_nano(self, cap: Cap) -> int:
        """What counts within a monthly budget: what was posted this month."""
        return sum(
            self.paid[request_id]
            for request_id, event in self.posted.items()
            if event.tenant_id == cap.tenant_id
            and cap.key_id in (None, event.key_id)
            and self.posted_in[request_id] == (self.now.year, self.now.month)
        )

    def answer(self, ask: AskGrant) -> Bounds:
        """To a first asking. What is refused for good could not be had if all that is lent came back."""
        caps = [(key, self.caps[key]) for key in ask.budgets]
        left = {key: cap.amount_nano - self.spent_nano(cap) for key, cap in caps}
        if self.purses[ask.tenant_id].spendable_nano < ask.minimum_nano:
            return Bounds(refusal="insufficient_funds")
        if any(left[key] < ask.minimum_nano for key in ask.budgets):
            return Bounds(refusal="monthly_budget_reached")
        lent = {
            key: sum(lease.rest_nano for lease in self.open_leases(ask.tenant_id) if key in lease.ask.budgets)
            for key in ask.budgets
        }
        free = min([self.free_nano(ask.tenant_id), *(left[key] - lent[key] for key in ask.budgets)])
        if free < ask.minimum_nano:
            return Bounds(refusal="budget_unavailable")
        return Bounds(ask.minimum_nano, min(ask.wanted_nano, free))

    def may_move(self, asked: Instruction) -> bool:
        """A bank takes back what it paid and no more. A refund is paid out of what was paid in and is still free."""
        purse = self.purses[asked.tenant_id]
        done = [one for one, _ in self.moved.values() if one.tenant_id == asked.tenant_id]
        bounds = []
        if asked.payment is not None:
            taken_back = sum(one.funds_nano for one in done if one.payment == asked.payment)
            bounds.append(self.moved[asked.payment][0].amount_nano + taken_back)
        if asked.kind is TransactionKind.REFUND:
            bounds.append(purse.funds_nano - purse.posted_nano - self.pending_nano(asked.tenant_id))
            bounds.append(sum(one.funds_nano for one in done if one.kind is not TransactionKind.GOODWILL_CREDIT))
        return all(asked.amount_nano <= bound for bound in bounds)

    def move(self, asked: Instruction, transaction_id: UUID) -> None:
        self.moved[asked.reference] = asked, transaction_id
        self.purses[asked.tenant_id].funds_nano += asked.funds_nano

    def give_back(self, grant_id: UUID, returned_nano: int) -> None:
        """Cumulative. An expired grant has been freed as a whole."""
        lease = self.leases[grant_id]
        if lease.release_at > self.now:
            in_all = min(returned_nano, lease.amount_nano - lease.posted_nano)
            lease.returned_nano = max(lease.returned_nano, in_all)

    def tell_apart(self, events: Iterable[UsageEvent]) -> tuple[list[UsageEvent], list[UsageEvent]]:
        """Which of a batch are news, and which tell another story of something posted, not heard before."""
        fresh: dict[UUID, UsageEvent] = {}
        others: dict[tuple[UUID, UsageEvent], UsageEvent] = {}
        for event in events:
            known = self.posted.get(event.request_id) or fresh.setdefault(event.request_id, event)
            if known != event and (event.request_id, event) not in self.other_stories:
                others[event.request_id, event] = event
        return list(fresh.values()), list(others.values())

    def post(self, fresh: Sequence[UsageEvent], paid_nano: Mapping[UUID, int]) -> None:
        """Which of a tenant's events is the one that free money was too little for is the implementation's choice
        (`paid_nano`, by request); how much it is in all is not."""
        by_tenant: defaultdict[UUID, list[UsageEvent]] = defaultdict(list)
        for event in fresh:
            by_tenant[event.tenant_id].append(event)
        for tenant_id, events in by_tenant.items():
            self._post_tenant(tenant_id, events, paid_nano)

    def _post_tenant(self, tenant_id: UUID, events: Sequence[UsageEvent], paid_nano: Mapping[UUID, int]) -> None:
        by_grant: Counter[UUID] = Counter()
        for event in events:
            by_grant[event.grant_id] += event.amount_nano
        free = self.free_nano(tenant_id)
        granted = 0
        for lease in self.open_leases(tenant_id):
            wanted = by_grant[lease.ask.grant_id]
            assert wanted <= lease.rest_nano, "a gateway spent more of an open grant than it had"
            lease.posted_nano += wanted
            granted += wanted
        total = sum(event.amount_nano for event in events)
        taken = min(total - granted, free)
        purse = self.purses[tenant_id]
        purse.posted_nano += granted + taken
        purse.written_off_nano += total - granted - taken
        assert sum(paid_nano[event.request_id] for event in events) == granted + taken
        for event in events:
            self.posted[event.request_id] = event
            self.paid[event.request_id] = paid_nano[event.request_id]
            self.posted_in[event.request_id] = (self.now.year, self.now.month)

    def correct(self, story: UsageEvent) -> int:
        """What another story gives back: never more than was paid and not given back yet."""
        key = story.request_id
        amount = max(0, self.paid[key] - self.given_back[key] - story.amount_nano)
        self.given_back[key] += amount
        self.purses[story.tenant_id].funds_nano += amount
        return amount
