"""A key opens exactly what the control plane says, and stops to at the next snapshot after a change."""

import asyncio

import msgspec

from chappe_kernel.api_keys import KeyKind, Pepper, generate_key
from tests.gateway.test_answers_shape import check_error
from tests.gateway.world import RunningGateway, World, auth, chat_body, until

PATH = "/v1/chat/completions"


def lookups(world: World) -> int:
    return world.control.calls.count("POST /keys/resolve")


async def test_malformed_keys_are_refused_without_a_look_up(world: World, gateway: RunningGateway) -> None:
    wrong_checksum = world.key[:-1] + ("a" if world.key[-1] != "a" else "b")
    for header in ({}, auth("x"), auth("sk-1234"), auth(wrong_checksum), auth("' OR 1=1 --"), {"apikey": world.key}):
        answer = await gateway.http.post(PATH, json=chat_body(), headers=header)
        check_error(answer, 401, "invalid_api_key")
    assert lookups(world) == 0


async def test_two_authorization_headers_are_none(world: World, gateway: RunningGateway) -> None:
    headers = [("authorization", f"Bearer {world.key}"), ("authorization", f"Bearer {world.key}")]
    check_error(await gateway.http.post(PATH, json=chat_body(), headers=headers), 401, "invalid_api_key")


async def test_unknown_keys_are_looked_up_once(world: World, gateway: RunningGateway) -> None:
    key = generate_key(KeyKind.INFERENCE)
    for _ in range(3):
        check_error(await gateway.http.post(PATH, json=chat_body(), headers=auth(key)), 401, "invalid_api_key")
    assert lookups(world) == 1


async def test_a_burst_with_one_key_is_one_look_up(world: World, gateway: RunningGateway) -> None:
    answers = await asyncio.gather(
        *(gateway.http.post(PATH, json=chat_body(), headers=auth(world.key)) for _ in range(20))
    )
    assert {answer.status_code for answer in answers} == {200}
    assert lookups(world) == 1


async def test_management_keys_and_suspended_accounts_are_403(world: World, gateway: RunningGateway) -> None:
    management = world.control.new_key(world.tenant, kind=KeyKind.MANAGEMENT)
    check_error(await gateway.http.post(PATH, json=chat_body(), headers=auth(management)), 403, "wrong_key_kind")
    suspended = world.control.new_key(world.tenant, active=False)
    check_error(await gateway.http.post(PATH, json=chat_body(), headers=auth(suspended)), 403, "account_suspended")


async def test_revocation_takes_effect_with_the_next_snapshot(world: World, gateway: RunningGateway) -> None:
    assert (await gateway.http.post(PATH, json=chat_body(), headers=auth(world.key))).status_code == 200
    del world.control.keys[world.key]
    world.control.revision += 1
    world.control.changed()
    await until(lambda: gateway.gateway.key_feed.revision == 2)
    check_error(await gateway.http.post(PATH, json=chat_body(), headers=auth(world.key)), 401, "invalid_api_key")


async def test_a_new_pepper_keeps_keys_working(world: World, gateway: RunningGateway) -> None:
    assert (await gateway.http.post(PATH, json=chat_body(), headers=auth(world.key))).status_code == 200
    world.control.peppers = (Pepper(2, b"q" * 32), *world.control.peppers)
    world.control.changed()
    await until(lambda: len(gateway.gateway.snapshots.view().peppers) == 2)
    assert (await gateway.http.post(PATH, json=chat_body(), headers=auth(world.key))).status_code == 200


async def test_without_the_control_plane_known_keys_work_and_others_are_503(
    world: World, gateway: RunningGateway
) -> None:
    assert (await gateway.http.post(PATH, json=chat_body(), headers=auth(world.key))).status_code == 200
    other = world.control.new_key(world.tenant)
    world.control.away = True
    assert (await gateway.http.post(PATH, json=chat_body(), headers=auth(world.key))).status_code == 200
    answer = await gateway.http.post(PATH, json=chat_body(), headers=auth(other))
    check_error(answer, 503, "control_unreachable")


async def test_facts_that_changed_during_the_look_up_are_not_used(world: World, gateway: RunningGateway) -> None:
    world.control.resolve_delay_s = 0.2
    cache = gateway.gateway.keys
    view = gateway.gateway.snapshots.view()
    asking = asyncio.create_task(cache.authenticate([(b"authorization", f"Bearer {world.key}".encode())], view))
    await until(lambda: lookups(world) == 1)
    world.control.keys[world.key] = msgspec.structs.replace(world.control.keys[world.key], regions=("de-fra",))
    world.control.revision += 1
    world.control.changed()
    await gateway.gateway.key_feed.poll()
    assert (await asking).facts.regions == ("de-fra",)
