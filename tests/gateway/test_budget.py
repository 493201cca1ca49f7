"""Nobody spends what they don't have, nobody is refused falsely, and every nano is accounted for."""

import asyncio
import time

import httpx
import msgspec
import pytest

from chappe_gateway.money.grant_client import PATIENCE_S
from chappe_kernel.rating import upper_bound
from tests.gateway.fake_control import CHAT, PRICE, FakeControl
from tests.gateway.test_answers_shape import check_error
from tests.gateway.world import RawClient, RunningGateway, World, auth, chat_body, status_leaves, until

PATH = "/v1/chat/completions"
COST_NANO = 6 * PRICE.input_nano_per_token + 8 * PRICE.output_nano_per_token


def exact_hold_nano(max_tokens: int) -> int:
    return upper_bound(PRICE, 6, max_tokens)


async def ask(gateway: RunningGateway, key: str, **fields: object) -> httpx.Response:
    return await gateway.http.post(PATH, json=chat_body(**fields), headers=auth(key))  # type: ignore[arg-type]


async def money_at_rest(world: World, running: RunningGateway) -> None:
    """Wait until the gateway has given back everything."""
    running.gateway.grants.forget_leases()
    await until(lambda: world.control.pending_nano(world.tenant) == 0)


@pytest.mark.parametrize("concurrency", [12, 200])
async def test_concurrent_requests_are_accounted_exactly(world: World, concurrency: int) -> None:
    world.engine.script.delay_s = 0.002
    async with world.gateway(grant_block_nano=2_000_000) as gateway:
        answers = await asyncio.gather(
            *(ask(gateway, world.key, stream=number % 2 == 0) for number in range(concurrency))
        )
        assert {answer.status_code for answer in answers} == {200}
        events = await world.events(concurrency, 20)
        assert len({event.request_id for event in events}) == concurrency
        assert sum(event.amount_nano for event in events) == concurrency * COST_NANO
        assert gateway.gateway.grants.open_holds() == 0
        await money_at_rest(world, gateway)
    spent = {grant_id: given.posted_nano for grant_id, given in world.control.grants.items()}
    for event in events:
        spent[event.grant_id] -= event.amount_nano
    assert set(spent.values()) == {0}
    assert all(g.amount_nano == g.returned_nano + g.posted_nano for g in world.control.grants.values())


async def test_a_burst_on_a_budget_for_ten_admits_ten_at_most_and_refuses_nobody_later(world: World) -> None:
    hold_nano = exact_hold_nano(8)
    tenant = world.control.new_tenant(10 * hold_nano)
    key = world.control.new_key(tenant)
    world.engine.script.delay_s = 0.02
    async with world.gateway() as gateway:
        limits = httpx.Limits(max_connections=200)
        async with httpx.AsyncClient(timeout=30, limits=limits, base_url=gateway.url) as http:
            answers = await asyncio.gather(
                *(http.post(PATH, json=chat_body(max_tokens=8), headers=auth(key)) for _ in range(150))
            )
        statuses = [answer.status_code for answer in answers]
        assert 1 <= statuses.count(200) <= 11
        assert set(statuses) <= {200, 402, 503}
        assert world.control.posted_nano(tenant) <= 10 * hold_nano
        await until(lambda: gateway.gateway.grants.open_holds() == 0)
        # What is left is spent to the last request that fits.
        await until(lambda: len(world.control.events) == statuses.count(200))
        await status_leaves(lambda: ask(gateway, key, max_tokens=8), 200)
        await asyncio.sleep(0.5)
        left = world.control.funds[tenant] - world.control.posted_nano(tenant)
        assert 0 <= left < hold_nano


async def test_an_empty_account_is_402(world: World, gateway: RunningGateway) -> None:
    key = world.control.new_key(world.control.new_tenant(0))
    check_error(await ask(gateway, key), 402, "insufficient_funds")
    assert world.engine.generations() == []
    await world.events(0)


async def test_before_a_402_the_exact_prompt_is_tried(world: World, gateway: RunningGateway) -> None:
    tenant = world.control.new_tenant(exact_hold_nano(16))
    key = world.control.new_key(tenant)
    assert (await ask(gateway, key, max_tokens=16)).status_code == 200
    request = msgspec.json.decode(world.engine.generations()[0].body)
    assert request["max_prompt_tokens"] == 6
    [event] = await world.events(1)
    assert event.hold_nano == exact_hold_nano(16)
    check_error(await ask(gateway, key, max_tokens=16), 402, "insufficient_funds")


