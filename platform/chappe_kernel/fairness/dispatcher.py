"""One deployment's dispatcher: how many run, who waits, who is next, who is refused and when to come back.

Interactive and standard requests stand in one line, batch in another with counters of its own, so that what a tenant
runs in idle capacity is not held against it. Batch is served when nobody stands in the first line and a part of the
in-flight budget is left for whoever comes; and once in `BATCH_EVERY` dispatches in any case, so that it never starves.

Nothing that runs is interrupted, so whoever finds the budget full waits for somebody's end. A part of it is therefore
kept for light accounts, which have nothing waiting and run less than their share of the budget, as long as one was seen
in the last minute: they pass at once, and a flood of somebody else is not felt by them. With one account alone, or only
such as wait, nothing is kept back. Counters stay what they are: whoever has something waiting is served by them alone.
"""

import math
from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass

from chappe_kernel.errors import LimitExceeded
from chappe_kernel.fairness.expected_cost import ExpectedCost
from chappe_kernel.fairness.in_flight import InFlightLimit
from chappe_kernel.fairness.lazy_heap import LazyHeap
from chappe_kernel.fairness.line import Line, Priority, State, Ticket, is_waiting

BATCH_EVERY = 20
# This part of the in-flight budget (an eighth) is kept for light accounts.
_KEPT_PART = 8
_SEEN_FOR_S = 60.0
# Batch leaves this part of the in-flight budget to those who come without waiting.
_BATCH_LEAVES = 0.25
_LONGEST_RETRY_S = 60.0
# How much the last dispatch counts in the average time between two.
_NEW_PART = 0.1


@dataclass(frozen=True, slots=True)
class QueueBounds:
    """How many may wait: in all, and of one account. An account also gets no more than what is still free: however
    many flood, there is room for one more (Choudhury and Hahne's dynamic thresholds, 1998)."""

    total: int = 1024
    of_account: int = 256


def busy_refusal(after_s: float, code: str) -> LimitExceeded:
    """What to tell one who is not served."""
    return LimitExceeded(
        f"the model is busy with other requests; try again in {math.ceil(after_s)} s", retry_after_s=after_s, code=code
    )


