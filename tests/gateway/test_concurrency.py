"""No more requests run at once than a limit allows, at any number of gateways; places come back, and leases end."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest
import redis.asyncio
from hypothesis import given
from hypothesis import strategies as st

from chappe_gateway.limits import concurrency_leases
from chappe_gateway.limits.concurrency import Gauge, gauged
from chappe_gateway.limits.concurrency_leases import ConcurrencyLimiter
from chappe_gateway.region_redis import open_redis
from chappe_kernel.clock import SystemClock
from chappe_kernel.errors import LimitExceeded
from chappe_kernel.ids import new_id
from chappe_kernel.wire.control import RateLimit
from tests.gateway.fake_control import CHAT
from tests.gateway.scripted_engine import Script
from tests.gateway.servers import free_port
from tests.gateway.test_answers_shape import check_error
from tests.gateway.test_limits import FakeClock
from tests.gateway.world import RawClient, RunningGateway, World, auth, chat_body, until

PATH = "/v1/chat/completions"
LimiterOf = Callable[[str], ConcurrencyLimiter]


def at_once(places: int, scope: str = "tenant:t") -> tuple[RateLimit, ...]:
    return (RateLimit(scope, concurrent_requests=places),)


@pytest.fixture
async def client(gateway_redis_url: str, world: World) -> AsyncIterator[redis.asyncio.Redis]:
    opened = open_redis(gateway_redis_url)
    yield opened
    await opened.aclose()


@pytest.fixture
async def limiter_of(client: redis.asyncio.Redis) -> AsyncIterator[LimiterOf]:
    opened: list[ConcurrencyLimiter] = []

    def open_limiter(name: str) -> ConcurrencyLimiter:
        opened.append(ConcurrencyLimiter(client, SystemClock(), name))
        return opened[-1]

    yield open_limiter
    for limiter in opened:
        await limiter.close()


async def take(limiter: ConcurrencyLimiter, limits: tuple[RateLimit, ...]) -> "tuple[Gauge, ...] | None":
    gauges = limiter.gauges(limits, "m")
    try:
        await limiter.take(gauges)
    except LimitExceeded:
        return None
    return gauges


def test_a_request_is_counted_by_what_names_its_model_or_none() -> None:
    limits = [RateLimit("tenant:t", 5), *at_once(4), RateLimit("key:k", model="m", concurrent_requests=1)]
    limits.append(RateLimit("key:k", model="n", concurrent_requests=2))
    assert [(key, places) for key, _, places in gauged(limits, "m")] == [("tenant:t", 4), ("key:k:m", 1)]


@given(st.integers(1, 10_000))
def test_eight_gateways_keep_less_than_half_of_a_limit_idle(limit: int) -> None:
    assert Gauge("k", "tenant", None, limit).spare * 8 <= limit * 0.4
    assert Gauge("k", "tenant", None, limit, is_short=True).spare == 0


@pytest.mark.parametrize("places", [1, 3, 40])
async def test_gateways_never_run_more_than_the_limit_together(
    limiter_of: LimiterOf, places: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chappe_gateway.region_redis.TIMEOUT_S", 10.0)
    limiters = [limiter_of(f"gw-{number}") for number in range(4)]
    renewing = [asyncio.create_task(limiter.run()) for limiter in limiters]
    running = most = done = 0

    async def work(number: int) -> None:
        nonlocal running, most, done
        limiter = limiters[number % 4]
        for _ in range(8):
            gauges = await take(limiter, at_once(places))
            if gauges is None:
                continue
            running += 1
            most = max(most, running)
            await asyncio.sleep(0.002)
            running -= 1
            done += 1
            limiter.release(gauges)

    await asyncio.gather(*(work(number) for number in range(60)))
    assert most <= places
    assert done >= places
    # All of it is free again, for whichever asks once those that were refused last are no longer taken at their word.
    await asyncio.sleep(0.05)
    held = [await take(limiters[number % 4], at_once(places)) for number in range(places)]
    assert None not in held
    assert await take(limiters[0], at_once(places)) is None
    for task in renewing:
        task.cancel()


async def test_one_after_the_other_is_never_refused_whichever_gateway_serves(limiter_of: LimiterOf) -> None:
    limiters = [limiter_of(f"gw-{number}") for number in range(2)]
    for number in range(30):
        gauges = await take(limiters[number % 2], at_once(1))
        assert gauges is not None
        limiters[number % 2].release(gauges)


async def test_what_one_gateway_keeps_idle_is_given_to_another_that_needs_it(limiter_of: LimiterOf) -> None:
    idle, busy = (limiter_of(name) for name in ("idle", "busy"))
    gauges = await take(idle, at_once(40))
    assert gauges is not None
    idle.release(gauges)
    assert gauges[0].leased == 3
    renewing = asyncio.create_task(idle.run())
    held = await asyncio.gather(*(take(busy, at_once(40)) for _ in range(40)))
    assert None not in held
    renewing.cancel()


async def test_a_dead_gateways_places_are_free_when_its_lease_ends(
    limiter_of: LimiterOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(concurrency_leases, "LEASE_S", 0.3)
    dead, other = (limiter_of(name) for name in ("dead", "other"))
    assert await take(dead, at_once(2)) is not None
    assert await take(dead, at_once(2)) is not None
    assert await take(other, at_once(2)) is None
    async with asyncio.timeout(3):
        while await take(other, at_once(2)) is None:
            pass


async def test_a_lease_is_renewed_for_as_long_as_something_runs(
    limiter_of: LimiterOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(concurrency_leases, "LEASE_S", 0.3)
    one, other = (limiter_of(name) for name in ("one", "other"))
    assert await take(one, at_once(1)) is not None
    for _ in range(8):
        await one.renew()
        assert await take(other, at_once(1)) is None


async def test_without_redis_a_gateway_runs_its_share_at_once(world: World) -> None:
    client = open_redis(f"redis://127.0.0.1:{free_port()}")
    limiter = ConcurrencyLimiter(client, FakeClock(), "gw", peers=lambda: 3)
    held = [await take(limiter, at_once(10)) for _ in range(5)]
    assert [gauges is not None for gauges in held] == [True] * 3 + [False] * 2
    limiter.release(held[0] or ())
    assert await take(limiter, at_once(10)) is not None
    await limiter.close()
    await client.aclose()


async def test_after_flushall_what_runs_is_told_again(client: redis.asyncio.Redis, limiter_of: LimiterOf) -> None:
    one, other = (limiter_of(name) for name in ("one", "other"))
    assert await take(one, at_once(2)) is not None
    assert await take(one, at_once(2)) is not None
    await client.flushall()
    await one.renew()
    assert await take(other, at_once(2)) is None


async def test_a_tenant_is_told_and_may_go_on_when_one_has_ended(world: World, gateway: RunningGateway) -> None:
    held = asyncio.Event()
    world.engine.script = Script(tokens=2, held=held)
    key = world.control.new_key(world.control.new_tenant())
    tenant = world.control.keys[key].tenant_id
    world.control.set_quotas(key, RateLimit(f"tenant:{tenant}", model=CHAT, concurrent_requests=2))
    running = [
        asyncio.create_task(gateway.http.post(PATH, json=chat_body(stream=stream), headers=auth(key)))
        for stream in (True, False)
    ]
    await until(lambda: len(world.engine.generations()) == 2)
    refused = await gateway.http.post(PATH, json=chat_body(), headers=auth(key))
    message = check_error(refused, 429, "concurrent_requests_exceeded")
    assert message == (
        f"the tenant's limit of 2 concurrent requests for the model `{CHAT}` is reached; "
        "try again when one of them has ended"
    )
    assert refused.headers["retry-after"] == "1"
    held.set()
    assert [answer.status_code for answer in await asyncio.gather(*running)] == [200, 200]
    # At once: the place is free before the answer has ended.
    for _ in range(5):
        answer = await gateway.http.post(PATH, json=chat_body(), headers=auth(key))
        assert answer.status_code == 200
    await world.events(7)


async def test_whatever_ends_a_request_frees_its_place(world: World, gateway: RunningGateway) -> None:
    """One place, and everything that can end a request in turn."""
    key = world.control.new_key(world.control.new_tenant())
    world.control.set_quotas(key, RateLimit(f"key:{new_id()}", 1000, concurrent_requests=1))

    async def ask(**fields: Any) -> httpx.Response:
        return await gateway.http.post(PATH, json=chat_body(**fields), headers=auth(key))

    assert (await ask()).status_code == 200
    world.engine.script = Script(drop_times=2)
    assert (await ask(stream=True)).status_code == 503
    world.engine.script = Script(die_after=2, tokens=3)
    assert (await ask(stream=True)).status_code == 200
    world.engine.script = Script(tokens=500, delay_s=0.02)
    async with RawClient.to(gateway.port) as client:
        client.send_chat(key, stream=True)
        await client.reader.readuntil(b'" tok"')
    await until(lambda: not gateway.gateway.live)
    world.engine.script = Script()
    counted = await gateway.http.post(
        "/v1/messages/count_tokens",
        json={"model": CHAT, "messages": [{"role": "user", "content": "x"}]},
        headers=auth(key),
    )
    assert counted.status_code == 200
    assert (await ask()).status_code == 200
    [gauge] = gateway.gateway.limiter.concurrency._gauges.values()
    assert gauge.running == 0
