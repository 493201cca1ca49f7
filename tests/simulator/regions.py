"""Regions that offer a model, and gateways that route to them by the gateway's own pure code: `rank`, `Breaker`.

What a gateway knows is old: statuses are taken now and then, and not from regions that it cannot reach.
"""

import heapq
from dataclasses import dataclass, field
from random import Random

from chappe_kernel.breaker import Breaker
from chappe_kernel.routing import Candidate, rank

NAMES = ("fr-par", "de-fra", "it-mil", "es-mad", "nl-ams")
_STATUS_EVERY_S = 2.0
_STALE_S = 10.0


@dataclass
class Site:
    """One region's deployment: so many at once, others wait."""

    name: str
    limit: int
    prefill_s: float
    decode_s: float
    price_nano: int
    away: bool = False
    """Cut off from everybody."""
    drained: bool = False
    """Its gateway answers, its deployment does not."""
    running: int = 0
    waiting: int = 0

    def status(self, now: float) -> tuple[float, Candidate]:
        ttft_s = self.prefill_s * (1 + self.waiting / self.limit)
        return now, Candidate(
            self.name,
            answers=True,
            price_nano=self.price_nano,
            running=self.running,
            waiting=self.waiting,
            limit=self.limit,
            ttft_s=ttft_s,
        )


@dataclass
class Request:
    allowed: tuple[str, ...]
    tried: list[str] = field(default_factory=list)
    ran_in: str | None = None
    refused: bool = False


class Regions:
    """One gateway's requests over `seconds`. `run` plays a seed."""

    def __init__(self, seed: int) -> None:
        self.draw = Random(seed)  # noqa: S311  # a simulation
        draw = self.draw
        self.sites = {
            name: Site(name, draw.randint(1, 32), draw.uniform(0.02, 1.0), draw.uniform(0.2, 4.0), draw.randint(1, 100))
            for name in NAMES[: draw.randint(2, len(NAMES))]
        }
        self.breakers = {name: Breaker() for name in self.sites}
        self.seen: dict[str, tuple[float, Candidate]] = {}
        self.requests: list[Request] = []
        self.now = 0.0
        self._ends: list[tuple[float, int, str]] = []
        self._number = 0
        self._looked_at = -_STATUS_EVERY_S
        self.missed = 0
        """Refused although an allowed region could have taken it, and had told so."""
        self.unreachable_tries = 0

    def run(self, seconds: float = 120.0) -> None:
        while self.now < seconds:
            self.now += self.draw.expovariate(8.0)
            self._end_what_is_over()
            if self.draw.random() < 0.01:
                self._fault()
            if self.now - self._looked_at >= _STATUS_EVERY_S:
                self._look()
            self._ask()

    def _ask(self) -> None:
        names = list(self.sites)
        allowed = tuple(self.draw.sample(names, self.draw.randint(1, len(names))))
        request = Request(allowed)
        self.requests.append(request)
        reachable_before = {name for name in allowed if self._could_take(name)}
        while request.ran_in is None:
            left = [name for name in rank(allowed, self._candidates()) if name not in request.tried]
            if not left:
                request.refused = True
                break
            self._send(request, left[0])
        if request.refused and reachable_before:
            self.missed += 1

    def _could_take(self, name: str) -> bool:
        """By everything that the gateway knows and that is so."""
        site, seen = self.sites[name], self.seen.get(name)
        known = seen is not None and self.now - seen[0] <= _STALE_S
        return known and self.breakers[name].would_pass(self.now) and not site.away and not site.drained

    def _candidates(self) -> list[Candidate]:
        found = []
        for name, (at, known) in self.seen.items():
            fresh = self.now - at <= _STALE_S and self.breakers[name].would_pass(self.now)
            found.append(known if fresh else Candidate(name, answers=False, price_nano=known.price_nano))
        return found

    def _send(self, request: Request, name: str) -> None:
        request.tried.append(name)
        site, breaker = self.sites[name], self.breakers[name]
        if not breaker.take(self.now):
            return
        if site.away:
            self.unreachable_tries += 1
            breaker.failed(self.now, self.draw.random())
            return
        breaker.succeeded(self.now)
        if site.drained:
            # "Not admitted".
            return
        request.ran_in = name
        self._begin(site)

    def _begin(self, site: Site) -> None:
        if site.running >= site.limit:
            site.waiting += 1
            return
        site.running += 1
        self._number += 1
        over_at = self.now + site.prefill_s + self.draw.expovariate(1 / site.decode_s)
        heapq.heappush(self._ends, (over_at, self._number, site.name))

    def _end_what_is_over(self) -> None:
        while self._ends and self._ends[0][0] <= self.now:
            site = self.sites[heapq.heappop(self._ends)[2]]
            site.running -= 1
            if site.waiting:
                site.waiting -= 1
                self._begin(site)

    def _look(self) -> None:
        self._looked_at = self.now
        for name, site in self.sites.items():
            if site.away or site.drained:
                if site.drained and not site.away:
                    self.seen.pop(name, None)
                continue
            self.seen[name] = site.status(self.now)

    def _fault(self) -> None:
        site = self.draw.choice(list(self.sites.values()))
        if self.draw.random() < 0.5:
            site.away = not site.away
        else:
            site.drained = not site.drained
