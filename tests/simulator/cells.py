"""Two regions with gateways that admit by the gateway's own pure code: residency, rate limits, holds inside grants.

Fairness has a world of its own (`world.py`). Here requests begin and end at random, messages get lost, gateways die,
and the sums must be right. What the region's Redis and the control plane do is modelled by the few lines that decide.
"""

from collections import defaultdict
from dataclasses import dataclass, field
from random import Random
from uuid import UUID

from chappe_gateway.limits.limits import LocalShare, Unit, Window
from chappe_gateway.money.grants import Hold, LeasedGrant, TenantBook
from chappe_kernel.residency import Elsewhere, Here, decide

REGIONS = ("fr-par", "de-fra")
_ADMIT_S, _SETTLE_S, _RELEASE_S = 30.0, 120.0, 200.0
_MINUTE_S = 60


@dataclass
class Bank:
    """What the control plane decides: `posted + pending` never exceeds the funds."""

    funds: int
    posted: int = 0
    lent: dict[UUID, tuple[int, float]] = field(default_factory=dict)
    """What is pending of each grant, and until when."""

    def lend(self, grant: UUID, wanted: int, least: int, now: float) -> int:
        self.lent = {name: (amount, until) for name, (amount, until) in self.lent.items() if until > now}
        free = self.funds - self.posted - sum(amount for amount, _ in self.lent.values())
        amount = min(wanted, free)
        if amount < least:
            return 0
        self.lent[grant] = (amount, now + _RELEASE_S)
        return amount

    def take_off(self, grant: UUID, amount: int) -> int:
        """As much of it as is still pending."""
        pending, until = self.lent.get(grant, (0, 0.0))
        taken = min(amount, pending)
        if grant in self.lent:
            self.lent[grant] = (pending - taken, until)
        return taken


@dataclass(eq=False)
class Gateway:
    region: str
    window: Window
    share: LocalShare = field(default_factory=LocalShare)
    book: TenantBook = field(default_factory=TenantBook)
    told: dict[UUID, int] = field(default_factory=dict)


@dataclass
class Running:
    gateway: Gateway
    hold: Hold
    minute: int | None
    tokens: int


