"""A request's turn: it waits fairly, by `chappe_kernel.fairness`, before it is sent to an engine.

A request that finds room passes without waiting for anything. One that waits holds its budget and its place in the
limits; when its client leaves, its right is withdrawn or its time is over, it gives all of that back and was charged
nothing. The counters are the region's: `region_turns` carries what its processes tell each other.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from chappe_gateway.control_client import ControlClient, ControlUnreachable
from chappe_gateway.edge.call import Call
from chappe_gateway.engines.upstream import UpstreamLost
from chappe_gateway.settings import GatewaySettings
from chappe_kernel.clock import Clock
from chappe_kernel.errors import Invalid
from chappe_kernel.fairness.counters import cost_of
from chappe_kernel.fairness.dispatcher import QueueBounds
from chappe_kernel.fairness.in_flight import TtftTarget
from chappe_kernel.fairness.line import Priority, Ticket
from chappe_kernel.fairness.office import Office
from chappe_kernel.fairness.post import Post, Role
from chappe_kernel.rating import NO_COUNTS, Counts
from chappe_kernel.wire.control import KeyFacts

PRIORITY_HEADER = b"x-chappe-priority"
UNVERIFIED = "unverified"
"""The one account of all tenants that nobody has verified: founding more of them gains nothing."""
_CAPACITY_POLL_S = 10.0
_PRIORITIES = {priority.value.encode(): priority for priority in Priority}


class Turn:
    """A request's place at its deployment."""

    __slots__ = ("post", "ticket")

    def __init__(self, post: Post, ticket: Ticket) -> None:
        self.post = post
        self.ticket = ticket


class Queue(NamedTuple):
    """One deployment, as this process sees it."""

    deployment: str
    running: int
    waiting: int
    limit: int


class _Waiting:
    """Stands where the call's exchange will be: whoever ends the call ends its waiting."""

    __slots__ = ("turn_came",)

    def __init__(self, turn_came: "asyncio.Future[None]") -> None:
        self.turn_came = turn_came

    def abort(self) -> None:
        if not self.turn_came.done():
            self.turn_came.set_exception(UpstreamLost("the call ended while it waited for its turn"))


