"""The dispatcher serves as a naive reference does: the smallest counter first, nobody twice, nobody lost."""

from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chappe_kernel.errors import LimitExceeded
from chappe_kernel.fairness.dispatcher import BATCH_EVERY, Dispatcher, QueueBounds
from chappe_kernel.fairness.in_flight import InFlightLimit, TtftTarget
from chappe_kernel.fairness.line import Line, Priority, State, Ticket
from tests.fairness.naive import Kind, NaiveDispatcher, Request

ACCOUNTS = "abcd"
WEIGHTS = {"a": 1, "b": 1, "c": 2, "d": 5}
MANY = QueueBounds(total=100_000, of_account=100_000)

arrivals = st.tuples(
    st.just("come"), st.sampled_from(ACCOUNTS), st.integers(1, 500), st.sampled_from(list(Priority)), st.integers(0, 3)
)
ends = st.tuples(st.just("end"), st.integers(0, 99), st.integers(0, 600))
leaves = st.tuples(st.just("leave"), st.integers(0, 99))
steps = st.lists(st.one_of(arrivals, arrivals, ends, leaves), max_size=120)


def dispatcher(limit: int, bounds: QueueBounds = MANY) -> Dispatcher:
    return Dispatcher(InFlightLimit(limit, TtftTarget()), bounds)


@dataclass
class Both:
    """The real dispatcher and the reference, step by step. Among equals the reference follows the real one."""

    limit: int
    now: float = 0.0
    tickets: dict[int, Ticket] = field(default_factory=dict)
    waiting: list[int] = field(default_factory=list)
    running: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.real = dispatcher(self.limit)
        self.naive = NaiveDispatcher(self.limit)
        self.requests: dict[int, Request] = {}

    def come(self, account: str, cost: int, priority: Priority, after_s: int) -> None:
        self.now += after_s
        number = len(self.tickets)
        ticket = self.tickets[number] = Ticket(account, cost, WEIGHTS[account], priority, deadline=1e9)
        request = Request(number, account, cost, WEIGHTS[account], priority, self.now)
        self.requests[number] = request
        self.waiting.append(number)
        at_once = self.real.enter(ticket, self.now)
        self.naive.kind(request).come(request, light=ticket.came_light)
        request.cost = ticket.cost
        if at_once:
            self.serve(number)
        self.settle_down()

    def end(self, index: int, cost: int) -> None:
        if not self.running:
            return
        number = self.running.pop(index % len(self.running))
        request = self.requests[number]
        self.real.finish(self.tickets[number], cost)
        self.real.finish(self.tickets[number], cost)
        self.naive.running.remove(request)
        self.naive.kind(request).end(request, cost)
        for other in self.running:
            if self.tickets[other].cost > self.requests[other].cost:
                self.naive.kind(self.requests[other]).charge_more(self.requests[other], self.tickets[other].cost)
        self.settle_down()

    def leave(self, index: int) -> None:
        if not self.waiting:
            return
        number = self.waiting.pop(index % len(self.waiting))
        request = self.requests[number]
        self.real.leave(self.tickets[number])
        self.real.leave(self.tickets[number])
        self.naive.kind(request).waiting.remove(request)
        self.settle_down()

    def settle_down(self) -> None:
        while (ticket := self.real.next(self.now)) is not None:
            self.serve(next(number for number, own in self.tickets.items() if own is ticket))
        # Nothing that may run is left waiting.
        assert self.naive.lines_turn() is None
        assert self.real.waiting == len(self.waiting) == len(self.naive.line.waiting) + len(self.naive.batch.waiting)
        assert self.real.running == len(self.running) <= self.limit

    def serve(self, number: int) -> None:
        """The real one has just served this: the reference must agree that it is the next."""
        request = self.requests[number]
        kind = self.naive.lines_turn()
        assert kind is self.naive.kind(request)
        lowest = min(kind.counters[other.account] for other in kind.waiting)
        assert kind.counters[request.account] == lowest
        served = _Following(kind, request.account).serve()
        assert served is request
        self.naive.running.append(request)
        self.naive.since_batch = 0 if request.priority is Priority.BATCH else self.naive.since_batch + 1
        self.waiting.remove(number)
        self.running.append(number)
        assert self.tickets[number].state is State.RUNNING


class _Following(Kind):
    """A line that prefers one account among those with equal counters."""

    def __init__(self, kind: Kind, account: str) -> None:
        self.__dict__ = kind.__dict__
        self.__dict__["preferred"] = account

    def serve(self) -> Request:
        request = super().serve()
        del self.__dict__["preferred"]
        return request

    def longest_at(self, accounts: set[str]) -> str:
        preferred: str = self.__dict__["preferred"]
        return preferred if preferred in accounts else min(accounts)


