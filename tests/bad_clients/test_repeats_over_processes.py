"""One `Idempotency-Key` fifty times at once, over three gateway processes: one charge; another body is a conflict."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import httpx
import msgspec
import pytest

from chappe_kernel.ids import REQUEST, decode_id
from tests.bad_clients.process import GatewayProcess, gateway_process
from tests.gateway.servers import free_port
from tests.gateway.world import World, auth, chat_body

PATH = "/v1/chat/completions"
AT_ONCE = 50
GATEWAYS = 3
KEY = {"idempotency-key": "order-17"}
_ENDED = {"request_in_progress", "already_completed"}


@contextlib.asynccontextmanager
async def several(world: World) -> AsyncIterator[list[GatewayProcess]]:
    async with contextlib.AsyncExitStack() as stack:
        starting = [gateway_process(world, f"gw-{number}", PORT=str(free_port())) for number in range(GATEWAYS)]
        yield list(await asyncio.gather(*(stack.enter_async_context(one) for one in starting)))


async def ask(http: httpx.AsyncClient, gateway: GatewayProcess, key: str, **fields: Any) -> httpx.Response:
    return await http.post(gateway.url + PATH, json=chat_body(**fields), headers={**auth(key), **KEY})


@pytest.mark.parametrize("kept", [False, True])
async def test_fifty_at_once_over_three_processes_are_one_charge(world: World, kept: bool) -> None:
    if kept:
        world.control.keys[world.key] = msgspec.structs.replace(
            world.control.keys[world.key], answers_kept_for_s=3600.0
        )
    world.engine.script.delay_s = 0.02
    limits = httpx.Limits(max_connections=2 * AT_ONCE)
    async with several(world) as gateways, httpx.AsyncClient(timeout=30, limits=limits) as http:
        same = [ask(http, gateways[number % GATEWAYS], world.key) for number in range(AT_ONCE)]
        other = [ask(http, gateway, world.key, content="something else") for gateway in gateways]
        answers = await asyncio.gather(*same)
        others = await asyncio.gather(*other)
        later = [await ask(http, gateway, world.key) for gateway in gateways]
        served = [answer for answer in answers if answer.status_code == 200]
        first = [answer for answer in served if "idempotent-replayed" not in answer.headers]
        assert len(first) == 1
        assert {answer.content for answer in served} == {first[0].content}
        assert {answer.json()["error"]["code"] for answer in answers if answer.status_code != 200} <= _ENDED
        assert [answer.json()["error"]["code"] for answer in others] == GATEWAYS * ["idempotency_key_reused"]
        assert [answer.status_code for answer in later] == GATEWAYS * [200 if kept else 409]
        [event] = await world.events(1)
        for gateway in gateways:
            await gateway.stop()
    assert event.request_id == decode_id(REQUEST, first[0].headers["x-request-id"])
    assert len(world.engine.generations()) == 1
    assert len(world.control.events) == 1
    assert world.control.pending_nano(world.tenant) == 0


async def test_two_bodies_under_one_key_at_once_are_one_charge_and_conflicts(world: World) -> None:
    """Whichever of them came first: the other one is told so at every process, and none runs twice."""
    world.engine.script.delay_s = 0.02
    async with several(world) as gateways, httpx.AsyncClient(timeout=30) as http:
        asked = [
            ask(http, gateways[number % GATEWAYS], world.key, content=("one", "two")[number % 2])
            for number in range(AT_ONCE)
        ]
        answers = await asyncio.gather(*asked)
        [event] = await world.events(1)
    [served] = [number for number, answer in enumerate(answers) if answer.status_code == 200]
    assert event.request_id == decode_id(REQUEST, answers[served].headers["x-request-id"])
    for number, answer in enumerate(answers):
        if number != served:
            expected = _ENDED if number % 2 == served % 2 else {"idempotency_key_reused"}
            assert answer.status_code == 409
            assert answer.json()["error"]["code"] in expected, Counter(answer.text for answer in answers)