class Turns:
    """All posts of one gateway process, one for each deployment."""

    def __init__(self, settings: GatewaySettings, clock: Clock, control: ControlClient, name: str) -> None:
        """`name` is this process's, unique in the region."""
        self._settings = settings
        self._clock = clock
        self._control = control
        self._target = TtftTarget(settings.ttft_target_s, settings.prefill_tokens_per_s)
        self._bounds = QueueBounds(settings.queue_total, settings.queue_per_tenant)
        self._capacities: dict[str, int] = {}
        self._waiting: dict[Ticket, asyncio.Future[None]] = {}
        self.office = Office(name, self._new_post, settings.gateways_in_region)
        self.on_news: Callable[[], None] = lambda: None
        """Called when other processes have to be told something."""

    def take(self, call: Call, facts: KeyFacts, deployment: str, cost: int) -> Awaitable[None] | None:
        """Take a turn for so many weighted tokens at most; None when there was room, else what to wait for.

        Raises `LimitExceeded` when too many wait, `Invalid` for a priority that nobody knows. Waiting raises
        `LimitExceeded` too, and `UpstreamLost` when the call has ended. `end` must follow.
        """
        now = self._clock.monotonic()
        ticket = Ticket(
            account=_account(facts),
            bound=cost,
            weight=max(1, facts.share),
            priority=_priority(call),
            deadline=now + self._settings.queue_wait_s,
        )
        post = self.office.posts.get(deployment) or self.office.post(deployment, now)
        may_run = post.enter(ticket, now)
        call.turn = Turn(post, ticket)
        return None if may_run else self._wait(call, post, ticket)

    def first_token(self, call: Call, prompt_tokens: int) -> None:
        """It came now."""
        if call.turn is not None:
            call.turn.post.first_token(call.turn.ticket, self._clock.monotonic(), prompt_tokens)

    def end(self, call: Call, counts: Counts = NO_COUNTS) -> None:
        """The engine is done with it, or never had it. Safe to repeat."""
        if call.turn is not None:
            turn, call.turn = call.turn, None
            turn.post.end(turn.ticket, cost_of(counts.prompt_tokens, counts.completion_tokens))
            self._go_on(turn.post)

    def capacity(self, deployment: str) -> int:
        """This process's part of what Serve takes."""
        return max(1, self._capacity(deployment) // self.office.peers)

    def queues(self) -> list[Queue]:
        """Of every deployment that was asked for."""
        return [
            Queue(name, post.running, post.waiting, post.dispatcher.in_flight.limit)
            for name, post in self.office.posts.items()
        ]

    async def run(self) -> None:
        """Follow for ever how much Serve takes of each deployment."""
        while True:
            with contextlib.suppress(ControlUnreachable):
                await self.poll()
            await asyncio.sleep(_CAPACITY_POLL_S)

    async def poll(self) -> None:
        """One look at what should run here. Raises `ControlUnreachable`; what was known is true until then."""
        specs = await self._control.read_deployments()
        self._capacities = {spec.name: spec.replicas * spec.max_ongoing_requests for spec in specs}
        self.resize()

    def resize(self) -> None:
        """Serve takes more or less than it did, or the region has other processes."""
        for name, post in self.office.posts.items():
            post.resize(self._capacity(name), self.office.peers)
        self.go_on()

    def go_on(self) -> None:
        """Something happened that may concern everybody: other processes told something, or time has passed."""
        for post in self.office.posts.values():
            self._give_out(post)
        self.on_news()

    def _new_post(self, deployment: str, peers: int) -> Post:
        return Post(self._capacity(deployment), peers, self._target, self._bounds)

    def _capacity(self, deployment: str) -> int:
        """What Serve takes; before that is known, whatever the gateway takes."""
        return self._capacities.get(deployment, self._settings.max_in_flight)

    async def _wait(self, call: Call, post: Post, ticket: Ticket) -> None:
        loop = asyncio.get_running_loop()
        turn_came = self._waiting[ticket] = loop.create_future()
        call.exchange = _Waiting(turn_came)
        # A client that left before there was anything to wake.
        if call.gone or call.cut:
            call.exchange.abort()
        timer = loop.call_later(self._settings.queue_wait_s, self._go_on, post)
        came = False
        try:
            self._go_on(post)
            await turn_came
            came = True
        finally:
            timer.cancel()
            call.queued_s = self._clock.monotonic() - ticket.arrived_at
            call.exchange = None
            del self._waiting[ticket]
            if not came:
                self.end(call)

    def _go_on(self, post: Post) -> None:
        """Whoever may run now runs, and whoever has waited too long is told so."""
        if post.has_news:
            self._give_out(post)
            if post.role is not Role.ALONE:
                self.on_news()

    def _give_out(self, post: Post) -> None:
        while True:
            granted, refused = post.outcomes(self._clock.monotonic())
            for ticket, refusal in refused:
                turn_came = self._waiting.get(ticket)
                if turn_came is not None and not turn_came.done():
                    turn_came.set_exception(refusal)
            has_left = False
            for ticket in granted:
                turn_came = self._waiting.get(ticket)
                if turn_came is None or turn_came.done():
                    # Its call has ended, and has not got round to leaving yet.
                    post.end(ticket, 0)
                    has_left = True
                else:
                    turn_came.set_result(None)
            if not has_left:
                return


def _account(facts: KeyFacts) -> object:
    return facts.tenant_id if facts.verified else UNVERIFIED


def _priority(call: Call) -> Priority:
    if PRIORITY_HEADER not in call.named:
        return Priority.STANDARD
    for name, value in call.headers:
        if name == PRIORITY_HEADER:
            priority = _PRIORITIES.get(value.strip().lower())
            if priority is None:
                raise Invalid(
                    f"`x-chappe-priority` is one of {', '.join(Priority)}",
                    code="invalid_value",
                    param="x-chappe-priority",
                )
            return priority
    return Priority.STANDARD