@settings(max_examples=300, deadline=None)
@given(st.integers(1, 6), steps)
def test_it_serves_as_the_reference_does(limit: int, script: list[tuple[Any, ...]]) -> None:
    both = Both(limit)
    for name, *arguments in script:
        getattr(both, name)(*arguments)
    while both.running:
        both.end(0, 1)
    # Nobody is lost: whoever did not leave was served.
    assert not both.waiting


@given(st.lists(st.integers(0, 400), min_size=1, max_size=60))
def test_an_account_that_comes_back_has_saved_up_nothing(costs: list[int]) -> None:
    """It idles while another works, and then gets no more than its turn."""
    line = Line()
    for cost in costs:
        line.join(Ticket("busy", cost))
        served = line.serve(0.0)
        assert served is not None
        line.finish(served, cost)
    line.join(Ticket("busy", 10))
    line.join(Ticket("idle", 10))
    line.join(Ticket("idle", 10))
    line.join(Ticket("busy", 10))
    first = [line.serve(0.0), line.serve(0.0), line.serve(0.0)]
    assert {ticket.account for ticket in first if ticket} == {"busy", "idle"}


def test_huge_bounds_paid_back_after_a_pause_give_no_credit() -> None:
    """Requests with huge bounds while nobody waits are corrected later, but never below where the account came in."""
    line = Line()
    huge = [Ticket("liar", 10_000) for _ in range(8)]
    for ticket in huge:
        line.serve_at_once(ticket, 0.0)
    line.serve_at_once(Ticket("other", 10), 0.0)
    for account in ("liar", "honest"):
        for _ in range(400):
            line.join(Ticket(account, 100))
    for ticket in huge:
        line.finish(ticket, 1)
    served = [line.serve(0.0) for _ in range(200)]
    shares = [sum(1 for ticket in served if ticket and ticket.account == name) for name in ("liar", "honest")]
    assert shares == [100, 100]


@given(st.integers(1, 30), st.integers(1, 50))
def test_many_small_requests_get_no_more_than_few_large_ones(small: int, times: int) -> None:
    line = Line()
    for _ in range(40 * times):
        line.join(Ticket("small", small))
    for _ in range(40):
        line.join(Ticket("large", small * times))
    tokens = {"small": 0, "large": 0}
    while tokens["small"] + tokens["large"] < 40 * small * times:
        ticket = line.serve(0.0)
        assert ticket is not None
        tokens[str(ticket.account)] += ticket.cost
    assert abs(tokens["small"] - tokens["large"]) <= 2 * small * times


def test_weights_are_respected() -> None:
    line = Line()
    for _ in range(1000):
        line.join(Ticket("one", 30, weight=1))
        line.join(Ticket("three", 30, weight=3))
    served = [line.serve(0.0) for _ in range(800)]
    assert abs(sum(1 for ticket in served if ticket and ticket.account == "three") - 600) <= 2


def test_many_keys_of_a_tenant_are_one_account() -> None:
    """The account is all that counts: 50 senders of one tenant get what one of another gets."""
    line = Line()
    for _ in range(100):
        for _ in range(50):
            line.join(Ticket("fifty", 10))
        line.join(Ticket("one", 10))
    served = [line.serve(0.0) for _ in range(100)]
    assert abs(sum(1 for ticket in served if ticket and ticket.account == "one") - 50) <= 1


def test_who_leaves_before_being_served_is_charged_nothing_and_gains_nothing() -> None:
    line = Line()
    leavers = [Ticket("leaver", 100) for _ in range(1000)]
    for ticket in leavers:
        line.join(ticket)
    line.join(Ticket("other", 100))
    for ticket in leavers[:-10]:
        line.leave(ticket)
    served = [line.serve(0.0) for _ in range(2)]
    assert {ticket.account for ticket in served if ticket} == {"leaver", "other"}


def test_interactive_overtakes_its_own_tenants_work_and_not_for_ever() -> None:
    line = Line()
    line.join(Ticket("a", 1, priority=Priority.STANDARD, arrived_at=0.0))
    line.join(Ticket("a", 1, priority=Priority.INTERACTIVE, arrived_at=1.0))
    late = Ticket("a", 1, priority=Priority.INTERACTIVE, arrived_at=3.0)
    line.join(late)
    order = [line.serve(4.0) for _ in range(3)]
    assert [ticket.arrived_at for ticket in order if ticket] == [1.0, 0.0, 3.0]


