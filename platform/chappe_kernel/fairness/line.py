"""Who waits, and who is next: the account with the smallest counter, and of its requests the first."""

from collections.abc import Hashable
from dataclasses import dataclass, field
from enum import StrEnum

from msgspec import Struct

from chappe_kernel.fairness.counters import Account, Charge, Counters
from chappe_kernel.fairness.lazy_heap import LazyHeap

# Accounts are looked through for those that may be forgotten when there are this many more than at the last time.
_MANY_MORE = 1024


class Priority(StrEnum):
    """`interactive` overtakes the same tenant's `standard` requests only; `batch` runs in idle capacity."""

    INTERACTIVE = "interactive"
    STANDARD = "standard"
    BATCH = "batch"


# An interactive request overtakes those standard ones that came less than this before it. So nothing is overtaken for
# ever, and nobody is served more by calling everything interactive: shares are counted by account alone.
HEAD_START_S = {Priority.INTERACTIVE: 2.0, Priority.STANDARD: 0.0, Priority.BATCH: 0.0}


class State(StrEnum):
    """Where a ticket is. It moves forward only."""

    NEW = "new"
    WAITING = "waiting"
    RUNNING = "running"
    OVER = "over"


class Ticket(Struct, eq=False):
    """One request. `bound` is the most weighted tokens that it may use, `cost` what it is charged when it is dispatched
    (by itself the bound); instants are monotonic seconds."""

    account: Hashable
    bound: int
    weight: int = 1
    priority: Priority = Priority.STANDARD
    arrived_at: float = 0.0
    deadline: float = 0.0
    """When it has waited long enough to be refused."""
    dispatched_at: float = 0.0
    state: State = State.NEW
    charge: Charge | None = None
    cost: int = 0
    came_light: bool = False
    """It would have been served at once, had the in-flight budget not been used up to its last place."""

    def __post_init__(self) -> None:
        self.cost = self.cost or self.bound


@dataclass(slots=True, eq=False)
class _Waiting:
    """An account's own queue. `entry` is the number under which it stands in the heap of accounts, 0 for none."""

    account: Account
    tickets: LazyHeap[Ticket]
    entry: int = field(default=0)


def is_waiting(_: int, ticket: Ticket) -> bool:
    """Whether it still counts in a heap of those who wait."""
    return ticket.state is State.WAITING


