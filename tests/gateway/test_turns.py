"""Who finds a deployment busy waits for a fair turn; who leaves, waits too long or finds no room pays nothing."""

import asyncio
from typing import Any

import httpx
import msgspec
import pytest

from chappe_kernel.rating import Outcome
from chappe_kernel.wire.control import DeploymentLoad
from tests.gateway.fake_control import CHAT
from tests.gateway.scripted_engine import Script
from tests.gateway.world import RawClient, RunningGateway, World, auth, chat_body, until

PATH = "/v1/chat/completions"


def ask(gateway: RunningGateway, key: str, content: str = "hello", **fields: Any) -> "asyncio.Task[httpx.Response]":
    headers = {**auth(key), **fields.pop("headers", {})}
    return asyncio.create_task(gateway.http.post(PATH, json=chat_body(content, **fields), headers=headers))


def in_line(gateway: RunningGateway) -> tuple[int, int]:
    """Running, waiting."""
    dispatcher = gateway.gateway.turns.office.posts[CHAT].dispatcher
    return dispatcher.running, dispatcher.waiting


async def busy(world: World, gateway: RunningGateway, requests: int = 1) -> "list[asyncio.Task[httpx.Response]]":
    """Engines that answer nothing before `held` is set have as much to do as they take."""
    await gateway.gateway.turns.poll()
    asked = [ask(gateway, world.key) for _ in range(requests)]
    await until(lambda: len(world.engine.generations()) == requests)
    return asked


@pytest.fixture
def held(world: World) -> asyncio.Event:
    event = asyncio.Event()
    world.engine.script = Script(tokens=2, held=event)
    world.control.capacities[CHAT] = 1
    return event


async def test_engines_never_get_more_than_serve_takes_and_everybody_is_answered(
    world: World, held: asyncio.Event
) -> None:
    world.control.capacities[CHAT] = 3
    async with world.gateway() as gateway:
        asked = await busy(world, gateway, 3)
        asked += [ask(gateway, world.key, stream=stream) for stream in (True, False) * 5]
        await until(lambda: in_line(gateway) == (3, 10))
        assert len(world.engine.generations()) == 3
        held.set()
        assert {answer.status_code for answer in await asyncio.gather(*asked)} == {200}
        await until(lambda: in_line(gateway) == (0, 0))
    assert len(await world.events(13)) == 13


async def test_a_tenant_that_comes_late_is_next_after_one_of_the_flood(world: World, held: asyncio.Event) -> None:
    other = world.control.new_key(world.control.new_tenant())
    async with world.gateway() as gateway:
        asked = await busy(world, gateway)
        asked += [ask(gateway, world.key, "flood") for _ in range(10)]
        await until(lambda: in_line(gateway) == (1, 10))
        asked.append(ask(gateway, other, "late"))
        await until(lambda: in_line(gateway) == (1, 11))
        held.set()
        await asyncio.gather(*asked)
    bodies = [seen.body for seen in world.engine.generations()]
    assert any(b'"late"' in body for body in bodies[1:3])


async def test_unverified_tenants_share_one_account(world: World, held: asyncio.Event) -> None:
    keys = [world.control.new_key(world.control.new_tenant()) for _ in range(5)]
    for key in keys:
        world.control.keys[key] = msgspec.structs.replace(world.control.keys[key], verified=False)
    async with world.gateway() as gateway:
        asked = await busy(world, gateway)
        asked += [ask(gateway, key, "sybil") for key in keys for _ in range(2)]
        asked += [ask(gateway, world.key, "known") for _ in range(5)]
        await until(lambda: in_line(gateway) == (1, 15))
        held.set()
        await asyncio.gather(*asked)
    bodies = [seen.body for seen in world.engine.generations()][1:11]
    assert 4 <= sum(b'"known"' in body for body in bodies) <= 5


@pytest.mark.parametrize("stream", [True, False])
async def test_a_client_that_leaves_while_waiting_frees_all_it_held(
    world: World, held: asyncio.Event, stream: bool
) -> None:
    async with world.gateway() as gateway:
        asked = await busy(world, gateway)
        async with RawClient.to(gateway.port) as client:
            client.send_chat(world.key, stream=stream)
            await until(lambda: in_line(gateway) == (1, 1))
        await until(lambda: in_line(gateway) == (1, 0))
        await until(lambda: gateway.gateway.loads() == (DeploymentLoad(CHAT, 1),))
        held.set()
        await asyncio.gather(*asked)
        events = await world.events(2)
    left = next(event for event in events if event.outcome is Outcome.DISCONNECTED)
    assert (left.amount_nano, left.attempt) == (0, 0)
    assert len(world.engine.generations()) == 1
    assert world.control.pending_nano(world.tenant) == 0


