"""One process's place at one deployment, in whichever role: alone, as the region's dispatcher, or asking it.

Alone it goes on with its static part of what Serve takes and counters of its own. Its requests change over with it when
the role changes: none is lost, and none runs twice.
"""

import itertools
from collections.abc import Iterable, Mapping
from enum import StrEnum

from chappe_kernel.errors import LimitExceeded
from chappe_kernel.fairness.desk import Desk, RemoteTicket
from chappe_kernel.fairness.dispatcher import Dispatcher, QueueBounds
from chappe_kernel.fairness.in_flight import InFlightLimit, TtftTarget
from chappe_kernel.fairness.line import State, Ticket
from chappe_kernel.fairness.member import Heard, Member
from chappe_kernel.fairness.messages import ToDesk, ToMember


class Role(StrEnum):
    """What a process is to the others of its region."""

    ALONE = "alone"
    DISPATCHER = "dispatcher"
    MEMBER = "member"


class Post:
    """Call `outcomes` after whatever happened: it says who may run now, and who is refused."""

    def __init__(self, capacity: int, peers: int, target: TtftTarget, bounds: QueueBounds) -> None:
        """`capacity` is what Serve takes of all `peers` processes together."""
        self.role = Role.ALONE
        self.dispatcher = Dispatcher(InFlightLimit(capacity // max(1, peers), target), bounds)
        self._capacity = capacity
        self._peers = peers
        self._bounds = bounds
        self._desk: Desk | None = None
        self._member: Member | None = None
        self._own: dict[Ticket, None] = {}
        """Ordered, unlike a set: a seed of the simulator is the same run every time."""
        self._numbers = itertools.count(1)
        self._heard = Heard([], [])
        self._held: int | None = None
        """How many it may run while the region is between two dispatchers."""

    @property
    def running(self) -> int:
        """How many of this process's requests run."""
        return sum(ticket.state is State.RUNNING for ticket in self._own)

    @property
    def waiting(self) -> int:
        """How many wait here, those of other processes included."""
        return self.dispatcher.waiting if self._member is None else self._member.waiting

    @property
    def has_news(self) -> bool:
        """Whether somebody waits here, or the dispatcher has to be told something: look at `outcomes`."""
        return self.dispatcher.waiting > 0 if self._member is None else self._member.has_news

    @property
    def static_part(self) -> int:
        """How many one process may run by itself."""
        return max(1, self._capacity // max(1, self._peers))

    def resize(self, capacity: int, peers: int) -> None:
        """The deployment has other replicas, or the region other processes."""
        self._capacity, self._peers = capacity, peers
        self.dispatcher.in_flight.resize(capacity if self.role is Role.DISPATCHER else self.static_part)
        if self._held is not None:
            self.dispatcher.lent = max(0, self.static_part - self._held)

    def enter(self, ticket: Ticket, now: float) -> bool:
        """Whether it may run at once; otherwise it waits. Raises `LimitExceeded` when too many do."""
        place = self.dispatcher if self._member is None else self._member
        may_run = place.enter(ticket, now)
        self._own[ticket] = None
        return may_run

    def end(self, ticket: Ticket, cost: int) -> None:
        """It does not wait or run any more, and did cost so many weighted tokens; safe to repeat."""
        self._own.pop(ticket, None)
        if self._member is None:
            self.dispatcher.leave(ticket)
            self.dispatcher.finish(ticket, cost)
        else:
            if ticket.state is State.RUNNING:
                # The next dispatcher may be this process, and must not begin with what no request ever used.
                self.dispatcher.expected.learn(cost)
            self._member.end(ticket, cost)

    def first_token(self, ticket: Ticket, now: float, prompt_tokens: int) -> None:
        """Its first token came now."""
        if self._member is None:
            self.dispatcher.in_flight.observe(ticket.dispatched_at, now, prompt_tokens)
        else:
            self._member.first_token(ticket, now, prompt_tokens)

    def outcomes(self, now: float) -> Heard:
        """Which of this process's requests may run now, and which are refused. Each is told once."""
        heard, self._heard = self._heard, Heard([], [])
        if self._member is not None:
            return heard
        for late in self.dispatcher.expired(now):
            refusal = self.dispatcher.refusal(late.account, now, code="queue_timeout")
            if isinstance(late, RemoteTicket):
                self._desk_of(late).refuse(late, refusal)
            else:
                heard.refused.append((late, refusal))
        while (served := self.dispatcher.next(now)) is not None:
            if isinstance(served, RemoteTicket):
                self._desk_of(served).grant(served)
            else:
                heard.granted.append(served)
        if self._desk is not None:
            self._desk.settle(now)
        return heard

    def tick(self, now: float) -> None:
        """Now and then."""
        if self._desk is not None:
            self._desk.tick(now)
        if self._member is not None:
            self._heard.refused.extend(self._member.expired(now))

    def be_alone(self, now: float, *, keeps_to_held: bool = False) -> None:
        """There is no dispatcher, or nobody can be reached. `keeps_to_held`: there will be another one soon, and others
        may still run what they were granted: until `take_part` no more runs here than was granted here."""
        held = self._count_held() if keeps_to_held else None
        waited = self._leave_role()
        self.role = Role.ALONE
        self._held = held
        self.resize(self._capacity, self._peers)
        self._take_back(waited, now)

    def take_part(self) -> None:
        """No other dispatcher came: this process goes on with its static part."""
        if self._held is not None:
            self._held, self.dispatcher.lent = None, 0

    def be_dispatcher(self, now: float, others: Iterable[str]) -> None:
        """From now on all processes' requests wait here. `others` may be running all that Serve takes: nobody has a
        turn before they have told, or are known to be gone."""
        waited = self._leave_role()
        self.role = Role.DISPATCHER
        self.resize(self._capacity, self._peers)
        self._desk = Desk(self.dispatcher, now, dict.fromkeys(others, self._capacity))
        self._take_back(waited, now)

    def be_member(self, now: float) -> None:
        """From now on another process is the dispatcher."""
        was_member = self._member is not None
        self._leave_role()
        self.role = Role.MEMBER
        self.resize(self._capacity, self._peers)
        member = Member(self._bounds, self._numbers)
        own = [ticket for ticket in self._own if ticket.state is not State.OVER]
        for ticket in sorted(own, key=lambda ticket: ticket.arrived_at):
            runs = ticket.state is State.RUNNING
            if not was_member:
                self.dispatcher.give_up(ticket)
            ticket.state = State.RUNNING if runs else State.NEW
            member.take_over(ticket)
        self._member = member

    def nobody_listens(self, name: str, since: float, *, has_left: bool) -> None:
        """A process cannot be told anything any more."""
        if self._desk is not None:
            self._desk.nobody_listens(name, since, has_left=has_left)

    def hear_member(self, name: str, message: ToDesk, now: float) -> None:
        """A process tells the dispatcher."""
        if self._desk is not None:
            self._desk.hear(name, message, now)

    def is_alive(self, name: str, now: float) -> None:
        """A process said something, if nothing of this deployment."""
        if self._desk is not None:
            self._desk.is_alive(name, now)

    def hear_dispatcher(self, message: ToMember, now: float) -> None:
        """The dispatcher tells this process."""
        if self._member is not None:
            heard = self._member.hear(message, now)
            self._heard.granted.extend(heard.granted)
            self._heard.refused.extend(heard.refused)

    def tell_all(self) -> None:
        """A message was lost."""
        if self._member is not None:
            self._member.tell_all()

    def to_dispatcher(self, now: float) -> ToDesk | None:
        return None if self._member is None else self._member.message(now)

    def to_members(self) -> Mapping[str, ToMember]:
        return {} if self._desk is None else dict(self._desk.messages())

    def _count_held(self) -> int:
        if self._member is not None:
            return self._member.held
        if self._desk is None:
            return self.running
        # What is free is nobody else's as long as there is no other dispatcher.
        free = self.dispatcher.in_flight.limit - self.dispatcher.in_use
        return self.running + max(0, free)

    def _leave_role(self) -> list[Ticket]:
        """What this process had at another dispatcher: all that waits or runs, in the order in which it came."""
        if self._desk is not None:
            self._desk.close()
            self._desk = None
        self._held, self.dispatcher.lent = None, 0
        member, self._member = self._member, None
        return [] if member is None else list(member.everything())

    def _take_back(self, tickets: Iterable[Ticket], now: float) -> None:
        waiting = []
        for ticket in tickets:
            # What runs is counted before anybody else may run.
            runs = ticket.state is State.RUNNING
            ticket.state = State.NEW
            if runs:
                self.dispatcher.adopt(ticket, now)
            else:
                waiting.append(ticket)
        for ticket in waiting:
            try:
                if self.dispatcher.enter(ticket, now):
                    self._heard.granted.append(ticket)
            except LimitExceeded as refusal:
                self._heard.refused.append((ticket, refusal))

    def _desk_of(self, ticket: RemoteTicket) -> Desk:
        # A closed desk has taken its tickets with it.
        assert self._desk is not None, ticket.member  # noqa: S101  # invariant
        return self._desk
