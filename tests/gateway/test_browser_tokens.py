"""A browser token opens what its key opens, for as long as it lives, and to pages of the portal only."""

import asyncio

from tests.gateway.fake_control import PORTAL
from tests.gateway.test_answers_shape import check_error
from tests.gateway.test_keys import PATH, lookups
from tests.gateway.world import RunningGateway, World, auth, chat_body, until


def from_portal(token: str, origin: str = PORTAL) -> dict[str, str]:
    return {**auth(token), "origin": origin}


async def chat_status(gateway: RunningGateway, token: str) -> int:
    return (await gateway.http.post(PATH, json=chat_body(), headers=from_portal(token))).status_code


async def test_usage_under_a_token_is_its_keys(world: World, gateway: RunningGateway) -> None:
    token = world.control.new_browser_token(world.key)
    assert await chat_status(gateway, token) == 200
    [event] = await world.events(1)
    assert event.key_id == world.control.keys[world.key].key_id


async def test_token_is_refused_without_the_portals_origin_and_before_a_look_up(
    world: World, gateway: RunningGateway
) -> None:
    token = world.control.new_browser_token(world.key)
    others = ("http://localhost:8401", "https://localhost:8400", "http://evil.example", "null", "", PORTAL + "/")
    for headers in (auth(token), *(from_portal(token, origin) for origin in others)):
        answer = await gateway.http.post(PATH, json=chat_body(), headers=headers)
        check_error(answer, 403, "wrong_origin")
        assert "access-control-allow-origin" not in answer.headers
    for first in (PORTAL, "", "http://evil.example"):
        twice = [*auth(token).items(), ("origin", first), ("origin", PORTAL)]
        check_error(await gateway.http.post(PATH, json=chat_body(), headers=twice), 403, "wrong_origin")
    assert lookups(world) == 0


async def test_without_a_portal_no_token_works(world: World, gateway: RunningGateway) -> None:
    world.control.portal_origin = ""
    world.control.changed()
    await until(lambda: gateway.gateway.snapshots.view().snapshot.portal_origin == "")
    token = world.control.new_browser_token(world.key)
    for origin in ("", PORTAL):
        check_error(
            await gateway.http.post(PATH, json=chat_body(), headers=from_portal(token, origin)), 403, "wrong_origin"
        )


async def test_token_is_remembered_while_it_lives_and_no_longer(world: World, gateway: RunningGateway) -> None:
    token = world.control.new_browser_token(world.key, valid_for_s=0.4)
    assert [await chat_status(gateway, token) for _ in range(3)] == [200, 200, 200]
    assert lookups(world) == 1
    del world.control.keys[token]
    await asyncio.sleep(0.4)
    check_error(await gateway.http.post(PATH, json=chat_body(), headers=from_portal(token)), 401, "invalid_api_key")
    assert lookups(world) == 2


async def test_a_fresh_token_works_at_once_after_an_old_one_was_refused(world: World, gateway: RunningGateway) -> None:
    old = world.control.new_browser_token(world.key)
    del world.control.keys[old]
    assert await chat_status(gateway, old) == 401
    assert await chat_status(gateway, world.control.new_browser_token(world.key)) == 200


async def test_its_time_counts_from_the_question_and_not_from_the_answer(world: World, gateway: RunningGateway) -> None:
    """The control plane measured it before it answered: a slow answer must not make a token live longer."""
    world.control.resolve_delay_s = 0.5
    token = world.control.new_browser_token(world.key, valid_for_s=0.5)
    assert await chat_status(gateway, token) == 200
    assert await chat_status(gateway, token) == 200
    assert lookups(world) == 2


async def test_ended_token_is_refused_with_the_next_snapshot(world: World, gateway: RunningGateway) -> None:
    token = world.control.new_browser_token(world.key)
    assert await chat_status(gateway, token) == 200
    del world.control.keys[token]
    world.control.revision += 1
    world.control.changed()
    await until(lambda: gateway.gateway.key_feed.revision == 2)
    assert await chat_status(gateway, token) == 401


async def test_without_the_control_plane_a_token_works_until_its_end(world: World, gateway: RunningGateway) -> None:
    token = world.control.new_browser_token(world.key, valid_for_s=0.5)
    assert await chat_status(gateway, token) == 200
    world.control.away = True
    assert await chat_status(gateway, token) == 200
    await asyncio.sleep(0.5)
    check_error(await gateway.http.post(PATH, json=chat_body(), headers=from_portal(token)), 503, "control_unreachable")
