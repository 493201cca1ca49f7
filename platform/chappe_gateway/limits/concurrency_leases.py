"""Concurrent requests over any number of gateways: places leased from the region's Redis for 5 s, and renewed.

Without Redis a gateway goes on with its own share of each limit, so that a tenant has at most one extra limit at once;
what runs is told when Redis is back.
"""

import asyncio
from collections.abc import Callable, Sequence

import redis.asyncio
import structlog
from redis.exceptions import RedisError

from chappe_gateway.limits.concurrency import LEASE_S, Gauge, gauged
from chappe_gateway.region_redis import answered
from chappe_kernel.clock import Clock
from chappe_kernel.errors import LimitExceeded
from chappe_kernel.wire.control import RateLimit

_log = structlog.get_logger()

# KEYS[1] who has how many; ARGV: who asks, how many run there, how many it needs, how many it would like, the limit,
# for how many milliseconds. Redis's own clock ends leases. The field "" is until when somebody is short of places.
_LEASE = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local taken, idle, short = 0, 0, 0
local fields = redis.call('HGETALL', KEYS[1])
for at = 1, #fields, 2 do
  local places, running, ends = string.match(fields[at + 1], '(%d+) (%d+) (%d+)')
  if tonumber(ends) <= now then
    redis.call('HDEL', KEYS[1], fields[at])
  elseif fields[at] == '' then
    short = 1
  elseif fields[at] ~= ARGV[1] then
    taken = taken + places
    idle = idle + places - running
  end
end
local free = math.max(0, ARGV[5] - taken)
local places = math.max(tonumber(ARGV[2]), math.min(tonumber(ARGV[4]), free))
if places < tonumber(ARGV[3]) then
  short = 1
  redis.call('HSET', KEYS[1], '', '0 0 ' .. (now + 1000))
end
if places > 0 then
  redis.call('HSET', KEYS[1], ARGV[1], places .. ' ' .. math.min(places, ARGV[3]) .. ' ' .. (now + ARGV[6]))
  redis.call('PEXPIRE', KEYS[1], ARGV[6])
else
  redis.call('HDEL', KEYS[1], ARGV[1])
