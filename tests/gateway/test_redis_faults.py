"""Valkey loses or swallows everything under load: money stays exact, limits nearly, and nobody waits for long."""

import asyncio
import time
from collections import Counter

import httpx
import redis.asyncio

from chappe_kernel.rating import upper_bound
from chappe_kernel.wire.control import RateLimit
from tests.gateway.fake_control import PRICE
from tests.gateway.redis_proxy import RedisProxy
from tests.gateway.servers import free_port
from tests.gateway.test_limits import _minute_turned
from tests.gateway.world import RunningGateway, World, auth, chat_body

PATH = "/v1/chat/completions"
LIMIT = 60


async def load(
    gateways: list[RunningGateway], key: str, requests: int, clients: int = 12
) -> list[tuple[httpx.Response, float]]:
    """So many requests by so many clients, and how long each took."""
    numbers = iter(range(requests))
    found: list[tuple[httpx.Response, float]] = []

    async def client() -> None:
        for number in numbers:
            began = time.monotonic()
            gateway = gateways[number % len(gateways)]
            answer = await gateway.http.post(PATH, json=chat_body(max_tokens=8), headers=auth(key))
            found.append((answer, time.monotonic() - began))

    await asyncio.gather(*(client() for _ in range(clients)))
    return found


def admitted(answers: list[tuple[httpx.Response, float]]) -> int:
    statuses = Counter(answer.status_code for answer, _ in answers)
    assert set(statuses) <= {200, 429}
    return statuses[200]


async def test_flushall_under_load_changes_no_money_and_gives_one_extra_limit_at_most(world: World) -> None:
    client = redis.asyncio.Redis.from_url(world.redis_url)
    key = world.control.new_key(world.control.new_tenant(), requests_per_minute=LIMIT)
    tenant = world.control.keys[key].tenant_id
    async with world.gateway() as one, world.gateway("de-fra", "gw-2") as two:
        answers = await load([one, two], key, LIMIT // 2)
        under_way = asyncio.create_task(load([one, two], key, 5 * LIMIT))
        await asyncio.sleep(0)
        await client.flushall()
        answers += await under_way
        await client.aclose()
        served = admitted(answers)
        assert LIMIT <= served <= (4 if _minute_turned([answer for answer, _ in answers]) else 2) * LIMIT
        events = await world.events(served, 20)
    # What was answered was charged, once; and all that was held for it came back.
    assert world.control.posted_nano(tenant) == sum(event.amount_nano for event in events)
    assert world.control.pending_nano(tenant) == 0


async def test_a_black_hole_opens_the_breaker_and_budgets_stay_exact(world: World) -> None:
    hold = upper_bound(PRICE, len(b"x" * 100) + 64 + 40, 8)
    async with RedisProxy(world.redis_url, free_port()).running() as proxy:
        rich = world.control.new_key(world.control.new_tenant(), requests_per_minute=10_000)
        poor = world.control.new_key(world.control.new_tenant(funds_nano=10 * hold))
        poor_tenant = world.control.keys[poor].tenant_id
        limited = world.control.new_key(world.control.new_tenant())
        world.control.set_quotas(limited, RateLimit("tenant:limited", LIMIT, concurrent_requests=40))
        async with world.gateway(redis_url=proxy.url) as gateway:
            assert admitted(await load([gateway], rich, 12)) == 12
            proxy.black()
            answers = await load([gateway], rich, 150)
            assert admitted(answers) == 150
            times = sorted(took for _, took in answers)
            # The breaker is tried once a second; whoever tries it waits for one time-out, and all others for nothing.
            assert times[-1] < 1.5
            assert times[len(times) // 2] < 0.25
            assert LIMIT <= admitted(await load([gateway], limited, 2 * LIMIT)) <= 2 * LIMIT
            everybody = await load([gateway], poor, 60, clients=60)
            statuses = Counter(answer.status_code for answer, _ in everybody)
            # Not more than there is money for, and nobody is told that there is none while it is only held.
            assert set(statuses) <= {200, 402, 503}
            assert statuses[200] >= 1
            spent = world.control.posted_nano(poor_tenant) + world.control.pending_nano(poor_tenant)
            assert spent <= world.control.funds[poor_tenant]
            proxy.heal()
            async with asyncio.timeout(10):
                while gateway.gateway.limiter._broken_until:
                    await load([gateway], rich, 1)
        events = list(world.control.events.values())
        assert len({event.request_id for event in events}) == len(world.control.deliveries)
        for key in (rich, poor, limited):
            tenant = world.control.keys[key].tenant_id
            mine = [event for event in events if event.tenant_id == tenant]
            assert world.control.posted_nano(tenant) == sum(event.amount_nano for event in mine)
            assert world.control.posted_nano(tenant) <= world.control.funds[tenant]
            assert world.control.pending_nano(tenant) == 0
