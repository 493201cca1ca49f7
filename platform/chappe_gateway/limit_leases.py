"""Rate limits over any number of gateways: blocks of requests leased from the region's Redis by one atomic script.

Without Redis a gateway goes on with its own share of the limit, so that a tenant gets at most one extra limit in that
minute; a breaker keeps the time-out from being paid by every request.
"""

import asyncio
import math
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import redis.asyncio
import structlog
from redis.exceptions import RedisError

from chappe_gateway.errors import Headers, RequestLimitExceeded, rate_headers
from chappe_gateway.limits import LocalShare, Window, block_size
from chappe_kernel.clock import Clock
from chappe_kernel.wire.control import RateLimit

_log = structlog.get_logger()

# KEYS[1] the scope, ARGV[1] the limit, ARGV[2] how many are wanted. Redis's own clock names the minute, so that all
# gateways mean the same one. A counter that FLUSHALL took away starts at nothing.
_LEASE = """
local time = redis.call('TIME')
local minute = math.floor(time[1] / 60)
local key = KEYS[1] .. ':' .. minute
local used = tonumber(redis.call('GET', key) or '0')
local granted = math.max(0, math.min(tonumber(ARGV[2]), tonumber(ARGV[1]) - used))
if granted > 0 then
  redis.call('INCRBY', key, granted)
  redis.call('EXPIRE', key, 120)
end
local left_ms = 60000 - ((time[1] % 60) * 1000 + math.floor(time[2] / 1000))
return {minute, granted, left_ms, math.max(0, tonumber(ARGV[1]) - used - granted)}
"""
_KEY_PREFIX = "chappe:rate:"
_REDIS_TIMEOUT_S = 0.15
_BREAKER_OPEN_S = 1.0
_MAX_SCOPES = 50_000
_MAX_LEASES_PER_REQUEST = 8
_SECONDS_PER_MINUTE = 60


@dataclass(slots=True)
class _Scope:
    window: Window
    share: LocalShare
    lease: asyncio.Task[bool] | None = None
    waiting: int = 0


class RateLimiter:
    """All scopes of one gateway process."""

    def __init__(self, redis_client: "redis.asyncio.Redis", clock: Clock, gateways_in_region: int = 1) -> None:
        self._script = redis_client.register_script(_LEASE)
        self._clock = clock
        self._gateways_in_region = max(1, gateways_in_region)
        self._scopes: OrderedDict[str, _Scope] = OrderedDict()
        self._broken_until = 0.0

    async def admit(self, limits: Sequence[RateLimit]) -> Headers:
        """Take one request of every limit, or of none; headers of the tightest. Raises `RequestLimitExceeded`."""
        taken: list[_Scope] = []
        for limit in limits:
            scope = self._scope(limit)
            if not await self._take(limit, scope):
                now = self._clock.monotonic()
                for other in taken:
                    other.window.give_back(now)
                raise self._refusal(limit, scope.window)
            taken.append(scope)
        return self._headers([scope.window for scope in taken])

    def _scope(self, limit: RateLimit) -> _Scope:
        scope = self._scopes.get(limit.scope)
        if scope is None:
            scope = self._scopes[limit.scope] = _Scope(Window(limit.requests_per_minute), LocalShare())
            if len(self._scopes) > _MAX_SCOPES:
                self._scopes.popitem(last=False)
        elif scope.window.limit != limit.requests_per_minute:
            # A changed limit: what is leased stays, and the region decides anew at the next lease.
            scope.window.limit = limit.requests_per_minute
            scope.window.exhausted = False
        self._scopes.move_to_end(limit.scope)
        return scope

    async def _take(self, limit: RateLimit, scope: _Scope) -> bool:
        for _ in range(_MAX_LEASES_PER_REQUEST):
            now = self._clock.monotonic()
            if scope.window.take(now):
                return True
            if scope.window.is_exhausted(now):
                return False
            if now < self._broken_until or not await self._lease(limit, scope):
                return self._take_share(limit, scope)
        return False

    async def _lease(self, limit: RateLimit, scope: _Scope) -> bool:
        """Wait for the lease in flight, or start one. Whether Redis answered."""
        scope.waiting += 1
        try:
            if scope.lease is None or scope.lease.done():
                # A turn of the loop lets requests that arrived together be counted into one lease.
                await asyncio.sleep(0)
            if scope.lease is None or scope.lease.done():
                scope.lease = asyncio.create_task(self._ask(limit, scope, scope.waiting))
            return await asyncio.shield(scope.lease)
        finally:
            scope.waiting -= 1

    async def _ask(self, limit: RateLimit, scope: _Scope, waiting: int) -> bool:
        sent_at = self._clock.monotonic()
        wanted = block_size(limit.requests_per_minute, waiting)
        try:
            async with asyncio.timeout(_REDIS_TIMEOUT_S):
                minute, granted, left_ms, left_elsewhere = await self._script(
                    keys=[_KEY_PREFIX + limit.scope], args=[limit.requests_per_minute, wanted]
                )
        except (RedisError, OSError, TimeoutError) as error:
            if self._broken_until == 0.0:
                _log.warning("rate_limits_without_redis", reason=type(error).__name__)
            self._broken_until = self._clock.monotonic() + _BREAKER_OPEN_S
            return False
        self._broken_until = 0.0
        scope.window.lease(sent_at, int(minute), int(granted), int(left_ms) / 1000, int(left_elsewhere))
        return True

    def _take_share(self, limit: RateLimit, scope: _Scope) -> bool:
        minute = int(self._clock.now().timestamp()) // _SECONDS_PER_MINUTE
        return scope.share.take(minute, max(1, limit.requests_per_minute // self._gateways_in_region))

    def _refusal(self, limit: RateLimit, window: Window) -> RequestLimitExceeded:
        now = self._clock.monotonic()
        retry_after_s = window.ends_at - now if now < window.ends_at else 1.0
        whose = limit.scope.partition(":")[0]
        return RequestLimitExceeded(
            f"the {whose}'s limit of {limit.requests_per_minute} requests per minute is used up; "
            f"try again in {math.ceil(retry_after_s)} s",
            retry_after_s=retry_after_s,
            limit=window.limit,
        )

    def _headers(self, windows: Sequence[Window]) -> Headers:
        if not windows:
            return []
        now = self._clock.monotonic()
        tightest = min(windows, key=lambda window: window.remaining(now))
        return rate_headers(tightest.limit, tightest.remaining(now), max(0.0, tightest.ends_at - now))
