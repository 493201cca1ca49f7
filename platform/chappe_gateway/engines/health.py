"""Which engines of this region answer, as this gateway itself sees it."""

import asyncio
from collections.abc import Iterable

import msgspec
import structlog

from chappe_gateway.engines.upstream import HttpClient, UpstreamLost
from chappe_kernel.errors import Invalid
from chappe_kernel.wire.engine import EngineHealth, Feature

_log = structlog.get_logger()

_OK = 200
# A busy engine on few cores may be slow to answer once; two misses in a row are an outage.
_MISSES_UNTIL_UNHEALTHY = 2


class EngineHealthMonitor:
    """Asks each deployment's health once a second. Nothing is healthy until it has answered."""

    def __init__(self, engines: HttpClient, *, period_s: float = 1.0, timeout_s: float = 3.0) -> None:
        self._engines = engines
        self._period_s = period_s
        self._timeout_s = timeout_s
        self._misses: dict[str, int] = {}
        self._features: dict[str, tuple[str, ...]] = {}
        self.healthy: frozenset[str] = frozenset()

    def watch(self, deployments: Iterable[str]) -> None:
        """From now on look after exactly these."""
        names = set(deployments)
        self._misses = {name: self._misses.get(name, _MISSES_UNTIL_UNHEALTHY) for name in names}
        self.healthy &= names

    def has_feature(self, deployment: str, feature: Feature) -> bool:
        """As its engine said last; an engine that has not answered yet has none."""
        return feature in self._features.get(deployment, ())

    def expect_features(self, deployment: str, features: Iterable[Feature]) -> None:
        """Raises `Invalid` naming the parameter that this deployment's engine does not serve."""
        for feature in features:
            if not self.has_feature(deployment, feature):
                raise Invalid("this model cannot do this", code="unsupported_parameter", param=feature)

    def watched(self) -> tuple[str, ...]:
        return tuple(self._misses)

    async def check(self) -> None:
        """One round over all deployments at once."""
        await asyncio.gather(*(self._check_one(name) for name in tuple(self._misses)))

    async def run(self) -> None:
        """Check for ever."""
        while True:
            await self.check()
            await asyncio.sleep(self._period_s)

    async def _check_one(self, name: str) -> None:
        answers = await self._answers(name)
        if name not in self._misses:
            return
        self._misses[name] = 0 if answers else self._misses[name] + 1
        if answers and name not in self.healthy:
            self.healthy |= {name}
            _log.info("deployment_healthy", deployment=name)
        elif name in self.healthy and self._misses[name] >= _MISSES_UNTIL_UNHEALTHY:
            self.healthy -= {name}
            _log.warning("deployment_unhealthy", deployment=name)

    async def _answers(self, name: str) -> bool:
        try:
            reply = await self._engines.fetch(b"GET", b"/%b/health" % name.encode(), timeout_s=self._timeout_s)
        except (UpstreamLost, TimeoutError):
            return False
        if reply.status != _OK:
            return False
        try:
            self._features[name] = msgspec.json.decode(reply.body, type=EngineHealth).features
        except (msgspec.DecodeError, UnicodeDecodeError):
            return False
        return True
