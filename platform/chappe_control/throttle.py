"""Throttles of the control plane's edge: calls per fixed minute, counted in Redis.

They protect the service, not money: with Redis away they let everything pass, and the log says so.
"""

import ipaddress
from typing import Any

import structlog
from litestar.connection import ASGIConnection
from msgspec import Struct
from redis.asyncio import Redis
from redis.exceptions import RedisError

from chappe_kernel.clock import Clock
from chappe_kernel.errors import LimitExceeded
from chappe_kernel.waiting import answered

_PREFIX = "chappe:throttle"
_WINDOW_S = 60
# After a failure Redis is left alone for a while, so that a dead one costs one time-out and not one per call.
_REST_S = 5.0
# A throttle must not cost more than the call that it guards.
_TIMEOUT_S = 0.25
_IPV6_SITE_BITS = 64

_log = structlog.get_logger()


class Noted(Struct, frozen=True):
    """One event that was counted. `seen` is how many there were in its minute, with it; 0 with Redis away."""

    key: str
    seen: int


class Throttle:
    """Counts events by name. Holds the time until which Redis is left alone."""

    def __init__(self, redis: Redis, clock: Clock) -> None:
        self._redis = redis
        self._clock = clock
        self._resting_until = float("-inf")

    async def count(self, kind: str, name: str, limit: int) -> None:
        """One more of this kind. Raises `LimitExceeded` when that is over `limit` in this minute."""
        if (await self.note(kind, name)).seen > limit:
            raise self.refusal()

    async def note(self, kind: str, name: str) -> Noted:
        """One more of this kind, whatever that means to the caller."""
        key = f"{_PREFIX}:{kind}:{name}:{self._window()}"
        if not self._awake():
            return Noted(key, 0)
        try:
            pipeline = self._redis.pipeline(transaction=True)
            pipeline.incr(key)
            pipeline.expire(key, 2 * _WINDOW_S)
            seen, _ = await answered(pipeline.execute(), _TIMEOUT_S)
        except (RedisError, OSError) as error:
            self._rest(error)
            return Noted(key, 0)
        return Noted(key, seen)

    async def take_back(self, noted: Noted) -> None:
        """It turned out not to count. In the minute in which it was noted, whatever the time is now."""
        if not noted.seen or not self._awake():
            return
        try:
            await answered(self._decrease(noted.key), _TIMEOUT_S)
        except (RedisError, OSError) as error:
            self._rest(error)

    async def _decrease(self, key: str) -> None:
        await self._redis.decr(key)

    def refusal(self) -> LimitExceeded:
        """What to raise when it was too much: it is worth another try in the next minute."""
        rest_s = (self._window() + 1) * _WINDOW_S - self._clock.now().timestamp()
        return LimitExceeded("too many calls in this minute", retry_after_s=max(rest_s, 1.0))

    def _window(self) -> int:
        return int(self._clock.now().timestamp()) // _WINDOW_S

    def _awake(self) -> bool:
        return self._clock.monotonic() >= self._resting_until

    def _rest(self, error: Exception) -> None:
        self._resting_until = self._clock.monotonic() + _REST_S
        _log.warning("throttle_without_redis", error=type(error).__name__)


def client_of(connection: ASGIConnection[Any, Any, Any, Any]) -> str:
    """Whom a call counts against: its address' group."""
    return address_group(connection.client.host) if connection.client else "unknown"


def address_group(host: str) -> str:
    """What counts as one client: an IPv4 address, an IPv6 site (/64); anything else as it is."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(ipaddress.ip_network((address, _IPV6_SITE_BITS), strict=False))
    return str(address)