def test_calling_everything_interactive_wins_nothing_from_others() -> None:
    line = Line()
    for _ in range(100):
        line.join(Ticket("pushy", 10, priority=Priority.INTERACTIVE))
        line.join(Ticket("plain", 10, priority=Priority.STANDARD))
    served = [line.serve(0.0) for _ in range(100)]
    assert abs(sum(1 for ticket in served if ticket and ticket.account == "pushy") - 50) <= 1


def test_batch_runs_in_idle_capacity_leaves_room_and_never_starves() -> None:
    real = dispatcher(4)
    batch = [Ticket("b", 10, priority=Priority.BATCH, deadline=1e9) for _ in range(5)]
    assert [real.enter(ticket, 0.0) for ticket in batch] == [True, True, True, False, False]
    # Somebody who comes now need not wait.
    assert real.enter(Ticket("a", 10, deadline=1e9), 0.0)
    for _ in range(100):
        real.enter(Ticket("a", 10, deadline=1e9), 0.0)
    real.finish(batch[0], 10)
    served = []
    while (ticket := real.next(1.0)) is not None:
        served.append(ticket.priority)
        real.finish(ticket, 10)
    assert served.index(Priority.BATCH) == BATCH_EVERY - 2
    assert served.count(Priority.BATCH) == 2


def test_a_full_queue_refuses_the_flood_and_has_room_for_the_next() -> None:
    real = dispatcher(1, QueueBounds(total=100, of_account=80))
    assert real.enter(Ticket("flood", 10, deadline=60.0), 0.0)
    with pytest.raises(LimitExceeded) as refused:
        for _ in range(100):
            real.enter(Ticket("flood", 10, deadline=60.0), 0.0)
    assert real.waiting == 50
    assert 1 <= refused.value.retry_after_s <= 60
    for account in range(5):
        assert not real.enter(Ticket(f"other-{account}", 10, deadline=60.0), 0.0)


def test_a_part_is_kept_for_who_comes_now_and_then_and_for_nobody_else() -> None:
    real = dispatcher(16)
    for _ in range(30):
        real.enter(Ticket("flood", 10, deadline=1e9), 0.0)
    assert (real.running, real.waiting) == (16, 14)
    calm = Ticket("calm", 10, deadline=1e9)
    assert not real.enter(calm, 1.0)
    real.leave(calm)
    floods = [Ticket("flood", 10, deadline=1e9) for _ in range(30)]
    other = dispatcher(16)
    assert other.enter(Ticket("calm", 10, deadline=1e9), 0.0)
    assert sum(other.enter(ticket, 1.0) for ticket in floods) == 13
    # It was seen within the minute: it passes, though others wait and it was served last.
    assert [other.enter(Ticket("calm", 10, deadline=1e9), 2.0) for _ in range(3)] == [True, True, False]
    # Now that it waits, nothing is kept from its turn.
    other.finish(floods[0], 10)
    assert other.next(3.0) is not None


def test_retry_after_follows_how_fast_it_is_served() -> None:
    real = dispatcher(1)
    running = Ticket("a", 10, deadline=1e9)
    real.enter(running, 0.0)
    for _ in range(10):
        real.enter(Ticket("a", 10, deadline=1e9), 0.0)
    for second in range(1, 6):
        real.finish(running, 10)
        served = real.next(2.0 * second)
        assert served is not None
        running = served
    # Five wait, each takes two seconds, and the asker would be the sixth.
    assert real.retry_after_s("a", 10.0) == pytest.approx(12.0)


def test_whoever_waited_too_long_is_taken_out_once() -> None:
    real = dispatcher(1)
    real.enter(Ticket("a", 10, deadline=5.0), 0.0)
    waiting = [Ticket("a", 10, deadline=float(second)) for second in (5, 7, 6)]
    for ticket in waiting:
        real.enter(ticket, 0.0)
    assert real.expired(4.9) == []
    assert real.expired(6.0) == [waiting[0], waiting[2]]
    assert real.expired(6.0) == []
    assert real.waiting == 1


def test_what_is_remembered_does_not_grow_with_those_who_came_and_went() -> None:
    real = dispatcher(2)
    for number in range(20_000):
        ticket = Ticket(number, 10, deadline=1e9)
        real.enter(ticket, 0.0)
        real.finish(ticket, 5)
        waiting = Ticket("w", 10, deadline=1e9)
        real._line.join(waiting)
        real._line.leave(waiting)
    assert len(real._line._queues) < 3000
    assert len(real._deadlines) < 100