@pytest.mark.parametrize("stream", [True, False])
async def test_who_waits_too_long_is_told_when_to_come_back_and_pays_nothing(
    world: World, held: asyncio.Event, stream: bool
) -> None:
    async with world.gateway(queue_wait_s=0.2) as gateway:
        asked = await busy(world, gateway)
        answer = await ask(gateway, world.key, stream=stream)
        assert answer.status_code == 429
        assert answer.json()["error"]["code"] == "queue_timeout"
        assert answer.json()["error"]["type"] == "rate_limit_error"
        assert 1 <= int(answer.headers["retry-after"]) <= 60
        held.set()
        await asyncio.gather(*asked)
        await world.events(1)
    assert world.control.pending_nano(world.tenant) == 0


async def test_a_full_queue_refuses_at_once_and_has_room_for_another_tenant(world: World, held: asyncio.Event) -> None:
    other = world.control.new_key(world.control.new_tenant())
    async with world.gateway(queue_total=8, queue_per_tenant=3) as gateway:
        asked = await busy(world, gateway)
        asked += [ask(gateway, world.key) for _ in range(3)]
        await until(lambda: in_line(gateway) == (1, 3))
        refused = await ask(gateway, world.key)
        assert refused.status_code == 429
        assert refused.json()["error"]["code"] == "queue_full"
        assert int(refused.headers["retry-after"]) >= 1
        asked.append(ask(gateway, other))
        await until(lambda: in_line(gateway) == (1, 4))
        held.set()
        assert {answer.status_code for answer in await asyncio.gather(*asked)} == {200}
        await world.events(5)


async def test_a_key_revoked_while_waiting_ends_the_waiting(world: World, held: asyncio.Event) -> None:
    async with world.gateway() as gateway:
        asked = await busy(world, gateway)
        waiting = ask(gateway, revoked := world.control.new_key(world.control.new_tenant()))
        await until(lambda: in_line(gateway) == (1, 1))
        world.control.keys[revoked] = msgspec.structs.replace(world.control.keys[revoked], active=False)
        world.control.revision += 1
        assert (await waiting).status_code == 403
        assert in_line(gateway) == (1, 0)
        held.set()
        await asyncio.gather(*asked)
    assert len(world.engine.generations()) == 1


async def test_a_priority_that_nobody_knows_is_refused_and_frees_everything(world: World) -> None:
    async with world.gateway() as gateway:
        answer = await ask(gateway, world.key, headers={"x-chappe-priority": "urgent"})
        assert answer.status_code == 400
        assert answer.json()["error"]["param"] == "x-chappe-priority"
        for priority in ("interactive", "standard", "batch"):
            assert (await ask(gateway, world.key, headers={"x-chappe-priority": priority})).status_code == 200
        assert in_line(gateway) == (0, 0)
        await world.events(3)


async def test_an_engine_that_breaks_off_gives_its_turn_back(world: World) -> None:
    world.control.capacities[CHAT] = 1
    async with world.gateway() as gateway:
        await gateway.gateway.turns.poll()
        for script in (Script(die_after=1), Script(drop_times=2), Script(unavailable_times=2), Script()):
            world.engine.script = script
            for stream in (True, False):
                await ask(gateway, world.key, stream=stream)
        await until(lambda: in_line(gateway) == (0, 0))


async def test_a_gateway_that_stops_serves_those_who_wait(world: World, held: asyncio.Event) -> None:
    url = f"http://127.0.0.1:{world.ports['fr-par']}"
    async with httpx.AsyncClient(base_url=url, timeout=20) as http:
        async with world.gateway(drain_s=10.0) as gateway:
            asked = await busy(world, gateway)
            asked += [asyncio.create_task(http.post(PATH, json=chat_body(), headers=auth(world.key))) for _ in range(3)]
            await until(lambda: in_line(gateway) == (1, 3))
            first = asked.pop(0)
            asyncio.get_running_loop().call_later(0.2, held.set)
        # Its own client was closed before the gateway was; the others' were not.
        await asyncio.gather(first, return_exceptions=True)
        assert {answer.status_code for answer in await asyncio.gather(*asked)} == {200}
    assert len(world.control.events) == 4
