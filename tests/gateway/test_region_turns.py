"""The gateway processes of a region give turns as one: one in-flight budget, one line, and whoever dies is replaced."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from chappe_kernel.fairness.post import Role
from tests.gateway.fake_control import CHAT
from tests.gateway.redis_proxy import RedisProxy
from tests.gateway.scripted_engine import Script
from tests.gateway.servers import free_port
from tests.gateway.test_turns import PATH, ask
from tests.gateway.world import RunningGateway, World, auth, chat_body, until


@pytest.fixture
def held(world: World) -> asyncio.Event:
    event = asyncio.Event()
    world.engine.script = Script(tokens=2, held=event)
    world.control.capacities[CHAT] = 4
    return event


@contextlib.asynccontextmanager
async def region(world: World, gateways: int = 2, **changes: Any) -> AsyncIterator[list[RunningGateway]]:
    """Gateways of one region; the first one is the dispatcher."""
    async with contextlib.AsyncExitStack() as stack:
        running = []
        for number in range(gateways):
            running.append(
                await stack.enter_async_context(world.gateway(gateway_id=f"gw-{number}", port=free_port(), **changes))
            )
            await running[-1].gateway.turns.poll()
        await until(
            lambda: [role(gateway) for gateway in running] == [Role.DISPATCHER] + [Role.MEMBER] * (gateways - 1)
        )
        await until(lambda: {gateway.gateway.turns.office.peers for gateway in running} == {gateways})
        yield running


def role(gateway: RunningGateway) -> Role:
    return gateway.gateway.turns.office.role


def in_line(dispatcher: RunningGateway) -> tuple[int, int]:
    """Running and waiting, of all processes, as the dispatcher knows."""
    post = dispatcher.gateway.turns.office.posts.get(CHAT)
    return (0, 0) if post is None else (post.dispatcher.running, post.dispatcher.waiting)


def contents(world: World) -> list[bytes]:
    return [seen.body for seen in world.engine.generations()]


async def test_places_of_an_idle_process_serve_a_busy_one_and_never_more_than_serve_takes(
    world: World, held: asyncio.Event
) -> None:
    async with region(world) as (_, member):
        asked = [ask(member, world.key, stream=bool(number % 2)) for number in range(9)]
        await until(lambda: len(world.engine.generations()) == 4)
        await asyncio.sleep(0.1)
        assert len(world.engine.generations()) == 4
        held.set()
        assert {answer.status_code for answer in await asyncio.gather(*asked)} == {200}
    assert len(await world.events(9)) == 9


async def test_a_tenant_that_comes_late_to_one_process_is_next_after_a_flood_at_another(
    world: World, held: asyncio.Event
) -> None:
    other = world.control.new_key(world.control.new_tenant())
    async with region(world) as (dispatcher, member):
        asked = [ask(dispatcher, world.key, "flood") for _ in range(20)]
        await until(lambda: in_line(dispatcher)[1] == 16)
        asked += [ask(member, other, "late") for _ in range(4)]
        await until(lambda: in_line(dispatcher) == (4, 20))
        held.set()
        assert {answer.status_code for answer in await asyncio.gather(*asked)} == {200}
    late = [number for number, body in enumerate(contents(world)) if b'"late"' in body]
    # Four of the flood ran already, and are given back what they did not use; but for that every second turn is theirs.
    assert late[-1] <= 4 + 4 + 2 * 4


async def test_tenants_that_always_wait_are_served_alike_at_whichever_process(world: World) -> None:
    """One tenant keeps 12 waiting at one process, the other at two others: by processes it would be 1 to 2."""
    world.engine.script = Script(tokens=2, delay_s=0.004)
    world.control.capacities[CHAT] = 3
    keys = [world.key, world.control.new_key(world.control.new_tenant())]
    served = [0, 0]
    most = [0]

    async with region(world, 3) as gateways:

        async def keep_asking(tenant: int, gateway: RunningGateway) -> None:
            while sum(served) < 240:
                answer = await gateway.http.post(PATH, json=chat_body(max_tokens=2), headers=auth(keys[tenant]))
                assert answer.status_code == 200
                served[tenant] += 1
                most[0] = max(most[0], in_line(gateways[0])[0])

        clients = [keep_asking(0, gateways[0]) for _ in range(12)]
        clients += [keep_asking(1, gateways[1 + number % 2]) for number in range(12)]
        await asyncio.gather(*clients)
    assert most[0] <= 3
    # A request is bounded by what the body says, and each of them runs at most three: 2·U is 12 requests at most, and
    # those that the clients had under way when it was over.
    assert abs(served[0] - served[1]) <= 12 + 24


async def test_when_the_dispatcher_dies_those_who_wait_elsewhere_are_served(world: World, held: asyncio.Event) -> None:
    async with region(world) as (dispatcher, member):
        asked = [ask(member, world.key) for _ in range(8)]
        await until(lambda: in_line(dispatcher) == (4, 4))
        # Granted is not yet told.
        await until(lambda: len(world.engine.generations()) == 4)
        # As if it were killed: it neither renews nor hears nor tells.
        dispatcher.gateway.region_turns.stop()
        await until(lambda: role(member) is Role.ALONE, 10)
        # Its static part is two; what the dispatcher had granted runs on, and nobody is sent beyond that.
        assert len(world.engine.generations()) == 4
        held.set()
        assert {answer.status_code for answer in await asyncio.gather(*asked)} == {200}
        await until(lambda: role(member) is Role.DISPATCHER, 10)
        assert (await ask(member, world.key)).status_code == 200
    assert len(await world.events(9)) == 9


async def test_whoever_takes_over_first_counts_what_runs(world: World, held: asyncio.Event) -> None:
    """A process that had nothing running takes nothing for itself while others run what they were granted."""
    async with region(world, 3) as (dispatcher, *members):
        asked = [ask(members[0], world.key) for _ in range(4)]
        await until(lambda: len(world.engine.generations()) == 4)
        asked += [ask(members[1], world.key) for _ in range(4)]
        await until(lambda: in_line(dispatcher) == (4, 4))
        dispatcher.gateway.region_turns.stop()
        await until(lambda: Role.DISPATCHER in [role(member) for member in members], 10)
        successor = next(member for member in members if role(member) is Role.DISPATCHER)
        await until(lambda: in_line(successor) == (4, 4), 10)
        assert len(world.engine.generations()) == 4
        held.set()
        assert {answer.status_code for answer in await asyncio.gather(*asked)} == {200}
    assert len(await world.events(8)) == 8


async def test_a_dispatcher_that_stops_leaves_its_place_at_once(world: World, held: asyncio.Event) -> None:
    held.set()
    async with contextlib.AsyncExitStack() as stack:
        first = await stack.enter_async_context(world.gateway(gateway_id="gw-a", port=free_port()))
        async with world.gateway(gateway_id="gw-b", port=free_port()) as second:
            await until(lambda: role(first) is Role.DISPATCHER and role(second) is Role.MEMBER)
            assert (await ask(second, world.key)).status_code == 200
            await stack.aclose()
            await until(lambda: role(second) is Role.DISPATCHER, 2)
            assert (await ask(second, world.key)).status_code == 200


async def test_without_valkey_each_goes_on_with_its_static_part_and_they_join_again(
    world: World, held: asyncio.Event
) -> None:
    async with RedisProxy(world.redis_url, free_port()).running() as proxy, region(world, redis_url=proxy.url) as both:
        proxy.black()
        await until(lambda: [role(gateway) for gateway in both] == [Role.ALONE] * 2, 10)
        asked: list[asyncio.Task[httpx.Response]] = []
        for gateway in both:
            asked += [ask(gateway, world.key) for _ in range(5)]
        await until(lambda: len(world.engine.generations()) == 4)
        await asyncio.sleep(0.1)
        assert len(world.engine.generations()) == 4
        held.set()
        assert {answer.status_code for answer in await asyncio.gather(*asked)} == {200}
        proxy.heal()
        await until(lambda: {role(gateway) for gateway in both} == {Role.DISPATCHER, Role.MEMBER}, 15)
        answers = await asyncio.gather(*(ask(gateway, world.key) for gateway in both for _ in range(6)))
        assert {answer.status_code for answer in answers} == {200}
    await world.events(22)


async def test_who_waits_too_long_at_a_member_is_told_when_to_come_back(world: World, held: asyncio.Event) -> None:
    async with region(world, queue_wait_s=0.5) as (dispatcher, member):
        asked = [ask(dispatcher, world.key) for _ in range(4)]
        await until(lambda: in_line(dispatcher)[0] == 4)
        answer = await ask(member, world.key)
        assert answer.status_code == 429
        assert answer.json()["error"]["code"] == "queue_timeout"
        assert 1 <= int(answer.headers["retry-after"]) <= 60
        held.set()
        await asyncio.gather(*asked)
        await until(lambda: in_line(dispatcher) == (0, 0))