end
return {places, idle, short}
"""
_KEY_PREFIX = "chappe:concurrent:"
_RENEW_S = 0.5
_RENEWED_AT_ONCE = 200
_BREAKER_OPEN_S = 1.0
# Who finds none free asks again: once, for what ends just now, or for as long as others take to give back what they
# have idle (they hear of it when they renew).
_LOOK_AGAIN_S = 0.05
_LOOKS = 2
_LOOKS_FOR_IDLE = 14
_NONE_FOR_S = 0.02


class ConcurrencyLimiter:
    """All limits on requests at once that one gateway process keeps to. `name` is unique in the region."""

    def __init__(
        self, redis_client: "redis.asyncio.Redis", clock: Clock, name: str, peers: Callable[[], int] = lambda: 1
    ) -> None:
        self._script = redis_client.register_script(_LEASE)
        self._clock = clock
        self._name = name
        self._peers = peers
        self._gauges: dict[str, Gauge] = {}
        self._asking: dict[Gauge, asyncio.Task[int | None]] = {}
        self._waiting: dict[Gauge, int] = {}
        self._broken_until = 0.0

    def gauges(self, limits: Sequence[RateLimit], model: str) -> tuple[Gauge, ...]:
        """What a request for `model` counts in."""
        return tuple(self._gauge(key, limit, places) for key, limit, places in gauged(limits, model))

    def take_at_once(self, gauges: Sequence[Gauge]) -> bool:
        """A place of each, if nobody has to be asked; else of none."""
        now = self._clock.monotonic()
        if not all(gauge.has_room(now) for gauge in gauges):
            return False
        for gauge in gauges:
            gauge.running += 1
        return True

    async def take(self, gauges: Sequence[Gauge]) -> None:
        """A place of each, or of none. Raises `LimitExceeded`. Give them back with `release`."""
        taken: list[Gauge] = []
        try:
            for gauge in gauges:
                await self._take(gauge)
                taken.append(gauge)
        except BaseException:
            self.release(taken)
            raise

    def release(self, gauges: Sequence[Gauge]) -> None:
        """The request has ended."""
        for gauge in gauges:
            gauge.running -= 1
            gauge.none_until = 0.0
            self._give_back(gauge)

    async def run(self) -> None:
        """Renew for ever what is leased, and forget what nobody uses."""
        while True:
            await asyncio.sleep(_RENEW_S)
            await self.renew()

    async def close(self) -> None:
        """Let the questions in flight end. What is still leased ends by itself."""
        while self._asking:
            await asyncio.wait(tuple(self._asking.values()))

    async def renew(self) -> None:
        """Renew everything once. While Redis is away, leases end by themselves."""
        held = [gauge for gauge in self._gauges.values() if gauge.leased or gauge.running]
        for first in range(0, len(held), _RENEWED_AT_ONCE):
            if self._clock.monotonic() < self._broken_until:
                return
            part = held[first : first + _RENEWED_AT_ONCE]
            await asyncio.gather(*(self._asked(gauge) for gauge in part))
        for key in [key for key, gauge in self._gauges.items() if not (gauge.leased or gauge.running)]:
            if self._gauges[key] not in self._waiting:
                del self._gauges[key]

    def _gauge(self, key: str, limit: RateLimit, places: int) -> Gauge:
        gauge = self._gauges.get(key)
        if gauge is None:
            whose = limit.scope.partition(":")[0]
            gauge = self._gauges[key] = Gauge(key, whose, limit.model, places)
        gauge.limit = places
        return gauge

    async def _take(self, gauge: Gauge) -> None:
        self._waiting[gauge] = self._waiting.get(gauge, 0) + 1
        looks = 0
        try:
            while True:
                now = self._clock.monotonic()
                if gauge.has_room(now):
                    break
                if now < gauge.none_until:
                    raise _refusal(gauge)
                idle = None if now < self._broken_until else await self._asked(gauge)
                now = self._clock.monotonic()
                if gauge.has_room(now):
                    break
                if idle is None:
                    self._take_share(gauge)
                    return
                looks += 1
                if looks >= (_LOOKS_FOR_IDLE if idle else _LOOKS):
                    gauge.none_until = now + _NONE_FOR_S
                    raise _refusal(gauge)
                await asyncio.sleep(_LOOK_AGAIN_S)
            gauge.running += 1
        finally:
            self._waiting[gauge] -= 1
            if not self._waiting[gauge]:
                del self._waiting[gauge]

    def _take_share(self, gauge: Gauge) -> None:
        """Redis is away: this process's part of the limit is what it may run."""
        if gauge.running >= max(1, gauge.limit // max(1, self._peers())):
            raise _refusal(gauge)
        gauge.running += 1

    async def _asked(self, gauge: Gauge) -> int | None:
        """Wait for the question in flight, or ask. How many places others have idle; None while Redis is away."""
        if gauge not in self._asking:
            # A turn of the loop lets requests that arrived together be asked for at once.
            await asyncio.sleep(0)
        return await asyncio.shield(self._asking.get(gauge) or self._ask_apart(gauge))

    def _ask_apart(self, gauge: Gauge) -> "asyncio.Task[int | None]":
        task = self._asking[gauge] = asyncio.create_task(self._ask(gauge))
        task.add_done_callback(lambda _: self._was_answered(gauge))
        return task

    def _was_answered(self, gauge: Gauge) -> None:
        del self._asking[gauge]
        self._give_back(gauge)

    def _give_back(self, gauge: Gauge) -> None:
        """At once, if somebody may be short of it; by the next renewal otherwise."""
        if gauge in self._asking or self._clock.monotonic() < self._broken_until:
            return
        if gauge.wants_to_give_back(self._waiting.get(gauge, 0)):
            self._ask_apart(gauge)

    async def _ask(self, gauge: Gauge) -> int | None:
        sent_at = self._clock.monotonic()
        needed = gauge.running + self._waiting.get(gauge, 0)
        wanted = needed + gauge.spare if needed else 0
        # What is being given back must not be used meanwhile.
        gauge.leased = min(gauge.leased, wanted)
        asked: list[str | int] = [self._name, gauge.running, needed, wanted, gauge.limit, int(LEASE_S * 1000)]
        try:
            places, idle, short = await answered(self._script(keys=[_KEY_PREFIX + gauge.key], args=asked))
        except (RedisError, OSError, TimeoutError) as error:
            if self._broken_until == 0.0:
                _log.warning("concurrency_without_redis", reason=type(error).__name__)
            self._broken_until = self._clock.monotonic() + _BREAKER_OPEN_S
            return None
        self._broken_until = 0.0
        gauge.lease(sent_at, int(places), is_short=bool(short))
        return int(idle)


def _refusal(gauge: Gauge) -> LimitExceeded:
    what = f"the {gauge.whose}'s limit of {gauge.limit} concurrent requests"
    if gauge.model is not None:
        what += f" for the model `{gauge.model}`"
    return LimitExceeded(
        f"{what} is reached; try again when one of them has ended",
        retry_after_s=1.0,
        code="concurrent_requests_exceeded",
    )
