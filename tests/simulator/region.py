"""One deployment, several gateway processes: the kernel's own code in each, and between them messages that take time.

What the region's Valkey does is modelled by a lease and a bus. It may be away, lose messages, or have a dispatcher die.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random

from chappe_kernel.errors import LimitExceeded
from chappe_kernel.fairness.line import State, Ticket
from chappe_kernel.fairness.office import LEASE_S, TICK_S, Envelope, Office
from chappe_kernel.fairness.post import Post, Role
from tests.simulator.scenarios import mixed
from tests.simulator.world import Asked, Report, Scenario, World

DEPLOYMENT = "model"
# After the last request: whatever was lost is made good by then.
_SETTLES_S = 10.0


@dataclass(frozen=True, slots=True)
class RegionFaults:
    """What happens between the processes. Times in virtual seconds, on average; 0 is never."""

    loses_part: float = 0.0
    """Of all messages."""
    valkey_away_every_s: float = 0.0
    valkey_away_for_s: float = 6.0
    dispatcher_dies_every_s: float = 0.0


NO_REGION_FAULTS = RegionFaults()


class RegionWorld(World):
    """Run it once."""

    def __init__(
        self,
        scenario: Scenario,
        gateways: int,
        faults: RegionFaults = NO_REGION_FAULTS,
        watch: "Callable[[World, float], None] | None" = None,
        *,
        pinned: bool = False,
    ) -> None:
        """`pinned`: each tenant comes to one process only, the first one to the first."""
        super().__init__(scenario, watch)
        self._pinned = {tenant.name: at for at, tenant in enumerate(scenario.tenants)} if pinned else {}
        self.longest_wait_s = 0.0
        self.waited = 0
        self.faults_between = faults
        self.processes = [self._new_process(f"gw-{number}", gateways) for number in range(gateways)]
        self.messages = self.deaths = self.overfull = 0
        self.roles: set[Role] = set()
        self.most_passed = 0
        """The most weighted tokens that ran by blocks at once: what may pass before it is recalled."""
        self._known_gateways = gateways
        self._valkey_away = False
        self._last_busy_at = 0.0
        self._lease: tuple[str, int, float] = ("", 0, 0.0)
        self._present: dict[str, float] = {}
        self._at_process: dict[Ticket, Office] = {}
        self._last_arrival: dict[tuple[str, str], float] = {}
        self._draw = Random(f"{scenario.seed} region")  # noqa: S311  # a simulation

    def run(self) -> dict[str, Report]:
        for process in self.processes:
            self._look(process, 0.0)
            self._at(self._draw.uniform(0, TICK_S), self._ticking(process))
        self._now_and_then(self.faults_between.dispatcher_dies_every_s, self._kill_dispatcher)
        self._now_and_then(self.faults_between.valkey_away_every_s, self._lose_valkey)
        return super().run()

    def kill_dispatcher_at(self, at: float) -> None:
        """Besides those of its faults. Before `run`."""
        self._at(at, self._kill_dispatcher)

    def is_empty(self) -> bool:
        """Whether nobody waits or runs, as far as any process knows."""
        posts = [process.posts[DEPLOYMENT] for process in self.processes if process.posts]
        return all(post.dispatcher.running == post.dispatcher.waiting == 0 and not post._own for post in posts)

    def _new_process(self, name: str, gateways: int) -> Office:
        scenario = self.scenario
        return Office(
            name, lambda _, peers: Post(scenario.capacity, peers, scenario.target, scenario.bounds), peers=gateways
        )

    def _enter(self, asked: Asked, now: float) -> bool:
        pinned = self._pinned.get(asked.tenant.name)
        process = self._draw.choice(self.processes) if pinned is None else self.processes[pinned % len(self.processes)]
        at_once = process.post(DEPLOYMENT, now).enter(asked.ticket, now)
        self.waited += not at_once
        self._at_process[asked.ticket] = process
        return at_once

    def _finish(self, asked: Asked, cost: int) -> None:
        self._at_process.pop(asked.ticket).posts[DEPLOYMENT].end(asked.ticket, cost)

    def _observe(self, asked: Asked, now: float) -> None:
        post = self._at_process[asked.ticket].posts[DEPLOYMENT]
        post.first_token(asked.ticket, now, asked.job.prompt_tokens)

    def _pump(self, now: float) -> None:
        for process in self.processes:
            post = process.posts.get(DEPLOYMENT)
            if post is None:
                continue
            self.roles.add(process.role)
            while True:
                granted, refused = post.outcomes(now)
                for ticket, refusal in refused:
                    self._refused(ticket, refusal, now)
                for ticket in granted:
                    assert ticket.state is State.RUNNING
                    self._send(ticket, now)
                if not granted:
                    break
        for process in self.processes:
            for receiver, envelope in process.envelopes(now):
                self._deliver(process, receiver, envelope, now)
        passed = sum(
            ticket.bound
            for process in self.processes
            for post in process.posts.values()
            if post._member is not None
            for ticket in post._member._passed
        )
        self.most_passed = max(self.most_passed, passed)

    def _send(self, ticket: Ticket, now: float) -> None:
        self.longest_wait_s = max(self.longest_wait_s, now - ticket.arrived_at)
        super()._send(ticket, now)

    def _refused(self, ticket: Ticket, refusal: LimitExceeded, now: float) -> None:
        self.longest_wait_s = max(self.longest_wait_s, now - ticket.arrived_at)
        asked = self._asked.pop(ticket)
        self._finish(asked, 0)
        report = self.reports[asked.tenant.name]
        if refusal.code == "queue_timeout":
            report.timed_out += 1
        else:
            report.refused += 1
        if asked.tenant.keeps_waiting:
            self._at(now + 0.01, lambda at: self._ask(asked.tenant, at))

    def _deliver(self, sender: Office, receiver: str, envelope: Envelope, now: float) -> None:
        self.messages += 1
        if self._valkey_away or self._draw.random() < self.faults_between.loses_part:
            return
        # One connection each: what was sent first arrives first.
        link = (sender.name, receiver)
        arrives_at = max(self._last_arrival.get(link, 0.0), now + self._draw.uniform(0.0002, 0.003))
        self._last_arrival[link] = arrives_at

        def arrive(at: float) -> None:
            for process in self.processes:
                if process.name == receiver and not self._valkey_away:
                    process.hear(envelope, at)
            if not self._valkey_away and all(process.name != receiver for process in self.processes):
                # Valkey tells a sender how many have listened.
                sender.nobody_listens(receiver, at)
                name, fence, until = self._lease
                if sender.deaf_holder(at) == (name, fence):
                    self._lease = (name, fence, min(until, at))
                    self._look(sender, at)

        self._at(arrives_at, arrive)

    def _ticking(self, process: Office) -> Callable[[float], None]:
        def tick(now: float) -> None:
            if process not in self.processes:
                return
            self._look(process, now)
            process.tick(now)
            if now < self.scenario.lasts_s or self._asked or self.running:
                self._last_busy_at = now
            if now < self._last_busy_at + _SETTLES_S:
                self._at(now + TICK_S, tick)

        return tick

    def _look(self, process: Office, now: float) -> None:
        """What the script in the region's Valkey does."""
        if self._valkey_away:
            return
        name, fence, until = self._lease
        if now >= until:
            name, fence = process.name, fence + 1
        if name == process.name:
            until = now + LEASE_S
        self._lease = (name, fence, until)
        self._present[process.name] = now + LEASE_S
        present = [name for name, ends in self._present.items() if ends > now]
        process.led_by(name, fence, present, now, now)
        for post in process.posts.values():
            post.resize(self._capacity, process.peers)

    @property
    def _capacity(self) -> int:
        return self._capacity_now or self.scenario.capacity

    _capacity_now = 0

    def _change_capacity(self, _: float) -> None:
        capacity = self.scenario.capacity
        self._capacity_now = self._random.randint(max(1, capacity // 2), capacity)

    def _lose_valkey(self, now: float) -> None:
        """FLUSHALL as well: what it knew is gone when it is back."""
        self._valkey_away = True

        def heal(_: float) -> None:
            self._valkey_away = False
            self._lease = ("", self._lease[1], 0.0)
            self._present.clear()

        self._at(now + self.faults_between.valkey_away_for_s, heal)

    def _kill_dispatcher(self, now: float) -> None:
        dead = next((process for process in self.processes if process.role is Role.DISPATCHER), None)
        if dead is None:
            return
        self.deaths += 1
        number = self.processes.index(dead)
        self.processes[number] = fresh = self._new_process(f"{dead.name}'", self._known_gateways)
        # As a gateway does before it takes a request.
        self._look(fresh, now)
        self._at(now + TICK_S, self._ticking(fresh))
        for ticket in [ticket for ticket, process in self._at_process.items() if process is dead]:
            self._died(ticket, now)

    def _died(self, ticket: Ticket, now: float) -> None:
        """Its client comes again, to another process."""
        if (asked := self._asked.pop(ticket, None)) is None:
            asked = self.running[ticket]
            self.engine.stop(asked.job, now)
            self._over(asked, now)
            was_waiting = False
        else:
            del self._at_process[ticket]
            ticket.state = State.OVER
            was_waiting = True
        self.reports[asked.tenant.name].broken_off += 1
        if asked.tenant.keeps_waiting and was_waiting:
            self._at(now + 0.01, lambda at: self._ask(asked.tenant, at))


def regional(seed: int) -> Scenario:
    """As `mixed`, with a pair that has more waiting than is dispatched while a message is on its way: so both always
    wait at the dispatcher, and the theorem says something of them."""
    scenario = mixed(seed)
    tenants = tuple(
        replace(tenant, keeps_waiting=tenant.keeps_waiting + 30) if tenant.keeps_waiting else tenant
        for tenant in scenario.tenants
    )
    return replace(scenario, tenants=tenants)


def gateways_of(seed: int) -> int:
    """How many a seed has: 2 to 5."""
    return 2 + seed % 4
