"""The region's dispatcher for one deployment: its own process's requests and those of all others, in one line.

It is calm as long as nobody waits: each process has a block of places and tells nothing of what it runs by it. One
whose block is used up asks here. As soon as somebody waits it is busy: blocks are recalled, every process tells all
that it has, and whatever runs from then on was granted here, by the counters. So between two accounts that both wait
the bound of `counters` holds over all processes, but for what passes by a block before its recall has arrived.
"""

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from uuid import UUID

from chappe_kernel.errors import LimitExceeded
from chappe_kernel.fairness.dispatcher import Dispatcher
from chappe_kernel.fairness.line import State, Ticket
from chappe_kernel.fairness.messages import Request, ToDesk, ToMember

LOST_AFTER_S = 3.0
"""A process that is silent for so long is taken for dead: its places are others'."""
_STOPS_WITHIN_S = 1.0
"""So soon after a process has died its engines have stopped."""
_CALM_AFTER_S = 0.5
# Together, blocks begin with a half of what is free.
_FREE_PART = 2


@dataclass(slots=True, eq=False)
class RemoteTicket(Ticket):
    """Another process's request."""

    member: str = ""
    id: int = 0


@dataclass(slots=True, eq=False)
class _Member:
    heard_at: float
    lent: int = 0
    """Its block, or, until it has told all that it runs, what it may be running."""
    told_all: bool = False
    """In this round: so none of its block is in use."""
    missed: int = 0
    """How many asked since the last look, because its block was used up."""
    tickets: dict[int, RemoteTicket] = field(default_factory=dict)
    granted: list[int] = field(default_factory=list)
    refused: list[tuple[int, str, float]] = field(default_factory=list)
    to_tell: bool = True


