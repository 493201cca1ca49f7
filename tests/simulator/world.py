"""One deployment with its dispatcher, its engine and its tenants, in virtual time: the kernel's own code, no clock."""

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from chappe_kernel.errors import LimitExceeded
from chappe_kernel.fairness.counters import cost_of
from chappe_kernel.fairness.dispatcher import Dispatcher, QueueBounds
from chappe_kernel.fairness.in_flight import InFlightLimit, TtftTarget
from chappe_kernel.fairness.line import Priority, State, Ticket
from tests.simulator.engine import GPU, Engine, EngineModel, Job


@dataclass(frozen=True, slots=True)
class Tenant:
    """Who asks, how often and for what. Tokens are drawn evenly between two bounds."""

    name: str
    requests_per_s: float = 0.0
    keeps_waiting: int = 0
    """It always has so many requests waiting, instead of asking now and then."""
    prompt_tokens: tuple[int, int] = (50, 1500)
    completion_tokens: tuple[int, int] = (20, 400)
    overstates: float = 4.0
    """Its bounds are up to so many times what a request really uses."""
    weight: int = 1
    priority: Priority = Priority.STANDARD
    account: str = ""
    """Shared by tenants that are unverified; else its own."""
    leaves_after_s: float | None = None
    """A part of its clients do not wait longer than this for the whole answer."""
    from_s: float = 0.0
    until_s: float = float("inf")


@dataclass(frozen=True, slots=True)
class Faults:
    """How often in virtual seconds, on average; 0 is never."""

    engine_fails_every_s: float = 0.0
    """All that runs breaks off."""
    engine_stalls_every_s: float = 0.0
    capacity_changes_every_s: float = 0.0


_LEAVING_PART = 0.3
NO_FAULTS = Faults()
TARGET = TtftTarget(base_s=0.5, prefill_tokens_per_s=2_000.0)
BOUNDS = QueueBounds()


@dataclass(frozen=True, slots=True)
class Scenario:
    seed: int
    tenants: tuple[Tenant, ...]
    lasts_s: float
    engine: EngineModel = GPU
    capacity: int = 64
    target: TtftTarget = TARGET
    bounds: QueueBounds = BOUNDS
    patience_s: float = 30.0
    faults: Faults = NO_FAULTS


@dataclass(slots=True)
class Report:
    """What became of one tenant's requests. Tokens are weighted."""

    asked: int = 0
    refused: int = 0
    timed_out: int = 0
    left: int = 0
    broken_off: int = 0
    done: int = 0
    tokens: int = 0
    ttft_s: list[float] = field(default_factory=list)

    def p99_ttft_s(self) -> float:
        ordered = sorted(self.ttft_s)
        return ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))] if ordered else 0.0


@dataclass(slots=True, eq=False)
class Asked:
    """One request, from when it came until its ticket's state says that it is over."""

    tenant: Tenant
    ticket: Ticket
    job: Job