class Dispatcher:
    """Each operation is O(log n) in those who wait."""

    def __init__(self, in_flight: InFlightLimit, bounds: QueueBounds | None = None) -> None:
        self.in_flight = in_flight
        self.expected = ExpectedCost()
        self.lent = 0
        """Places that others use by themselves: those of other processes' blocks."""
        self._running: dict[Ticket, None] = {}
        self._bounds = bounds or QueueBounds()
        self._line = Line()
        self._batch = Line()
        self._since_batch = 0
        self._light_waiting = 0
        self._number = 0
        self._seen: OrderedDict[Hashable, float] = OrderedDict()
        """When each account last came, the longest ago first."""
        self._deadlines: LazyHeap[Ticket] = LazyHeap(is_waiting)
        self._last_dispatch_at: float | None = None
        self._between_s: float | None = None

    @property
    def waiting(self) -> int:
        return self._line.waiting + self._batch.waiting

    @property
    def running(self) -> int:
        return len(self._running)

    @property
    def in_use(self) -> int:
        """How many places of the in-flight budget are taken."""
        return len(self._running) + self.lent

    def adopt(self, ticket: Ticket, now: float) -> None:
        """It runs already, by somebody else's leave: it is counted and charged as if it had passed here."""
        ticket.cost = self.expected.of(ticket.bound)
        self._see(ticket.account, now)
        sent_at = ticket.dispatched_at or now
        self._line_of(ticket).adopt(ticket, now)
        ticket.dispatched_at = sent_at
        self._running[ticket] = None

    def enter(self, ticket: Ticket, now: float) -> bool:
        """Whether it may run at once; otherwise it waits. One that came elsewhere before keeps its `arrived_at`. Raises
        `LimitExceeded` when too many wait."""
        ticket.arrived_at = ticket.arrived_at or now
        ticket.cost = self.expected.of(ticket.bound)
        self._see(ticket.account, now)
        line = self._line_of(ticket)
        has_room = self._next_line(coming=ticket.priority) is line
        light = False
        if not (has_room and line.waiting == 0 and self._may_run(line, ticket.account)):
            light = self._is_light(line, ticket.account)
            has_room = has_room and light
        if has_room:
            line.serve_at_once(ticket, now)
            self._dispatched(ticket, now, busy=False)
            return True
        self._check_room(line, ticket, now)
        ticket.came_light = light
        self._light_waiting += light
        line.join(ticket)
        self._number += 1
        self._deadlines.push(ticket.deadline, self._number, ticket)
        self.in_flight.note_full()
        return False

    def leave(self, ticket: Ticket) -> None:
        """It was withdrawn, or has waited too long. It was charged nothing; safe to repeat."""
        if ticket.state is State.WAITING:
            self._line_of(ticket).leave(ticket)
            self._light_waiting -= ticket.came_light
            self._deadlines.entry_died()

    def finish(self, ticket: Ticket, cost: int) -> None:
        """It has ended and did cost so many weighted tokens; safe to repeat. Call `next` after it."""
        if ticket.state is State.RUNNING:
            del self._running[ticket]
            self._line_of(ticket).finish(ticket, cost)
            if self.expected.learn(cost):
                for other in self._running:
                    self._line_of(other).charge_more(other, self.expected.of(other.bound))

    def give_up(self, ticket: Ticket) -> None:
        """It is another dispatcher's from now on, whether it waits or runs; nothing is learned of its cost."""
        self.leave(ticket)
        if ticket.state is State.RUNNING:
            del self._running[ticket]
            self._line_of(ticket).finish(ticket, ticket.cost)

    def next(self, now: float) -> Ticket | None:
        """Who may run now, as long as there is anybody. Take out those who are `expired` before."""
        line = self._next_line()
        if line is None or not self._may_run(line, line.next_account()):
            return None
        ticket = line.serve(now)
        if ticket is not None:
            self._light_waiting -= ticket.came_light
            self._deadlines.entry_died()
            self._dispatched(ticket, now, busy=True)
        return ticket

    def expired(self, now: float) -> list[Ticket]:
        """Take out all who have waited too long."""
        gone = []
        while (first := self._deadlines.first()) is not None and first[0] <= now:
            self.leave(first[1])
            gone.append(first[1])
        return gone

    def refusal(self, account: Hashable, now: float, *, code: str = "queue_full") -> LimitExceeded:
        """What to tell one who is not served: when those of its account who wait now will have been."""
        return busy_refusal(self.retry_after_s(account, now), code)

    def retry_after_s(self, account: Hashable, now: float) -> float:
        """About when a request of this account would be served if it came last in its queue: its turn comes once in as
        many dispatches as accounts wait. From 1 to 60 s."""
        ahead = self._line.waiting_of(account) + self._batch.waiting_of(account) + 1
        between_s = self._between_s or 0.0
        if self._last_dispatch_at is not None:
            # A deployment that has stopped serving tells by its silence.
            between_s = max(between_s, now - self._last_dispatch_at)
        turns = max(1, self._line.waiting_accounts + self._batch.waiting_accounts)
        return min(_LONGEST_RETRY_S, max(1.0, ahead * turns * between_s))

    def _check_room(self, line: Line, ticket: Ticket, now: float) -> None:
        free = self._bounds.total - self.waiting
        if line.waiting_of(ticket.account) >= min(self._bounds.of_account, free):
            raise self.refusal(ticket.account, now)

    def _may_run(self, line: Line, account: Hashable) -> bool:
        """Whether the in-flight budget has room for one more of this account. Nobody is ever served in its place: only
        so the counters stay close together."""
        limit = self.in_flight.limit
        if self.in_use < limit - limit // _KEPT_PART or self._light_waiting:
            return True
        waiting = self._line.waiting_accounts + self._batch.waiting_accounts
        others = len(self._seen) - max(waiting, 1)
        return others <= 0 or self._is_under_share(line, account)

    def _is_light(self, line: Line, account: Hashable) -> bool:
        return line.waiting_of(account) == 0 and self._is_under_share(line, account)

    def _is_under_share(self, line: Line, account: Hashable) -> bool:
        return line.running_of(account) * len(self._seen) < self.in_flight.limit

    def _see(self, account: Hashable, now: float) -> None:
        self._seen[account] = now
        self._seen.move_to_end(account)
        while now - next(iter(self._seen.values())) > _SEEN_FOR_S:
            self._seen.popitem(last=False)

    def _next_line(self, coming: Priority | None = None) -> Line | None:
        """The line that is served next, if anything may run: with one more of the kind that is `coming`."""
        if self.in_use >= self.in_flight.limit:
            return None
        batch = self._batch.waiting or coming is Priority.BATCH
        others = self._line.waiting or (coming is not None and coming is not Priority.BATCH)
        if batch and self._since_batch >= BATCH_EVERY - 1:
            return self._batch
        if others:
            return self._line
        return self._batch if batch and self.in_use < self._room_for_batch() else None

    def _room_for_batch(self) -> int:
        limit = self.in_flight.limit
        return max(1, limit - math.ceil(limit * _BATCH_LEAVES))

    def _line_of(self, ticket: Ticket) -> Line:
        return self._batch if ticket.priority is Priority.BATCH else self._line

    def _dispatched(self, ticket: Ticket, now: float, *, busy: bool) -> None:
        self._running[ticket] = None
        self._since_batch = 0 if ticket.priority is Priority.BATCH else self._since_batch + 1
        if busy and self._last_dispatch_at is not None:
            gap_s = now - self._last_dispatch_at
            old_s = gap_s if self._between_s is None else self._between_s
            self._between_s = old_s + _NEW_PART * (gap_s - old_s)
        self._last_dispatch_at = now
