"""A deployment that fails again and again is left alone for a while, and one request finds out whether it is back."""

import asyncio

import pytest

from chappe_kernel.wire.engine import EngineError
from tests.gateway.fake_control import CHAT
from tests.gateway.test_answers_shape import check_error
from tests.gateway.world import RunningGateway, World, auth, chat_body, until

PATH = "/v1/chat/completions"


async def ask(world: World, gateway: RunningGateway) -> int:
    return (await gateway.http.post(PATH, json=chat_body(), headers=auth(world.key))).status_code


async def until_it_opens(world: World, gateway: RunningGateway, *, stream: bool = False) -> int:
    """How many requests that took."""
    asked = 0
    async with asyncio.timeout(10):
        while gateway.gateway.breakers.would_pass(CHAT):
            await gateway.http.post(PATH, json=chat_body(stream=stream), headers=auth(world.key))
            asked += 1
    return asked


async def test_a_failing_deployment_is_left_alone_and_found_again(world: World, gateway: RunningGateway) -> None:
    world.engine.script.drop_times = 1000
    failed = await until_it_opens(world, gateway)
    tried = len(world.engine.generations())
    assert failed >= 5
    assert tried == 2 * failed
    answer = await gateway.http.post(PATH, json=chat_body(), headers=auth(world.key))
    check_error(answer, 503, "model_unavailable")
    assert len(world.engine.generations()) == tried
    assert {name: int(state) for _, name, state in gateway.gateway.breaker_states()} == {CHAT: 2}
    world.engine.script.drop_times = 0
    await until(lambda: gateway.gateway.breakers.would_pass(CHAT))
    answers = await asyncio.gather(*(ask(world, gateway) for _ in range(10)))
    assert 200 in answers
    assert await ask(world, gateway) == 200
    assert gateway.gateway.grants.open_holds() == 0
    await until(lambda: len(world.control.events) >= failed + answers.count(200) + 1)
    charged = [event for event in world.control.events.values() if event.amount_nano]
    assert len(charged) == answers.count(200) + 1


@pytest.mark.parametrize("code", ["internal", "overloaded", "invalid_request"])
async def test_what_an_engine_says_of_requests_opens_nothing(world: World, gateway: RunningGateway, code: str) -> None:
    """A tenant whose requests crash an engine's work must not take the model from everybody."""
    world.engine.script.refuse = (500, EngineError(code, "x"))  # type: ignore[arg-type]  # parametrised
    for _ in range(12):
        await ask(world, gateway)
    world.engine.script.refuse = None
    assert await ask(world, gateway) == 200


async def test_streams_that_break_off_open_it(world: World, gateway: RunningGateway) -> None:
    world.engine.script.die_after = 2
    assert await until_it_opens(world, gateway, stream=True) >= 5


async def test_clients_that_leave_open_nothing(world: World, gateway: RunningGateway) -> None:
    world.engine.script.first_delay_s = 0.3
    for _ in range(8):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await ask(world, gateway)
    await until(lambda: not gateway.gateway.live)
    assert gateway.gateway.breakers.would_pass(CHAT)
