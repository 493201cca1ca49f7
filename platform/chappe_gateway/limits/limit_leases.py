"""Rate limits over any number of gateways: blocks of requests and tokens, leased from the region's Redis by one atomic
script. Requests at once are taken here too, and counted in `concurrency_leases`.

Without Redis a gateway goes on with its own share of the limit, so that a tenant gets at most one extra limit in that
minute; a breaker keeps the time-out from being paid by every request.
"""

import asyncio
import math
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import redis.asyncio
import structlog
from redis.exceptions import RedisError

from chappe_gateway.edge.errors import Headers, RequestLimitExceeded, rate_headers
from chappe_gateway.limits.concurrency import Gauge
from chappe_gateway.limits.concurrency_leases import ConcurrencyLimiter
from chappe_gateway.limits.limits import LocalShare, Meter, Unit, Window, meters
from chappe_gateway.region_redis import answered
from chappe_kernel.clock import Clock
from chappe_kernel.wire.control import RateLimit

_log = structlog.get_logger()

# KEYS[1] the count, ARGV[1] the limit, ARGV[2] how much those who wait want, ARGV[3] with how much less than that
# nobody is served, ARGV[4] how much to lease beyond what is wanted: the less is left, the less of that, so that little
# is left over in one gateway that another could use. Redis's own clock names the minute, so that all gateways mean the
# same one. A counter that FLUSHALL took away starts at nothing.
_LEASE = """
local time = redis.call('TIME')
local minute = math.floor(time[1] / 60)
local key = KEYS[1] .. ':' .. minute
local free = math.max(0, tonumber(ARGV[1]) - tonumber(redis.call('GET', key) or '0'))
local spare = math.min(tonumber(ARGV[4]), math.floor(free / 32))
local granted = math.min(ARGV[2] + spare, free)
if granted < tonumber(ARGV[3]) then
  granted = 0
end
if granted > 0 then
  redis.call('INCRBY', key, granted)
  redis.call('EXPIRE', key, 120)
end
local left_ms = 60000 - ((time[1] % 60) * 1000 + math.floor(time[2] / 1000))
return {minute, granted, left_ms, free - granted}
"""
_KEY_PREFIX = "chappe:rate:"
_BREAKER_OPEN_S = 1.0
_MAX_SCOPES = 50_000
_MAX_PLANS = 20_000
_MAX_LEASES_PER_REQUEST = 8
_LONGEST_TURN_S = 0.25
_SECONDS_PER_MINUTE = 60
_REQUESTS, _TOKENS = Unit.REQUESTS.value, Unit.TOKENS.value


@dataclass(slots=True)
class _Scope:
    """One count, and what waits for it."""

    window: Window
    share: LocalShare
    lease: asyncio.Task[bool] | None = None
    waiting: int = 0


class _Counted(NamedTuple):
    """One count that a plan goes through, as it was when the plan was made."""

    window: Window
    limit: int
    scope: _Scope
    meter: Meter


# What a request took of one window: how much, in which minute. Of a local share nothing is given back: that is None.
# A plain tuple, since every request makes several.
_Share = tuple[Window, int | None, int]


class _Plan(NamedTuple):
    """What a key's requests for a model go through, once its windows are open."""

    limits: Sequence[RateLimit]
    requests: tuple[_Counted, ...]
    tokens: tuple[_Counted, ...]
    gauges: tuple[Gauge, ...]


class Taken:
    """What one admitted request took of all its limits, and the headers that say how much is left."""

    __slots__ = ("_clock", "_concurrency", "_gauges", "_requests", "_tokens", "headers")

    def __init__(
        self,
        requests: Sequence[_Share],
        tokens: Sequence[_Share],
        headers: Headers,
        clock: Clock,
        *,
        concurrency: ConcurrencyLimiter,
        gauges: Sequence[Gauge],
    ) -> None:
        self._concurrency = concurrency
        self._gauges = gauges
        self._requests = requests
        self._tokens = tokens
        self._clock = clock
        self.headers = headers

    def end(self) -> None:
        """The request does not run any more. Safe to repeat."""
        if self._gauges:
            gauges, self._gauges = self._gauges, ()
            self._concurrency.release(gauges)

    def settle(self, tokens: int) -> None:
        """It has ended and used so many tokens: the rest of its bound is free again for others in the same minute."""
        self.end()
        now = self._clock.monotonic()
        for window, minute, amount in self._tokens:
            if minute is not None and tokens < amount:
                window.give_back(now, minute, amount - tokens)

    def undo(self) -> None:
        """The request goes nowhere, because another limit refused it."""
        self.end()
        now = self._clock.monotonic()
        for window, minute, amount in (*self._requests, *self._tokens):
            if minute is not None:
                window.give_back(now, minute, amount)