class Cells:
    """One tenant. `run` plays a seed; what must hold is checked at each step."""

    def __init__(self, seed: int) -> None:
        self.draw = Random(seed)  # noqa: S311  # a simulation
        self.allowed = self.draw.choice((REGIONS, REGIONS[:1], REGIONS[1:]))
        self.limit = self.draw.choice((1_000, 20_000, 500_000))
        self.bank = Bank(self.draw.choice((10_000, 1_000_000)))
        self.gateways = [
            Gateway(region, Window(self.limit)) for region in REGIONS for _ in range(self.draw.randint(1, 3))
        ]
        self.running: list[Running] = []
        self.charged = 0
        self.counted: dict[tuple[str, int], int] = defaultdict(int)
        """What each region's Redis has leased of a minute."""
        self.used: dict[tuple[str, int], int] = defaultdict(int)
        self.used_alone: dict[tuple[str, int], int] = defaultdict(int)
        """Without Redis."""
        self.now = 0.0
        self.redis_away = False
        self.control_away = False
        self.admitted = self.refused = self.deaths = 0

    def run(self, steps: int = 400) -> None:
        for _ in range(steps):
            self.now += self.draw.expovariate(2.0)
            self.draw.choices((self._ask, self._end, self._faults), weights=(10, 9, 1))[0]()
            self._check()
        self.control_away = False
        while self.running:
            self._end()
        for gateway in self.gateways:
            gateway.book.retire_all()
            self._give_back(gateway)
        self._check()
        self.now += _RELEASE_S
        self.bank.lend(UUID(int=0), 0, 1, self.now)
        # All that was lent has come back or was released; all that was charged is posted.
        assert self.bank.lent == {}
        assert self.bank.posted == self.charged

    def _ask(self) -> None:
        gateway = self.draw.choice(self.gateways)
        match decide(self.allowed, gateway.region, frozenset(REGIONS)):
            case Here():
                pass
            case Elsewhere(region):
                gateway = next(other for other in self.gateways if other.region == region)
            case _:
                return
        tokens = self.draw.randint(1, 900)
        minute = self._take(gateway, tokens)
        if minute is False:
            self.refused += 1
            return
        hold = gateway.book.hold(self.now, tokens) or self._hold_after_asking(gateway, tokens)
        if hold is None:
            self.refused += 1
            if isinstance(minute, int):
                gateway.window.give_back(self.now, minute, tokens)
                self.used[gateway.region, minute] -= tokens
            return
        self.admitted += 1
        self.running.append(Running(gateway, hold, minute, tokens))

    def _take(self, gateway: Gateway, tokens: int) -> "int | bool | None":
        """The minute that it counts in; None for the gateway's own share; False when refused."""
        window, minute = gateway.window, int(self.now // _MINUTE_S)
        if not window.take(self.now, tokens):
            if self.redis_away:
                peers = sum(other.region == gateway.region for other in self.gateways)
                if not gateway.share.take(minute, max(1, self.limit // peers), tokens):
                    return False
                self.used_alone[gateway.region, minute] += tokens
                return None
            self._lease(gateway, tokens)
            if not window.take(self.now, tokens):
                return False
        self.used[gateway.region, window.minute] += tokens
        return window.minute

    def _lease(self, gateway: Gateway, tokens: int) -> None:
        """What the script in the region's Redis does, whose clock is ours."""
        window, minute = gateway.window, int(self.now // _MINUTE_S)
        here = window.left if self.now < window.ends_at else 0
        least = max(1, tokens - here)
        free = max(0, self.limit - self.counted[gateway.region, minute])
        granted = min(least + min(window.spare(self.now, Unit.TOKENS), free // 32), free)
        granted = 0 if granted < least else granted
        self.counted[gateway.region, minute] += granted
        window.lease(self.now, minute, granted, _MINUTE_S - self.now % _MINUTE_S, free - granted)

    def _hold_after_asking(self, gateway: Gateway, tokens: int) -> Hold | None:
        if self.control_away:
            return None
        name = UUID(int=self.draw.getrandbits(128))
        amount = self.bank.lend(name, self.draw.randint(tokens, 20_000), tokens, self.now)
        if not amount or self.draw.random() < 0.05:
            # Refused, or lost on its way back: then it is pending until its release.
            return None
        now = self.now
        gateway.book.retire_oldest()
        gateway.book.add(LeasedGrant(name, amount, now, now + _ADMIT_S, now + _SETTLE_S, now + _RELEASE_S))
        return gateway.book.hold(self.now, tokens)

    def _end(self) -> None:
        if not self.running:
            return
        running = self.running.pop(self.draw.randrange(len(self.running)))
        gateway, hold = running.gateway, running.hold
        used = self.draw.choice((0, running.tokens, self.draw.randint(0, running.tokens)))
        # Streams are cut when their grant must be settled.
        is_late = self.now >= hold.grant.release_at
        gateway.book.settle(hold, 0 if is_late else used)
        if not is_late:
            self.charged += used
            self.bank.posted += self.bank.take_off(hold.grant.grant_id, used)
        if running.minute is not None:
            before = gateway.window.left
            gateway.window.give_back(self.now, running.minute, running.tokens - used)
            self.used[gateway.region, running.minute] -= gateway.window.left - before
        self._give_back(gateway)

    def _give_back(self, gateway: Gateway) -> None:
        """Returns are cumulative; one that is lost is made good by the next."""
        if self.control_away:
            return
        for grant, (returned, _) in gateway.book.due_returns.items():
            self.bank.take_off(grant, returned - gateway.told.get(grant, 0))
            gateway.told[grant] = returned
        gateway.book.due_returns.clear()

    def _faults(self) -> None:
        match self.draw.choice(("redis", "control", "recall", "death")):
            case "redis":
                self.redis_away = not self.redis_away
            case "control":
                self.control_away = not self.control_away
            case "recall":
                gateway = self.draw.choice(self.gateways)
                gateway.book.give_back_idle()
                self._give_back(gateway)
            case _:
                self._die()

    def _die(self) -> None:
        """All that a gateway held is gone with it; what it had leased is pending until its release."""
        dead = self.draw.choice(self.gateways)
        self.deaths += 1
        self.running = [running for running in self.running if running.gateway is not dead]
        # A process that starts again has its share of the minute anew: that is beyond what is promised without Redis.
        self.gateways[self.gateways.index(dead)] = Gateway(dead.region, Window(self.limit), dead.share)

    def _check(self) -> None:
        pending = sum(amount for amount, until in self.bank.lent.values() if until > self.now)
        assert self.bank.posted + pending <= self.bank.funds
        assert self.bank.posted == self.charged
        assert all(self.counted[at] <= self.limit for at in self.counted)
        assert all(used <= self.limit for used in self.used.values())
        # Redis lost: at most one extra limit in that minute.
        assert all(used <= self.limit for used in self.used_alone.values())
        for running in self.running:
            assert running.gateway.region in self.allowed
        for gateway in self.gateways:
            for grant in gateway.book.admitting:
                assert grant.held_nano + grant.spent_nano + grant.returned_nano <= grant.amount_nano