class Line:
    """All who wait for one kind of work. Each operation is O(log n)."""

    def __init__(self) -> None:
        self.counters = Counters()
        self.waiting = 0
        self.waiting_accounts = 0
        self._number = 0
        self._queues: dict[Hashable, _Waiting] = {}
        self._order: LazyHeap[_Waiting] = LazyHeap(lambda number, queue: queue.entry == number)
        self._look_through_at = _MANY_MORE

    def waiting_of(self, account: Hashable) -> int:
        """How many requests of this account wait."""
        queue = self._queues.get(account)
        return 0 if queue is None else queue.account.waiting

    def join(self, ticket: Ticket) -> None:
        """It waits from now on."""
        queue = self._queue(ticket.account)
        account = queue.account
        if account.waiting == 0:
            self.counters.lift(account, self._floor(), anew=ticket.came_light)
            self.waiting_accounts += 1
        account.waiting += 1
        self.waiting += 1
        ticket.state = State.WAITING
        queue.tickets.push(ticket.arrived_at - HEAD_START_S[ticket.priority], self._next_number(), ticket)
        if not queue.entry:
            self._place(queue)

    def running_of(self, account: Hashable) -> int:
        """How many requests of this account run."""
        queue = self._queues.get(account)
        return 0 if queue is None else queue.account.running

    def next_account(self) -> Hashable | None:
        """Whose turn it is."""
        first = self._order.first()
        return None if first is None else first[1].account.key

    def serve(self, now: float) -> Ticket | None:
        """The next one, charged; None when nobody waits."""
        first = self._order.first()
        if first is None:
            return None
        queue = first[1]
        ticket = queue.tickets.pop()
        assert ticket is not None  # noqa: S101  # an account stands in the order only while it has one
        self._left(queue)
        before = queue.account.counter
        self._begin(queue, ticket, now)
        self.counters.level = before if self.waiting else queue.account.counter
        return ticket

    def serve_at_once(self, ticket: Ticket, now: float) -> None:
        """It is served the moment it comes, with nothing of its account waiting; O(1) when nobody waits at all."""
        queue = self._queue(ticket.account)
        self.counters.lift(queue.account, self._floor())
        self._begin(queue, ticket, now)
        if not self.waiting:
            self.counters.level = queue.account.counter

    def adopt(self, ticket: Ticket, now: float) -> None:
        """It runs already: charged as the others are, though it was nobody's turn."""
        queue = self._queue(ticket.account)
        if not queue.account.waiting:
            self.counters.lift(queue.account, self._floor())
        self._begin(queue, ticket, now)
        if not self.waiting:
            self.counters.level = max(self.counters.level, queue.account.counter)

    def leave(self, ticket: Ticket) -> None:
        """It does not wait any more. It was charged nothing."""
        queue = self._queues[ticket.account]
        ticket.state = State.OVER
        queue.tickets.entry_died()
        self._left(queue)

    def charge_more(self, ticket: Ticket, cost: int) -> None:
        """It runs, and will cost more than was thought."""
        if ticket.charge is None or cost <= ticket.cost:
            return
        queue = self._queues[ticket.account]
        ticket.charge = self.counters.charge_more(queue.account, ticket.charge, cost - ticket.cost)
        ticket.cost = cost
        if queue.entry:
            self._place(queue)

    def finish(self, ticket: Ticket, cost: int) -> None:
        """It was served, for so much."""
        queue = self._queues[ticket.account]
        assert ticket.charge is not None  # noqa: S101  # it runs
        ticket.state = State.OVER
        queue.account.running -= 1
        before = queue.account.counter
        self.counters.correct(queue.account, ticket.charge, cost)
        if queue.entry and queue.account.counter != before:
            self._place(queue)
        elif self._is_forgettable(queue.account):
            del self._queues[ticket.account]

    def _floor(self) -> int:
        level = self.counters.level
        first = self._order.first() if self.waiting else None
        return level if first is None else min(level, first[1].account.counter)

    def _is_forgettable(self, account: Account) -> bool:
        """Whether a new account would be served no sooner and no later."""
        return account.is_idle() and account.counter <= self._floor()

    def _begin(self, queue: _Waiting, ticket: Ticket, now: float) -> None:
        account = queue.account
        ticket.state = State.RUNNING
        ticket.dispatched_at = now
        ticket.charge = self.counters.charge(account, ticket.cost, ticket.weight)
        account.running += 1
        if account.waiting:
            self._place(queue)

    def _left(self, queue: _Waiting) -> None:
        """One of its requests does not wait any more. An account without any has no place among the others."""
        queue.account.waiting -= 1
        self.waiting -= 1
        if not queue.account.waiting:
            self.waiting_accounts -= 1
            queue.entry = 0
            self._order.entry_died()

    def _place(self, queue: _Waiting) -> None:
        if queue.entry:
            self._order.entry_died()
        queue.entry = self._next_number()
        self._order.push(queue.account.counter, queue.entry, queue)

    def _queue(self, key: Hashable) -> _Waiting:
        queue = self._queues.get(key)
        if queue is None:
            if len(self._queues) >= self._look_through_at:
                self._forget_idle()
            queue = self._queues[key] = _Waiting(Account(key), LazyHeap(is_waiting))
        return queue

    def _forget_idle(self) -> None:
        for key in [key for key, queue in self._queues.items() if self._is_forgettable(queue.account)]:
            del self._queues[key]
        self._look_through_at = len(self._queues) * 2 + _MANY_MORE

    def _next_number(self) -> int:
        self._number += 1
        return self._number
