"""Requests per fixed minute are never exceeded by any number of gateways, and Redis's absence costs little."""

import asyncio
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import httpx
import pytest
import redis.asyncio
from hypothesis import given
from hypothesis import strategies as st

from chappe_gateway import region_redis
from chappe_gateway.edge.errors import RequestLimitExceeded
from chappe_gateway.limits.limit_leases import RateLimiter
from chappe_gateway.limits.limits import LocalShare, Unit, Window, block_size
from chappe_gateway.region_redis import open_redis
from chappe_kernel.clock import SystemClock
from chappe_kernel.wire.control import RateLimit
from tests.gateway.servers import free_port
from tests.gateway.test_answers_shape import check_error
from tests.gateway.world import RunningGateway, World, auth, chat_body

PATH = "/v1/chat/completions"


class FakeClock:
    def __init__(self) -> None:
        self.seconds = 0.0

    def now(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=self.seconds)

    def monotonic(self) -> float:
        return self.seconds


def test_a_block_dies_with_its_minute() -> None:
    window = Window(10)
    window.lease(100.0, 1, 5, 30.0, 5)
    assert window.take(129.9)
    assert not window.take(130.0)
    assert window.remaining(129.9) == 9


def test_a_lease_of_the_next_minute_forgets_the_last() -> None:
    window = Window(10)
    window.lease(100.0, 1, 5, 1.0, 5)
    window.lease(101.0, 2, 3, 60.0, 7)
    assert window.left == 3
    window.lease(102.0, 2, 0, 59.5, 0)
    assert window.ends_at == 161.0
    assert window.is_exhausted(160.0, 4)
    assert not window.is_exhausted(160.0, 3)
    assert not window.is_exhausted(161.0, 4)


def test_a_block_that_is_used_fast_is_followed_by_a_larger_one_before_its_end() -> None:
    window = Window(100_000)
    window.lease(100.0, 1, 200, 60.0, 99_800)
    window.left = 101
    assert not window.is_running_out(100.1)
    window.left = 99
    assert window.is_running_out(100.1)
    assert not window.is_running_out(101.0), "slowly used"
    assert window.pace(100.1) == pytest.approx(1010, abs=1)
    assert block_size(window.limit, 0, Unit.REQUESTS, window.pace(100.1)) == window.pace(100.1)
    assert block_size(window.limit, 0, Unit.REQUESTS, 10**9) == window.limit // 20
    window.left_elsewhere = 50_000
    assert not window.is_running_out(100.1), "the last half is for whoever asks"
    assert window.pace(160.0) == 0


async def test_a_fast_tenant_does_not_wait_for_its_next_block(gateway_redis_url: str) -> None:
    client = open_redis(gateway_redis_url)
    limiter = RateLimiter(client, SystemClock())
    limits = [RateLimit("tenant:fast", 1_000_000, None, 10**9)]
    await limiter.admit(limits, tokens=5000)
    waited = 0
    for _ in range(500):
        asking = asyncio.create_task(limiter.admit(limits, tokens=5000))
        await asyncio.sleep(0.001)
        waited += not asking.done()
        await asking
    # The minute may turn, and its first block has to be asked for.
    assert waited <= 2
    leased = [int(await client.get(name) or 0) for name in await client.keys("chappe:rate:tenant:fast:tokens:*")]
    assert sum(leased) < 500 * 5000 + 10**7, "no more ahead than a second's use"
    await client.aclose()


