"""Whoever dies and whenever records come: one event a request, by the engine only when its gateway is gone for good.

A cell in memory: two gateways that die and come back, engines that report now, later or never, time that passes. The
real matcher runs in it, against registers and a stream that are plain lists.
"""

from collections.abc import AsyncIterator, Coroutine
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeVar
from uuid import UUID

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from chappe_gateway.usage.matcher import Matcher
from chappe_gateway.usage.slips import Slip, SlipSeal
from chappe_gateway.usage.spool import Life
from chappe_kernel.ids import REQUEST, encode_id, new_id
from chappe_kernel.rating import Counts, Outcome, Price, charge
from chappe_kernel.wire.control import UsageEvent
from chappe_kernel.wire.engine import End, EngineRecord

PRICE = Price(60, 15, 210, 0)
BOUND = 40
SILENCE_S = 60.0
NOW = datetime(2026, 11, 22, tzinfo=UTC)
T = TypeVar("T")


def done(work: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine that has nothing to wait for."""
    try:
        work.send(None)
    except StopIteration as stopped:
        result: T = stopped.value
        return result
    raise AssertionError("it waited")


@dataclass
class Request:
    """The truth about one request, which no part of the system sees as a whole."""

    id: UUID
    slip: str
    gateway: str
    life: UUID
    tokens: int = 0
    running: bool = True
    reported: Counts | None = None

    def counts(self) -> Counts:
        return Counts(10, 0, self.tokens)


@dataclass
class Register:
    """A spool as the matcher sees it."""

    events: dict[UUID, UsageEvent] = field(default_factory=dict)
    others: list[UsageEvent] = field(default_factory=list)

    async def find(self, request_ids: list[UUID]) -> dict[UUID, UsageEvent]:
        return {key: self.events[key] for key in request_ids if key in self.events}

    async def commit(self, event: UsageEvent) -> None:
        assert event.request_id not in self.events, "a second event"
        self.events[event.request_id] = event

    async def commit_other_story(self, event: UsageEvent) -> None:
        assert event.request_id in self.events
        self.others.append(event)


class Stream:
    """The region's records."""

    def __init__(self) -> None:
        self.records: list[EngineRecord] = []
        self.away = False

    def is_set(self) -> bool:
        return not self.away

    @property
    def following(self) -> "Stream":
        return self

    async def scan(self, after: str) -> AsyncIterator[list[tuple[int, EngineRecord]]]:
        if self.away:
            raise ConnectionError
        at = int(after.partition("-")[0])
        yield [(at + number + 1, record) for number, record in enumerate(self.records[at:])]


class Gate:
    """One gateway over its lives: `matcher` is None while it is dead."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.register = Register()
        self.lives: list[Life] = []
        self.matcher: Matcher | None = None
        self.own_collected = True
        self.adopted: dict[str, tuple[list[Life], Any]] = {}


class CellMachine(RuleBasedStateMachine):
    """Also the clock of its matchers."""

    def __init__(self) -> None:
        super().__init__()
        self.time = 0.0
        self.stream = Stream()
        self.gates = {name: Gate(name) for name in ("a", "b")}
        self.requests: list[Request] = []
        self.held_back: list[EngineRecord] = []

    def monotonic(self) -> float:
        return self.time

    def now(self) -> datetime:
        return NOW

    @initialize()
    def both_start(self) -> None:
        for gate in self.gates.values():
            self._start(gate)

    def _start(self, gate: Gate) -> None:
        life = Life(new_id(), "fr-par", gate.name, f"{len(self.stream.records)}-0")
        seal = SlipSeal("credential", "fr-par", life.id)
        gate.matcher = Matcher(self.stream, seal, self, SILENCE_S)  # type: ignore[arg-type]  # as much as it uses
        gate.lives.append(life)
        gate.own_collected = len(gate.lives) == 1
        gate.adopted.clear()

    def _alive(self) -> list[Gate]:
        return [gate for gate in self.gates.values() if gate.matcher is not None]

    def _unsettled(self, gate: Gate) -> list[Request]:
        if gate.matcher is None:
            return []
        life = gate.lives[-1].id
        return [one for one in self.requests if one.life == life and one.id not in gate.register.events]

    @rule(name=st.sampled_from("ab"))
    def admit(self, name: str) -> None:
        gate = self.gates[name]
        if gate.matcher is None:
            return
        life = gate.lives[-1].id
        request_id = new_id()
        slip = Slip(
            request_id=request_id,
            tenant_id=new_id(),
            project_id=new_id(),
            key_id=new_id(),
            grant_id=new_id(),
            price_version=new_id(),
            listing="model",
            price=(60, 15, 210, 0),
            hold_nano=10**6,
            max_prompt_tokens=BOUND,
            max_completion_tokens=BOUND,
            started_at=NOW,
        )
        sealed = SlipSeal("credential", "fr-par", life).seal(slip)
        self.requests.append(Request(request_id, sealed, name, life))

    @precondition(lambda self: self.requests)
    @rule(data=st.data(), tokens=st.integers(0, 5), ends=st.booleans(), late=st.booleans())
    def work(self, data: st.DataObject, tokens: int, ends: bool, late: bool) -> None:
        """An engine makes tokens and reports them: to the stream, or to a file that is sent later."""
        request = data.draw(st.sampled_from(self.requests))
        if not request.running:
            return
        request.tokens = min(BOUND, request.tokens + tokens)
        request.running = not ends
        end = End("completed", request.counts()) if ends else None
        record = EngineRecord(encode_id(REQUEST, request.id), 1, request.counts(), end, request.slip)
        if late or self.held_back or self.stream.away:
            self.held_back.append(record)
        else:
            self._write(record)

    @rule()
    def files_are_sent(self) -> None:
        if not self.stream.away:
            while self.held_back:
                self._write(self.held_back.pop(0))

    def _write(self, record: EngineRecord) -> None:
        self.stream.records.append(record)
        request = next(one for one in self.requests if encode_id(REQUEST, one.id) == record.request_id)
        request.reported = record.counts
        for gate in self._alive():
            if gate.matcher is not None and request not in self._unsettled(gate):
                gate.matcher.hear(record, len(self.stream.records))

    @precondition(lambda self: self.requests)
    @rule(data=st.data(), blind=st.booleans(), shown=st.integers(0, 5))
    def gateway_settles(self, data: st.DataObject, blind: bool, shown: int) -> None:
        """By the engine's count, in band, or without it by what it delivered."""
        waiting = [(gate, request) for gate in self._alive() for request in self._unsettled(gate)]
        if not waiting:
            return
        gate, request = data.draw(st.sampled_from(waiting))
        delivered = Counts(10, 0, min(shown, request.tokens))
        request.running = request.running and blind
        counts = delivered if blind else request.counts()
        if blind and gate.matcher is not None:
            gate.matcher.doubt(encode_id(REQUEST, request.id))
        event = UsageEvent(
            request_id=request.id,
            tenant_id=new_id(),
            project_id=new_id(),
            key_id=new_id(),
            grant_id=new_id(),
            listing="model",
            price_version=new_id(),
            outcome=Outcome.DISCONNECTED,
            counts=counts,
            amount_nano=charge(PRICE, Outcome.DISCONNECTED, counts),
            hold_nano=10**6,
            started_at=NOW,
            finished_at=NOW,
            attempt=1,
            delivered=delivered,
            generated=None if blind else counts,
        )
        done(gate.register.commit(event))

    @rule(name=st.sampled_from("ab"))
    def kill(self, name: str) -> None:
        self.gates[name].matcher = None

    @rule(name=st.sampled_from("ab"))
    def come_back(self, name: str) -> None:
        if self.gates[name].matcher is None:
            self._start(self.gates[name])

    @rule()
    def redis_goes(self) -> None:
        self.stream.away = True

    @rule()
    def redis_returns(self) -> None:
        if self.stream.away:
            self.stream.away = False
            for gate in self._alive():
                if gate.matcher is not None:
                    gate.matcher.listen_again()
                    gate.matcher.listened()

    @rule(seconds=st.sampled_from([1.0, 30.0, 70.0]))
    def time_passes(self, seconds: float) -> None:
        """Redis hangs for no longer than it takes to notice."""
        for _ in range(int(seconds)):
            self.time += 1
            for gate in self._alive():
                if gate.matcher is not None and not self.stream.away:
                    gate.matcher.listened()

    @rule(name=st.sampled_from("ab"))
    def look(self, name: str) -> None:
        """What each gateway does now and then: its own register, and the other's if nobody lives there."""
        gate = self.gates[name]
        if gate.matcher is None or self.stream.away:
            return
        register: Any = gate.register
        if not gate.own_collected:
            gate.own_collected = done(gate.matcher.take_over(register, gate.lives[:-1], gate.matcher.own))
        done(gate.matcher.settle_due(register, gate.matcher.own))
        [other] = [one for one in self.gates.values() if one is not gate]
        register = other.register
        lives, cases = gate.adopted.get(other.name, ([], None))
        if other.matcher is not None:
            gate.matcher.let_go(lives)
            gate.adopted.pop(other.name, None)
            return
        if lives != other.lives:
            gate.matcher.let_go(lives)
            cases = gate.matcher.new_cases()
            done(gate.matcher.take_over(register, other.lives, cases))
            gate.adopted[other.name] = (list(other.lives), cases)
        done(gate.matcher.settle_due(register, cases))

    @invariant()
    def nobody_judges_for_a_living_gateway(self) -> None:
        for gate in self._alive():
            for request in self.requests:
                event = gate.register.events.get(request.id)
                if event is not None and request.life == gate.lives[-1].id:
                    assert event.settled_by == "gateway"

    @invariant()
    def charges_are_within_what_was_made(self) -> None:
        for request in self.requests:
            event = self.gates[request.gateway].register.events.get(request.id)
            if event is not None:
                assert event.counts.completion_tokens <= request.tokens
                assert event.amount_nano == charge(PRICE, event.outcome, event.counts)

    def teardown(self) -> None:
        """In the end all reports arrive, gateways come back, and it is quiet for long enough."""
        self.redis_returns()
        for name in self.gates:
            self.come_back(name)
            self.look(name)
        for request in self.requests:
            request.running = False
        self.files_are_sent()
        self.time_passes(SILENCE_S)
        for name in self.gates:
            self.look(name)
        for request in self.requests:
            register = self.gates[request.gateway].register
            event = register.events.get(request.id)
            is_lost = request.life != self.gates[request.gateway].lives[-1].id
            if event is None:
                assert not is_lost or request.reported is None
                continue
            stories = [other for other in register.others if other.request_id == request.id]
            latest = [event, *stories][-1]
            if request.reported is not None and (event.settled_by == "engine" or is_lost):
                # The last report is charged, or known to be what should have been.
                made = request.reported.completion_tokens
                assert latest.counts.completion_tokens == made or made < event.counts.completion_tokens


CellMachine.TestCase.settings = settings(max_examples=100, stateful_step_count=60, deadline=None)
TestTheCell = CellMachine.TestCase