class RateLimiter:
    """All counts of one gateway process."""

    def __init__(
        self,
        redis_client: "redis.asyncio.Redis",
        clock: Clock,
        *,
        name: str = "",
        peers: Callable[[], int] = lambda: 1,
    ) -> None:
        """`name` is this process's, unique in the region; `peers` says how many share each limit without Redis."""
        self.concurrency = ConcurrencyLimiter(redis_client, clock, name, peers)
        self._script = redis_client.register_script(_LEASE)
        self._clock = clock
        self._peers = peers
        self._scopes: OrderedDict[str, _Scope] = OrderedDict()
        self._plans: dict[tuple[int, str], _Plan] = {}
        """By the identity of a key's limits, which each plan keeps alive, and model."""
        self._broken_until = 0.0
        self.taken_alone = 0
        """How often something was taken of the own share."""

    def is_alone(self) -> bool:
        """Whether the region's Redis did not answer when it was last asked."""
        return self._broken_until > 0.0

    async def admit(self, limits: Sequence[RateLimit], *, model: str = "", tokens: int = 0) -> Taken:
        """Take one request for `model`, and the tokens that it may use, of every limit, or of none. Who gets a `Taken`
        must settle it.

        Raises `RequestLimitExceeded`; `LimitExceeded` when too many run at once.
        """
        now = self._clock.monotonic()
        plan = self._plans.get((id(limits), model))
        if (
            plan is not None
            and _has_room(plan, tokens, now)
            and (not plan.gauges or self.concurrency.take_at_once(plan.gauges))
        ):
            headers: Headers = []
            return Taken(
                self._take_at_once(plan.requests, 1, now, _REQUESTS, headers),
                self._take_at_once(plan.tokens, tokens, now, _TOKENS, headers),
                headers,
                self._clock,
                concurrency=self.concurrency,
                gauges=plan.gauges,
            )
        # First, since it gives back whole what it took: who runs too much at once uses nothing up of its minutes.
        gauges = self.concurrency.gauges(limits, model)
        await self.concurrency.take(gauges)
        parts: dict[Unit, list[_Share]] = {Unit.REQUESTS: [], Unit.TOKENS: []}
        asked = meters(limits, model, tokens)
        try:
            for meter in asked:
                parts[meter.unit].append(await self._take(meter))
        except BaseException:
            self._taken(parts, gauges).undo()
            raise
        self._remember(limits, model, asked, gauges)
        return self._taken(parts, gauges)

    def _taken(self, parts: dict[Unit, list[_Share]], gauges: tuple[Gauge, ...]) -> Taken:
        now = self._clock.monotonic()
        headers: Headers = []
        for unit, shares in parts.items():
            if shares:
                tightest = min((window for window, _, _ in shares), key=lambda window: window.remaining(now))
                headers += _headers(tightest, tightest.remaining(now), now, unit.value)
        requests, tokens = parts[Unit.REQUESTS], parts[Unit.TOKENS]
        return Taken(requests, tokens, headers, self._clock, concurrency=self.concurrency, gauges=gauges)

    def _take_at_once(
        self, counted: Sequence[_Counted], amount: int, now: float, unit: str, headers: Headers
    ) -> list[_Share]:
        """All of these windows have as much, in this minute. Adds the headers of the tightest."""
        shares: list[_Share] = []
        tightest, least = None, 0
        # One loop and no calls: every request pays for it.
        for window, _, scope, meter in counted:
            window.left = left = window.left - amount
            shares.append((window, window.minute, amount))
            if 2 * left < window.after_lease and window.is_running_out(now):
                self._lease_ahead(scope, meter)
            left += window.left_elsewhere
            if tightest is None or left < least:
                tightest, least = window, left
        if tightest is not None:
            headers += _headers(tightest, least, now, unit)
        return shares

    def _lease_ahead(self, scope: _Scope, meter: Meter) -> None:
        """So that nobody has to wait for the next block."""
        if (scope.lease is None or scope.lease.done()) and self._clock.monotonic() >= self._broken_until:
            scope.lease = asyncio.create_task(self._ask(meter, scope))

    def _remember(
        self, limits: Sequence[RateLimit], model: str, asked: Sequence[Meter], gauges: tuple[Gauge, ...]
    ) -> None:
        counted: dict[Unit, list[_Counted]] = {Unit.REQUESTS: [], Unit.TOKENS: []}
        for meter in asked:
            scope = self._scopes.get(meter.key)
            if scope is None:
                return
            counted[meter.unit].append(_Counted(scope.window, meter.limit, scope, meter))
        if len(self._plans) >= _MAX_PLANS:
            self._plans.clear()
        self._plans[id(limits), model] = _Plan(
            limits, tuple(counted[Unit.REQUESTS]), tuple(counted[Unit.TOKENS]), gauges
        )

    def _scope(self, meter: Meter) -> _Scope:
        scope = self._scopes.get(meter.key)
        if scope is None:
            scope = self._scopes[meter.key] = _Scope(Window(meter.limit), LocalShare())
            if len(self._scopes) > _MAX_SCOPES:
                self._scopes.popitem(last=False)
                # One of them may be of this scope, and would go on taking from what nobody leases for any more.
                self._plans.clear()
        elif scope.window.limit != meter.limit:
            # A changed limit: what is leased stays, and the region decides anew at the next lease.
            scope.window.limit = meter.limit
            scope.window.refused = False
        self._scopes.move_to_end(meter.key)
        return scope

    async def _take(self, meter: Meter) -> _Share:
        scope = self._scope(meter)
        window = scope.window
        if meter.amount > meter.limit:
            raise self._refusal(meter, window)
        for _ in range(_MAX_LEASES_PER_REQUEST):
            now = self._clock.monotonic()
            if window.take(now, meter.amount):
                return window, window.minute, meter.amount
            if window.is_exhausted(now, meter.amount):
                break
            if now < self._broken_until or not await self._lease(meter, scope):
                if self._take_share(meter, scope):
                    return window, None, meter.amount
                break
            now = self._clock.monotonic()
            if now >= window.ends_at:
                # Redis's minute is not over yet, and by our own count, which is earlier by its longest round trip, it
                # is: what it gives now is dead. Asking on would use up all tries before the next minute begins.
                await asyncio.sleep(min(_LONGEST_TURN_S, max(0.0, window.turns_at - now)))
        raise self._refusal(meter, window)

    async def _lease(self, meter: Meter, scope: _Scope) -> bool:
        """Wait for the lease in flight, or start one. Whether Redis answered."""
        scope.waiting += meter.amount
        try:
            if scope.lease is None or scope.lease.done():
                # A turn of the loop lets requests that arrived together be counted into one lease.
                await asyncio.sleep(0)
            if scope.lease is None or scope.lease.done():
                scope.lease = asyncio.create_task(self._ask(meter, scope))
            return await asyncio.shield(scope.lease)
        finally:
            scope.waiting -= meter.amount

    async def _ask(self, meter: Meter, scope: _Scope) -> bool:
        sent_at = self._clock.monotonic()
        window = scope.window
        here = window.left if sent_at < window.ends_at else 0
        least = max(1, meter.amount - here)
        wanted = max(least, scope.waiting - here)
        spare = window.spare(sent_at, meter.unit)
        try:
            minute, granted, left_ms, left_elsewhere = await answered(
                self._script(keys=[_KEY_PREFIX + meter.key], args=[meter.limit, wanted, least, spare])
            )
        except (RedisError, OSError, TimeoutError) as error:
            if self._broken_until == 0.0:
                _log.warning("rate_limits_without_redis", reason=type(error).__name__)
            self._broken_until = self._clock.monotonic() + _BREAKER_OPEN_S
            return False
        self._broken_until = 0.0
        window.lease(sent_at, int(minute), int(granted), int(left_ms) / 1000, int(left_elsewhere))
        window.turns_at = self._clock.monotonic() + int(left_ms) / 1000
        return True

    def _take_share(self, meter: Meter, scope: _Scope) -> bool:
        minute = int(self._clock.now().timestamp()) // _SECONDS_PER_MINUTE
        taken = scope.share.take(minute, max(1, meter.limit // max(1, self._peers())), meter.amount)
        self.taken_alone += taken
        return taken

    def _refusal(self, meter: Meter, window: Window) -> RequestLimitExceeded:
        now = self._clock.monotonic()
        retry_after_s = window.ends_at - now if now < window.ends_at else 1.0
        what = f"the {meter.whose}'s limit of {meter.limit} {meter.unit} per minute"
        if meter.model is not None:
            what += f" for the model `{meter.model}`"
        if meter.amount > meter.limit:
            message = f"this request may use {meter.amount} tokens, more than {what}; ask for fewer with max_tokens"
        else:
            message = f"{what} is used up; try again in {math.ceil(retry_after_s)} s"
        return RequestLimitExceeded(message, retry_after_s=retry_after_s, limit=meter.limit, unit=meter.unit)


def _has_room(plan: _Plan, tokens: int, now: float) -> bool:
    """Whether each window has enough in its minute: then nobody has to be asked."""
    for window, limit, _, _ in plan.requests:
        if now >= window.ends_at or window.left < 1 or window.limit != limit:
            return False
    for window, limit, _, _ in plan.tokens:
        if now >= window.ends_at or window.left < tokens or window.limit != limit:
            return False
    return True


def _headers(tightest: Window, remaining: int, now: float, unit: str) -> Headers:
    return rate_headers(tightest.limit, remaining, max(0.0, tightest.ends_at - now), unit)