@given(st.lists(st.floats(0, 20), min_size=1, max_size=60), st.integers(1, 20))
def test_the_local_share_is_one_limit_per_minute(gaps: list[float], share: int) -> None:
    local, now, taken = LocalShare(), 0.0, Counter[int]()
    for gap in gaps:
        now += gap
        minute = int(now // 60)
        taken[minute] += local.take(minute, share)
    assert max(taken.values()) <= share


@given(st.integers(1, 10**6), st.lists(st.floats(0.01, 3), max_size=30))
def test_blocks_grow_with_traffic_and_stay_a_small_part(limit: int, gaps: list[float]) -> None:
    window, now, last = Window(limit), 100.0, 0
    for gap in gaps:
        spare = window.spare(now, Unit.REQUESTS)
        assert spare <= max(1, limit // 20)
        assert spare <= max(1, limit // 200, 2 * last)
        now, last = now + gap, spare
    assert Window(limit).spare(now, Unit.REQUESTS) * 8 <= max(8, limit // 20)


async def many(gateways: list[RunningGateway], key: str, count: int) -> list[httpx.Response]:
    return await asyncio.gather(
        *(gateways[n % len(gateways)].http.post(PATH, json=chat_body(), headers=auth(key)) for n in range(count))
    )


async def test_two_gateways_never_exceed_one_limit(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    # While Redis answers, and on a machine without CPU time to spare that may take it longer than a gateway waits.
    monkeypatch.setattr(region_redis, "TIMEOUT_S", 10.0)
    key = world.control.new_key(world.control.new_tenant(), requests_per_minute=40)
    async with world.gateway() as one, world.gateway("de-fra", "gw-2") as two:
        answers = await many([one, two], key, 100)
        statuses = Counter(answer.status_code for answer in answers)
        # The minute may turn during the burst: then there are two of them.
        assert statuses[200] + statuses[429] == 100
        assert 40 <= statuses[200] <= 80
        assert statuses[200] == 40 or _minute_turned(answers)
        refused = next(answer for answer in answers if answer.status_code == 429)
        if refused.headers["x-chappe-region"] == "fr-par":
            check_error(refused, 429, "rate_limit_exceeded")
        assert 1 <= int(refused.headers["retry-after"]) <= 60
        assert refused.headers["x-ratelimit-remaining-requests"] == "0"
        assert refused.headers["x-ratelimit-limit-requests"] == "40"


def _minute_turned(answers: list[httpx.Response]) -> bool:
    left = [int(answer.headers["x-ratelimit-reset-requests"].rstrip("s")) for answer in answers]
    return any(later > earlier + 30 for earlier, later in pairwise(sorted(left)))


async def test_a_process_that_was_held_up_does_not_take_redis_for_gone(gateway_redis_url: str) -> None:
    """Its answer was there long before anybody looked: with a share of its own it would exceed the limit."""
    client = open_redis(gateway_redis_url)
    one, two = RateLimiter(client, SystemClock()), RateLimiter(client, SystemClock())
    limit = RateLimit("tenant:held-up", 2)
    await one.admit([limit])
    asking = asyncio.create_task(two.admit([limit]))
    for _ in range(20):
        # It has asked by now.
        await asyncio.sleep(0)
    time.sleep(0.3)  # noqa: ASYNC251 -- the whole process, as on a machine without CPU time to spare
    await asking
    assert two._broken_until == 0.0
    with pytest.raises(RequestLimitExceeded):
        await two.admit([limit])
    await client.aclose()


@pytest.mark.parametrize("slow_s", [0.02, 0.3])
async def test_the_turn_of_a_minute_refuses_nobody(monkeypatch: pytest.MonkeyPatch, slow_s: float) -> None:
    """A block ends a round trip before Redis's minute does, the slowest in it: whatever is leased in between is dead
    when it comes."""
    async with open_redis("unix:///nowhere") as client:
        limiter = RateLimiter(client, SystemClock())
        turns_at = time.monotonic() + slow_s

        async def lease(**_: object) -> list[int]:
            left_ms = int(1000 * (turns_at - time.monotonic()))
            return [1, 200, left_ms, 1000] if left_ms > 0 else [2, 200, 60_000, 1000]

        monkeypatch.setattr(limiter, "_script", lease)
        limits = (RateLimit("tenant:x", 600_000),)
        await limiter.admit(limits)
        limiter._scopes["tenant:x"].window.ends_at = time.monotonic()
        await limiter.admit(limits)


async def test_remaining_counts_down(world: World, gateway: RunningGateway) -> None:
    key = world.control.new_key(world.control.new_tenant(), requests_per_minute=600)
    remaining = []
    for _ in range(3):
        answer = await gateway.http.post(PATH, json=chat_body(), headers=auth(key))
        assert answer.headers["x-ratelimit-limit-requests"] == "600"
        remaining.append(int(answer.headers["x-ratelimit-remaining-requests"]))
    assert remaining == [599, 598, 597]


async def test_a_refusal_of_one_limit_takes_nothing_of_the_others(gateway_redis_url: str, world: World) -> None:
    client = redis.asyncio.Redis.from_url(gateway_redis_url)
    clock = SystemClock()
    limiter = RateLimiter(client, clock)
    wide, tight = RateLimit("tenant:t", 100), RateLimit("key:k", 1)
    await limiter.admit([wide, tight])
    for _ in range(3):
        try:
            await limiter.admit([wide, tight])
        except RequestLimitExceeded as refusal:
            assert refusal.limit == 1
    headers = dict((await limiter.admit([wide])).headers)
    assert headers[b"x-ratelimit-remaining-requests"] == b"98"
    await client.aclose()


async def test_without_redis_a_gateway_has_its_share_per_minute_and_little_delay(world: World) -> None:
    client = open_redis(f"redis://127.0.0.1:{free_port()}")
    clock = FakeClock()
    limiter = RateLimiter(client, clock, peers=lambda: 2)
    limit = RateLimit("tenant:t", 20)
    for minute in range(2):
        clock.seconds = 60.0 * minute
        admitted = 0
        async with asyncio.timeout(2):
            for _ in range(30):
                clock.seconds += 0.5
                try:
                    await limiter.admit([limit])
                    admitted += 1
                except RequestLimitExceeded:
                    pass
        assert admitted == 10
    await client.aclose()


async def test_a_black_hole_costs_one_timeout_not_one_per_request(world: World) -> None:
    async def swallow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(-1)
        writer.close()

    port = free_port()
    hole = await asyncio.start_server(swallow, "127.0.0.1", port)
    client = open_redis(f"redis://127.0.0.1:{port}")
    limiter = RateLimiter(client, SystemClock())
    started = asyncio.get_running_loop().time()
    for _ in range(50):
        await limiter.admit([RateLimit("tenant:t", 1000)])
    assert asyncio.get_running_loop().time() - started < 0.6
    await client.aclose()
    hole.close()
    await hole.wait_closed()


async def test_flushall_gives_one_extra_limit_at_most(world: World, gateway: RunningGateway) -> None:
    key = world.control.new_key(world.control.new_tenant(), requests_per_minute=20)
    client = redis.asyncio.Redis.from_url(world.redis_url)
    first = await many([gateway], key, 10)
    await client.flushall()
    answers = first + await many([gateway], key, 80)
    await client.aclose()
    admitted = sum(answer.status_code == 200 for answer in answers)
    assert 20 <= admitted <= (80 if _minute_turned(answers) else 40)
