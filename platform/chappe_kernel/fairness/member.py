"""One process's requests for one deployment, while another process is the region's dispatcher.

In calm times a request passes by the block that was lent, and nobody is told. Else it waits until it is granted by its
number.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from chappe_kernel.errors import LimitExceeded
from chappe_kernel.fairness.dispatcher import QueueBounds, busy_refusal
from chappe_kernel.fairness.line import State, Ticket
from chappe_kernel.fairness.messages import Request, ToDesk, ToMember

# The dispatcher refuses whoever has waited too long; one of whom it knows nothing gets no answer but ours.
_PATIENCE_BEYOND_S = 1.0
_LONG_S = 30.0


class Heard(NamedTuple):
    """What a message changed."""

    granted: list[Ticket]
    refused: list[tuple[Ticket, LimitExceeded]]


class Member:
    """Each operation is O(1), but for those that tell everything."""

    def __init__(self, bounds: QueueBounds, numbers: Iterator[int]) -> None:
        """`numbers`: the process's own for its requests, none of them twice."""
        self._bounds = bounds
        self._numbers = numbers
        self._block = 0
        self._round = 0
        self._to_tell_all = True
        self._passed: dict[Ticket, None] = {}
        """They run by our block, and nobody was told."""
        self._tickets: dict[int, Ticket] = {}
        """Those of which the dispatcher knows, or will."""
        self._ids: dict[Ticket, int] = {}
        self.waiting = 0
        self._entered: list[Ticket] = []
        self._left: list[int] = []
        self._finished: list[tuple[int, int]] = []
        self._first_tokens: list[tuple[float, int]] = []

    def enter(self, ticket: Ticket, now: float) -> bool:
        """Whether it may run at once; otherwise it waits. Raises `LimitExceeded` when too many do."""
        ticket.arrived_at = ticket.arrived_at or now
        if len(self._passed) < self._block:
            self._run(ticket, now)
            self._passed[ticket] = None
            return True
        if self.waiting >= self._bounds.total:
            raise busy_refusal(_LONG_S, "queue_full")
        self.take_over(ticket)
        return False

    def take_over(self, ticket: Ticket) -> None:
        """It runs already, or waits from now on."""
        if ticket.state is not State.RUNNING:
            ticket.state = State.WAITING
            self.waiting += 1
        id_ = self._ids[ticket] = next(self._numbers)
        self._tickets[id_] = ticket
        self._entered.append(ticket)

    def end(self, ticket: Ticket, cost: int) -> None:
        """It does not wait or run any more, and did cost so much; safe to repeat."""
        if ticket in self._passed:
            del self._passed[ticket]
        elif (id_ := self._ids.pop(ticket, None)) is not None:
            del self._tickets[id_]
            if ticket.state is State.WAITING:
                self.waiting -= 1
                self._left.append(id_)
            else:
                self._finished.append((id_, cost))
        ticket.state = State.OVER

    def first_token(self, ticket: Ticket, now: float, prompt_tokens: int) -> None:
        if len(self._first_tokens) < self._bounds.total:
            self._first_tokens.append((now - ticket.dispatched_at, prompt_tokens))

    def hear(self, message: ToMember, now: float) -> Heard:
        """What the dispatcher says."""
        if message.round != self._round:
            self._round = message.round
            self._to_tell_all |= message.busy
        self._block = message.block
        heard = Heard([], [])
        for id_ in message.granted:
            ticket = self._tickets.get(id_)
            if ticket is not None and ticket.state is State.WAITING:
                self.waiting -= 1
                self._run(ticket, now)
                heard.granted.append(ticket)
        for id_, code, after_s in message.refused:
            ticket = self._tickets.get(id_)
            if ticket is not None and ticket.state is State.WAITING:
                heard.refused.append((ticket, busy_refusal(after_s, code)))
                self._forget(ticket)
        return heard

    def expired(self, now: float) -> list[tuple[Ticket, LimitExceeded]]:
        """Take out those of whom nobody has said anything for too long."""
        late = [ticket for ticket in self._tickets.values() if now > ticket.deadline + _PATIENCE_BEYOND_S]
        late = [ticket for ticket in late if ticket.state is State.WAITING]
        for ticket in late:
            self._left.append(self._ids[ticket])
            self._forget(ticket)
        return [(ticket, busy_refusal(_LONG_S, "queue_timeout")) for ticket in late]

    @property
    def held(self) -> int:
        """How many places the dispatcher counts as ours: what it granted, and our block."""
        granted = sum(ticket.state is State.RUNNING for ticket in self._ids)
        return granted + max(self._block, len(self._passed))

    def tell_all(self) -> None:
        """One of our messages was lost, or one of theirs, or it is another dispatcher."""
        self._to_tell_all = True

    @property
    def has_news(self) -> bool:
        """Whether there is anything to tell, but for what can wait."""
        return self._to_tell_all or bool(self._entered or self._left or self._finished)

    def message(self, now: float) -> ToDesk | None:
        """What there is to tell."""
        if self._to_tell_all:
            return self._whole(now)
        if not (self._entered or self._left or self._finished or self._first_tokens):
            return None
        entered = [ticket for ticket in self._entered if ticket in self._ids]
        return self._send(now, entered, whole=False)

    def everything(self) -> Iterable[Ticket]:
        """All that wait or run, in the order in which they came."""
        return sorted([*self._passed, *self._ids], key=lambda ticket: ticket.arrived_at)

    def _whole(self, now: float) -> ToDesk:
        self._to_tell_all = False
        self._block = 0
        passed, self._passed = self._passed, {}
        for ticket in passed:
            self.take_over(ticket)
        return self._send(now, self._ids, whole=True)

    def _send(self, now: float, entered: Iterable[Ticket], *, whole: bool) -> ToDesk:
        message = ToDesk(
            round=self._round,
            whole=whole,
            entered=tuple(self._told(ticket, now) for ticket in entered),
            left=tuple(self._left),
            finished=tuple(self._finished),
            first_tokens=tuple(self._first_tokens),
        )
        self._entered, self._left, self._finished, self._first_tokens = [], [], [], []
        return message

    def _told(self, ticket: Ticket, now: float) -> Request:
        return Request(
            self._ids[ticket],
            str(ticket.account),
            ticket.bound,
            ticket.weight,
            ticket.priority,
            now - ticket.arrived_at,
            ticket.deadline - now,
            ticket.state is State.RUNNING,
        )

    def _run(self, ticket: Ticket, now: float) -> None:
        ticket.state = State.RUNNING
        ticket.dispatched_at = now

    def _forget(self, ticket: Ticket) -> None:
        del self._tickets[self._ids.pop(ticket)]
        self.waiting -= 1
        ticket.state = State.OVER