class Desk:
    """`dispatcher` is also where this process's own requests wait. Names are those of processes."""

    def __init__(self, dispatcher: Dispatcher, now: float, may_run: Mapping[str, int]) -> None:
        """`may_run`: how many the other processes may be running, until they have told what they do."""
        self.dispatcher = dispatcher
        self.busy = True
        self.round = 1
        self._waited_at = now
        self._members = {name: _Member(now, lent=places) for name, places in may_run.items()}
        dispatcher.lent = sum(may_run.values())

    def close(self) -> None:
        """Somebody else is the dispatcher now."""
        for name in tuple(self._members):
            self._forget(name)

    def hear(self, name: str, message: ToDesk, now: float) -> None:
        """Then look who is `next`, and `settle`."""
        member = self._members.get(name)
        if member is None:
            member = self._members[name] = _Member(now)
        member.heard_at = now
        for id_ in message.left:
            self._end(member, id_, 0)
        for id_, cost in message.finished:
            self._end(member, id_, cost)
        if message.whole:
            self._reconcile(name, member, message, now)
        else:
            for request in message.entered:
                member.missed += 1
                self._enter(name, member, request, now)
        for ttft_s, prompt_tokens in message.first_tokens:
            self.dispatcher.in_flight.observe(now - ttft_s, now, prompt_tokens)

    def is_alive(self, name: str, now: float) -> None:
        """The process said something, if nothing of this deployment."""
        if name in self._members:
            self._members[name].heard_at = now

    def nobody_listens(self, name: str, since: float, *, has_left: bool) -> None:
        """The process cannot be told anything: it has left some time ago, or died about then."""
        member = self._members.get(name)
        if member is not None and has_left:
            self._forget(name)
        elif member is not None:
            member.heard_at = min(member.heard_at, since - LOST_AFTER_S + _STOPS_WITHIN_S)

    def grant(self, ticket: RemoteTicket) -> None:
        """It was its turn."""
        member = self._members[ticket.member]
        member.granted.append(ticket.id)
        member.to_tell = True

    def refuse(self, ticket: RemoteTicket, refusal: LimitExceeded) -> None:
        """It has waited too long."""
        member = self._members[ticket.member]
        del member.tickets[ticket.id]
        member.refused.append((ticket.id, refusal.code, refusal.retry_after_s))
        member.to_tell = True

    def settle(self, now: float) -> None:
        """After whatever happened: who waits now makes it busy."""
        if self.dispatcher.waiting:
            self._waited_at = now
            if not self.busy:
                self._turn(busy=True)

    def tick(self, now: float) -> None:
        """Now and then: processes that fell silent, calm again, larger blocks for those who used theirs up."""
        for name in [name for name, member in self._members.items() if now - member.heard_at > LOST_AFTER_S]:
            self._forget(name)
        self.settle(now)
        told = all(member.told_all for member in self._members.values())
        if self.busy and told and now - self._waited_at >= _CALM_AFTER_S:
            self._turn(busy=False)
            for member in self._members.values():
                self._lend(member, self._part_of_free())
        for member in self._members.values():
            if not self.busy and member.missed:
                self._lend(member, min(member.missed, self._part_of_free()))
            member.missed = 0
            member.to_tell = True

    def messages(self) -> Iterable[tuple[str, ToMember]]:
        """What there is to tell, and whom."""
        for name, member in self._members.items():
            if member.to_tell:
                member.to_tell = False
                block = 0 if self.busy else member.lent
                granted, refused = tuple(member.granted), tuple(member.refused)
                member.granted, member.refused = [], []
                yield name, ToMember(self.round, self.busy, block, granted, refused)

    def _turn(self, *, busy: bool) -> None:
        self.busy = busy
        self.round += 1
        for member in self._members.values():
            member.told_all = False
            member.to_tell = True

    def _lend(self, member: _Member, places: int) -> None:
        member.lent += places
        self.dispatcher.lent += places

    def _part_of_free(self) -> int:
        free = self.dispatcher.in_flight.limit - self.dispatcher.in_use
        return max(0, free // (_FREE_PART * (len(self._members) + 1)))

    def _reconcile(self, name: str, member: _Member, message: ToDesk, now: float) -> None:
        """It has these and no others."""
        if self.busy and message.round == self.round:
            self._lend(member, -member.lent)
            member.told_all = True
        # It is told the round at once: nobody else has a turn before all have told.
        member.to_tell |= message.round != self.round
        named = {request.id for request in message.entered}
        for id_ in [id_ for id_ in member.tickets if id_ not in named]:
            self._end(member, id_, None)
        for request in message.entered:
            known = member.tickets.get(request.id)
            if known is None:
                self._enter(name, member, request, now)
            elif known.state is State.RUNNING and not request.runs:
                # It was told, and the word may be lost: once more does no harm.
                self.grant(known)
            elif known.state is State.WAITING and request.runs:
                self._end(member, request.id, 0)
                self._enter(name, member, request, now)

    def _enter(self, name: str, member: _Member, request: Request, now: float) -> None:
        ticket = RemoteTicket(
            account=_account(request.account),
            bound=request.bound,
            weight=request.weight,
            priority=request.priority,
            arrived_at=now - request.waited_s,
            deadline=now + request.patience_s,
            member=name,
            id=request.id,
        )
        member.tickets[request.id] = ticket
        if request.runs:
            self.dispatcher.adopt(ticket, now)
            return
        try:
            if self.dispatcher.enter(ticket, now):
                self.grant(ticket)
        except LimitExceeded as refusal:
            self.refuse(ticket, refusal)

    def _end(self, member: _Member, id_: int, cost: int | None) -> None:
        """It does not wait or run any more. Without a cost nobody knows it, and it keeps its charge."""
        ticket = member.tickets.pop(id_, None)
        if ticket is not None:
            self.dispatcher.leave(ticket)
            self.dispatcher.finish(ticket, ticket.cost if cost is None else cost)

    def _forget(self, name: str) -> None:
        member = self._members[name]
        for id_ in tuple(member.tickets):
            self._end(member, id_, None)
        self._lend(member, -member.lent)
        del self._members[name]


def _account(text: str) -> Hashable:
    """As this process's own requests name it: by the tenant's id, or by a word."""
    try:
        return UUID(text)
    except ValueError:
        return text