class World:
    """Run it once. `watch(now)` is called before and after whatever happens."""

    def __init__(self, scenario: Scenario, watch: "Callable[[World, float], None] | None" = None) -> None:
        self.scenario = scenario
        self.reports = {tenant.name: Report() for tenant in scenario.tenants}
        self.dispatcher = Dispatcher(InFlightLimit(scenario.capacity, scenario.target), scenario.bounds)
        self.engine = Engine(scenario.engine, self._at)
        self.most_reserved = 0
        """The most weighted tokens that were in flight at once, by their bounds: the U of the theorem."""
        self.most_running = 0
        self.least_limit = scenario.capacity
        self.running: dict[Ticket, Asked] = {}
        self._reserved = 0
        self._asked: dict[Ticket, Asked] = {}
        self._random = Random(scenario.seed)  # noqa: S311  # a simulation
        # Each tenant's own, so that it asks the same whoever else is there.
        self._draws = {tenant.name: Random(f"{scenario.seed} {tenant.name}") for tenant in scenario.tenants}  # noqa: S311
        self._calendar: list[tuple[float, int, Callable[[float], None]]] = []
        self._number = 0
        self._watch = watch

    def run(self) -> dict[str, Report]:
        """Until the scenario's time is over, and then until nobody waits or runs any more."""
        for tenant in self.scenario.tenants:
            self._at(tenant.from_s, self._come(tenant))
        faults = self.scenario.faults
        self._now_and_then(faults.engine_fails_every_s, self._fail)
        self._now_and_then(faults.engine_stalls_every_s, lambda now: self.engine.stall(now + 1.0))
        self._now_and_then(faults.capacity_changes_every_s, self._change_capacity)
        while self._calendar:
            now, _, do = heapq.heappop(self._calendar)
            if self._watch is not None and now < self.scenario.lasts_s:
                self._watch(self, now)
            do(now)
            self._pump(now)
            if self._watch is not None and now < self.scenario.lasts_s:
                self._watch(self, now)
        return self.reports

    def served(self, name: str, now: float) -> int:
        """Weighted tokens that the engine has worked off for this tenant."""
        running = sum(
            cost_of(*asked.job.tokens_at(now)) for asked in self.running.values() if asked.tenant.name == name
        )
        return self.reports[name].tokens + running

    def waiting_of(self, name: str) -> int:
        return sum(1 for asked in self._asked.values() if asked.tenant.name == name)

    def _at(self, time: float, do: Callable[[float], None]) -> None:
        self._number += 1
        heapq.heappush(self._calendar, (time, self._number, do))

    def _come(self, tenant: Tenant) -> Callable[[float], None]:
        def come(now: float) -> None:
            if now >= min(tenant.until_s, self.scenario.lasts_s):
                return
            if tenant.keeps_waiting:
                for _ in range(tenant.keeps_waiting):
                    self._ask(tenant, now)
                return
            self._ask(tenant, now)
            self._at(now + self._draws[tenant.name].expovariate(tenant.requests_per_s), come)

        return come

    def _ask(self, tenant: Tenant, now: float) -> None:
        draw = self._draws[tenant.name]
        job = Job(draw.randint(*tenant.prompt_tokens), draw.randint(*tenant.completion_tokens))
        more = draw.uniform(1.0, tenant.overstates)
        ticket = Ticket(
            account=tenant.account or tenant.name,
            bound=int(cost_of(job.prompt_tokens, job.completion_tokens) * more),
            weight=tenant.weight,
            priority=tenant.priority,
            deadline=now + self.scenario.patience_s,
        )
        asked = Asked(tenant, ticket, job)
        self.reports[tenant.name].asked += 1
        try:
            at_once = self._enter(asked, now)
        except LimitExceeded:
            self.reports[tenant.name].refused += 1
            return
        self._asked[ticket] = asked
        if tenant.leaves_after_s is not None and draw.random() < _LEAVING_PART:
            self._at(now + draw.uniform(0, tenant.leaves_after_s), lambda at: self._leave(asked, at))
        if at_once:
            self._send(ticket, now)
        else:
            self._at(ticket.deadline, lambda _: None)

    def _enter(self, asked: Asked, now: float) -> bool:
        return self.dispatcher.enter(asked.ticket, now)

    def _finish(self, asked: Asked, cost: int) -> None:
        self.dispatcher.leave(asked.ticket)
        self.dispatcher.finish(asked.ticket, cost)

    def _observe(self, asked: Asked, now: float) -> None:
        self.dispatcher.in_flight.observe(asked.job.sent_at, now, asked.job.prompt_tokens)
        self.least_limit = min(self.least_limit, self.dispatcher.in_flight.limit)

    def _pump(self, now: float) -> None:
        for ticket in self.dispatcher.expired(now):
            self.reports[self._asked.pop(ticket).tenant.name].timed_out += 1
        while (ticket_or_none := self.dispatcher.next(now)) is not None:
            self._send(ticket_or_none, now)

    def _send(self, ticket: Ticket, now: float) -> None:
        asked = self._asked.pop(ticket)
        assert ticket not in self.running
        self.running[ticket] = asked
        self.most_running = max(self.most_running, len(self.running))
        self._reserved += ticket.bound
        self.most_reserved = max(self.most_reserved, self._reserved)
        self.engine.send(asked.job, now, lambda _, at: self._first(asked, at), lambda _, at: self._end(asked, at))
        if asked.tenant.keeps_waiting and now < min(asked.tenant.until_s, self.scenario.lasts_s):
            self._ask(asked.tenant, now)

    def _first(self, asked: Asked, now: float) -> None:
        self.reports[asked.tenant.name].ttft_s.append(now - asked.ticket.arrived_at)
        self._observe(asked, now)

    def _end(self, asked: Asked, now: float) -> None:
        self._over(asked, now)
        self.reports[asked.tenant.name].done += 1

    def _leave(self, asked: Asked, now: float) -> None:
        if asked.ticket.state is State.WAITING:
            self._finish(asked, 0)
            del self._asked[asked.ticket]
        elif asked.ticket.state is State.RUNNING:
            self.engine.stop(asked.job, now)
            self._over(asked, now)
        else:
            return
        self.reports[asked.tenant.name].left += 1
        if asked.tenant.keeps_waiting:
            self._ask(asked.tenant, now)

    def _fail(self, now: float) -> None:
        for asked in tuple(self.running.values()):
            self.engine.stop(asked.job, now)
            self._over(asked, now)
            self.reports[asked.tenant.name].broken_off += 1

    def _over(self, asked: Asked, now: float) -> None:
        cost = cost_of(*asked.job.tokens_at(now))
        del self.running[asked.ticket]
        self._reserved -= asked.ticket.bound
        self.reports[asked.tenant.name].tokens += cost
        self._finish(asked, cost)

    def _change_capacity(self, _: float) -> None:
        capacity = self.scenario.capacity
        self.dispatcher.in_flight.resize(self._random.randint(max(1, capacity // 2), capacity))

    def _now_and_then(self, every_s: float, do: Callable[[float], None]) -> None:
        def again(now: float) -> None:
            if now < self.scenario.lasts_s:
                do(now)
                self._at(now + self._random.expovariate(1 / every_s), again)

        if every_s:
            self._at(self._random.expovariate(1 / every_s), again)