async def test_money_held_elsewhere_is_503_not_402(world: World, gateway: RunningGateway) -> None:
    tenant = world.control.new_tenant(exact_hold_nano(100))
    key = world.control.new_key(tenant)
    world.engine.script.tokens, world.engine.script.delay_s = 90, 0.1
    async with RawClient.to(gateway.port) as running:
        running.send_chat(key, stream=True, max_tokens=90)
        await running.read_head()
        began = time.monotonic()
        check_error(await ask(gateway, key, max_tokens=90), 503, "budget_unavailable")
        assert time.monotonic() - began >= PATIENCE_S
    await world.events(1)
    world.engine.script.delay_s = 0
    assert (await ask(gateway, key, max_tokens=20)).status_code == 200


async def test_who_waits_gets_what_a_request_of_the_same_gateway_leaves_over(
    world: World, gateway: RunningGateway
) -> None:
    """Without a word to the control plane, in the order of their coming."""
    tenant = world.control.new_tenant(exact_hold_nano(100))
    key = world.control.new_key(tenant)
    world.engine.script.delay_s = 0.05
    async with RawClient.to(gateway.port) as running:
        running.send_chat(key, stream=True, max_tokens=90)
        await running.read_head()
        answers = await asyncio.gather(*(ask(gateway, key, max_tokens=40) for _ in range(2)))
        assert {answer.status_code for answer in answers} == {200}


async def test_leases_of_our_own_that_lie_idle_are_given_back_for_one_bigger_hold(world: World) -> None:
    tenant = world.control.new_tenant(3 * exact_hold_nano(100))
    key = world.control.new_key(tenant)
    async with world.gateway(grant_block_nano=exact_hold_nano(100)) as gateway:
        assert (await ask(gateway, key, max_tokens=10)).status_code == 200
        assert (await ask(gateway, key, max_tokens=250)).status_code == 200


async def test_the_next_grant_is_leased_ahead_of_need(world: World) -> None:
    world.engine.script.delay_s = 0.05
    async with world.gateway(grant_block_nano=1_000_000) as gateway:
        asking = [asyncio.create_task(ask(gateway, world.key, max_tokens=1000)) for _ in range(4)]
        await until(lambda: world.control.calls.count("POST /grants") == 2)
        assert not any(task.done() for task in asking)
        assert {answer.status_code for answer in await asyncio.gather(*asking)} == {200}
        assert world.control.calls.count("POST /grants") == 2


async def test_without_the_control_plane_it_serves_until_its_grants_end(world: World) -> None:
    world.control.admit_s = 1.0
    async with world.gateway() as gateway:
        assert (await ask(gateway, world.key)).status_code == 200
        world.control.away = True
        assert (await ask(gateway, world.key)).status_code == 200
        answer = await status_leaves(lambda: ask(gateway, world.key), 200)
        check_error(answer, 503, "control_unreachable")
        world.control.away = False
        assert (await ask(gateway, world.key)).status_code == 200
        # Nothing that was charged meanwhile is lost.
        await until(lambda: len(world.control.events) == len(world.engine.generations()), 10)


async def test_a_grant_whose_answer_was_lost_is_not_leased_twice(world: World, gateway: RunningGateway) -> None:
    world.control.lose_grant_answers = 1
    check_error(await ask(gateway, world.key), 503, "control_unreachable")
    assert (await ask(gateway, world.key)).status_code == 200
    assert len(world.control.grants) == 1


async def test_a_grant_whose_answer_was_lost_goes_back_though_nobody_asks_again(world: World) -> None:
    """Else others are refused for it until its release."""
    world.control.admit_s = 0.5
    async with world.gateway() as gateway:
        world.control.lose_grant_answers = 1
        check_error(await ask(gateway, world.key), 503, "control_unreachable")
        assert world.control.pending_nano(world.tenant) > 0
        await until(lambda: world.control.pending_nano(world.tenant) == 0)
        assert len(world.control.grants) == 1


async def test_expired_grants_go_back(world: World) -> None:
    world.control.admit_s = 0.3
    async with world.gateway() as gateway:
        assert (await ask(gateway, world.key)).status_code == 200
        await world.events(1)
        await until(lambda: world.control.pending_nano(world.tenant) == 0)


async def test_free_models_need_no_money(world: World) -> None:
    control: FakeControl = world.control
    control.prices[CHAT] = msgspec.structs.replace(
        PRICE, input_nano_per_token=0, cached_input_nano_per_token=0, output_nano_per_token=0
    )
    key = control.new_key(control.new_tenant(0))
    async with world.gateway() as gateway:
        assert (await ask(gateway, key)).status_code == 200
    [event] = await world.events(1)
    assert event.amount_nano == 0
