"""A gateway forgets whose keys changed and nobody else's, and ends what runs by a right that is gone."""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec
import pytest

from chappe_gateway.access.auth import KeyCache
from chappe_gateway.access.rights import touched_by
from chappe_kernel.rating import NO_COUNTS, Counts, Outcome
from chappe_kernel.wire.control import KeyChange
from tests.gateway.fake_control import CHAT
from tests.gateway.test_answers_shape import check_error
from tests.gateway.test_browser_tokens import from_portal
from tests.gateway.test_keys import PATH, lookups
from tests.gateway.world import RawClient, RunningGateway, World, auth, chat_body, until

# What runs must have ended so long after the change.
ENDS_WITHIN_S = 5.0
Change = Callable[[World], None]


async def status(gateway: RunningGateway, key: str) -> int:
    return (await gateway.http.post(PATH, json=chat_body(), headers=auth(key))).status_code


async def followed(world: World, gateway: RunningGateway) -> None:
    await until(lambda: gateway.gateway.key_feed.revision == world.control.revision)


def set_facts(world: World, **changes: Any) -> None:
    world.control.keys[world.key] = msgspec.structs.replace(world.control.keys[world.key], **changes)
    world.control.announce(world.tenant, world.key)


def revoke(world: World) -> None:
    world.control.announce(world.tenant, world.key)
    del world.control.keys[world.key]


def suspend(world: World) -> None:
    for key, facts in world.control.keys.items():
        world.control.keys[key] = msgspec.structs.replace(facts, active=False)
    world.control.announce(world.tenant)


def narrow_region(world: World) -> None:
    set_facts(world, regions=("de-fra",))


def narrow_models(world: World) -> None:
    set_facts(world, models=("another",))


def narrow_networks(world: World) -> None:
    set_facts(world, networks=("192.0.2.0/24",))


def restore_without_the_key(world: World) -> None:
    """The database is another one, in which the key was never made; nobody can tell what changed."""
    del world.control.keys[world.key]
    world.control.epoch = "epoch-2"
    world.control.changed()


ENDINGS: list[tuple[Change, str]] = [
    (revoke, "invalid_api_key"),
    (suspend, "account_suspended"),
    (narrow_region, "residency_denied"),
    (narrow_models, "model_denied"),
    (narrow_networks, "address_not_allowed"),
    (restore_without_the_key, "invalid_api_key"),
]


async def test_a_change_makes_a_gateway_look_up_that_key_alone(world: World, gateway: RunningGateway) -> None:
    sibling = world.control.new_key(world.tenant)
    stranger = world.control.new_key(world.control.new_tenant())
    assert {await status(gateway, key) for key in (world.key, sibling, stranger)} == {200}
    world.control.announce(world.tenant, world.key)
    await followed(world, gateway)
    assert {await status(gateway, key) for key in (world.key, sibling, stranger)} == {200}
    assert lookups(world) == 4


async def test_a_change_of_the_tenant_makes_it_look_up_all_of_its_keys(world: World, gateway: RunningGateway) -> None:
    sibling = world.control.new_key(world.tenant)
    stranger = world.control.new_key(world.control.new_tenant())
    for key in (world.key, sibling, stranger):
        assert await status(gateway, key) == 200
    suspend(world)
    await followed(world, gateway)
    assert [await status(gateway, key) for key in (world.key, sibling, stranger)] == [403, 403, 200]
    assert lookups(world) == 5


@pytest.mark.parametrize("change", ["untold", "restored"])
async def test_what_cannot_be_told_makes_it_look_up_every_key(
    world: World, gateway: RunningGateway, change: str
) -> None:
    stranger = world.control.new_key(world.control.new_tenant())
    for key in (world.key, stranger):
        assert await status(gateway, key) == 200
    if change == "untold":
        world.control.revision += 1
    else:
        # A restored database may stand at the very same number, or at an earlier one.
        world.control.epoch, world.control.revision = "epoch-2", 1
    asked = world.control.calls.count("GET /keys/changes")
    await until(lambda: world.control.calls.count("GET /keys/changes") >= asked + 2)
    for key in (world.key, stranger):
        assert await status(gateway, key) == 200
    assert lookups(world) == 4


async def test_a_key_that_was_unknown_works_when_something_changed(world: World, gateway: RunningGateway) -> None:
    facts = world.control.keys.pop(world.key)
    assert await status(gateway, world.key) == 401
    world.control.keys[world.key] = facts
    world.control.announce(world.tenant)
    await followed(world, gateway)
    assert await status(gateway, world.key) == 200


@pytest.mark.alone
async def test_a_change_is_known_and_acknowledged_within_a_second(world: World, gateway: RunningGateway) -> None:
    """With the production's own times. The heartbeat does not wait for its turn."""
    async with world.gateway("de-fra", "gw-2", keys_poll_s=0.25, heartbeat_s=30.0) as other:
        assert await status(other, world.key) == 200
        revoke(world)
        began = time.monotonic()
        await until(lambda: any(beat.keys_revision == world.control.revision for beat in _beats(world, "gw-2")))
        assert time.monotonic() - began < 1
        assert await status(other, world.key) == 401


async def test_a_gateway_that_stops_takes_its_leave(world: World) -> None:
    async with world.gateway() as gateway:
        assert await status(gateway, world.key) == 200
    assert [beat.leaving for beat in _beats(world, "gw-1")][-1]
    assert not any(beat.leaving for beat in _beats(world, "gw-1")[:-1])


async def test_without_word_of_the_keys_a_gateway_fails_closed_though_snapshots_come(world: World) -> None:
    world.control.max_age_s = 0.6
    async with world.gateway() as gateway:
        assert await status(gateway, world.key) == 200
        world.control.mute_key_changes = True
        began = time.monotonic()
        await until(lambda: not gateway.gateway.snapshots.is_fresh())
        assert time.monotonic() - began < 1
        answer = await gateway.http.post(PATH, json=chat_body(), headers=auth(world.key))
        check_error(answer, 503, "snapshot_too_old")
        world.control.mute_key_changes = False
        await until(gateway.gateway.snapshots.is_fresh)
        assert await status(gateway, world.key) == 200


@contextlib.asynccontextmanager
async def streaming(world: World, gateway: RunningGateway, key: str, **headers: str) -> AsyncIterator[RawClient]:
    """A long stream whose first token has come."""
    world.engine.script.tokens, world.engine.script.delay_s = 1000, 0.02
    async with RawClient.to(gateway.port) as client:
        body = json.dumps(chat_body(stream=True, max_tokens=1000)).encode()
        client.send_head(PATH, key, content_length=str(len(body)), **headers)
        client.writer.write(body)
        await client.reader.readuntil(b'" tok"')
        yield client


async def rest_of(client: RawClient) -> str:
    async with asyncio.timeout(ENDS_WITHIN_S):
        return (await client.reader.readuntil(b"\r\n0\r\n\r\n")).decode()


@pytest.mark.parametrize(("change", "code"), ENDINGS)
async def test_a_running_stream_ends_with_an_error_and_is_charged_for_what_was_made(
    world: World, gateway: RunningGateway, change: Change, code: str
) -> None:
    async with streaming(world, gateway, world.key) as client:
        change(world)
        changed_at = time.monotonic()
        rest = await rest_of(client)
        assert time.monotonic() - changed_at < ENDS_WITHIN_S
    assert f'"code":"{code}"' in rest
    assert "[DONE]" not in rest
    [event] = await world.events(1)
    [seen] = world.engine.generations()
    assert seen.closed_at is not None and seen.closed_at - changed_at < ENDS_WITHIN_S
    assert event.outcome is Outcome.DISCONNECTED
    assert event.counts == Counts(6, 0, seen.sent_tokens)
    assert event.amount_nano == 6 * 60 + seen.sent_tokens * 210 <= event.hold_nano
    assert (gateway.gateway.grants.open_holds(), gateway.gateway.live) == (0, set())


async def test_revoking_before_the_first_token_does_not_make_the_prompt_free(
    world: World, gateway: RunningGateway
) -> None:
    """Else whoever revokes a key in time, again and again, has every prefill for nothing."""
    world.engine.script.first_delay_s = 0.8
    asking = asyncio.create_task(gateway.http.post(PATH, json=chat_body(), headers=auth(world.key)))
    await until(lambda: bool(world.engine.generations()))
    revoke(world)
    check_error(await asking, 401, "invalid_api_key")
    [event] = await world.events(1)
    assert event.outcome is Outcome.DISCONNECTED
    assert (event.counts.prompt_tokens, event.amount_nano) == (6, 6 * 60 + event.counts.completion_tokens * 210)


async def test_streams_of_others_and_changes_that_take_nothing_away_end_nothing(
    world: World, gateway: RunningGateway
) -> None:
    stranger = world.control.new_key(world.control.new_tenant())
    sibling = world.control.new_key(world.tenant)
    async with (
        streaming(world, gateway, stranger) as others,
        streaming(world, gateway, sibling) as siblings,
        streaming(world, gateway, world.key) as mine,
    ):
        set_facts(world, regions=("de-fra", "fr-par"), limits=())
        await followed(world, gateway)
        await until(lambda: lookups(world) == 4)
        revoke(world)
        assert "invalid_api_key" in await rest_of(mine)
        for client in (others, siblings):
            await client.reader.readuntil(b'" tok"')
        assert len(gateway.gateway.live) == 2


async def test_a_stream_narrowed_by_its_own_header_ends_when_that_region_is_taken_away(
    world: World, gateway: RunningGateway
) -> None:
    async with streaming(world, gateway, world.key, x_chappe_region="FR") as client:
        narrow_region(world)
        assert "residency_denied" in await rest_of(client)


async def test_a_token_that_was_ended_ends_its_stream(world: World, gateway: RunningGateway) -> None:
    token = world.control.new_browser_token(world.key)
    async with streaming(world, gateway, token, origin=from_portal(token)["origin"]) as client:
        del world.control.keys[token]
        world.control.announce(world.tenant, world.key)
        assert "invalid_api_key" in await rest_of(client)


@pytest.mark.parametrize("away", [False, True])
async def test_a_stream_runs_no_longer_than_its_key_whether_or_not_anybody_can_be_asked(
    world: World, gateway: RunningGateway, away: bool
) -> None:
    set_facts(world, valid_for_s=1.0)
    async with streaming(world, gateway, world.key) as client:
        world.control.away = away
        assert "key_expired" in await rest_of(client)
    world.control.away = False
    [event] = await world.events(1)
    assert event.outcome is Outcome.DISCONNECTED


async def test_a_key_whose_end_was_put_off_keeps_its_stream(world: World, gateway: RunningGateway) -> None:
    set_facts(world, valid_for_s=1.0)
    async with streaming(world, gateway, world.key) as client:
        set_facts(world, valid_for_s=600.0)
        await until(lambda: lookups(world) == 2)
        await asyncio.sleep(1.3)
        await client.reader.readuntil(b'" tok"')
        assert len(gateway.gateway.live) == 1


async def test_a_change_that_nobody_can_explain_ends_the_stream_at_our_own_cost(
    world: World, gateway: RunningGateway
) -> None:
    """The control plane said that something changed, and went away before it could say what."""
    async with streaming(world, gateway, world.key) as client:
        world.control.resolve_fails = True
        revoke(world)
        assert "key_lookup_unavailable" in await rest_of(client)
    [event] = await world.events(1)
    assert event.outcome is Outcome.FAILED
    [seen] = world.engine.generations()
    assert event.counts.completion_tokens <= seen.sent_tokens


async def test_streams_end_when_the_gateway_may_not_serve_any_more(world: World) -> None:
    """From then on everybody counts a narrowing as complete, so nothing may run on what was true before."""
    world.control.max_age_s = 1.0
    async with world.gateway() as gateway:
        async with streaming(world, gateway, world.key) as client:
            world.control.away = True
            assert "snapshot_too_old" in await rest_of(client)
        world.control.away = False
        [event] = await world.events(1)
        assert event.outcome is Outcome.FAILED


async def test_a_key_revoked_while_the_body_arrives_starts_nothing(world: World, gateway: RunningGateway) -> None:
    body = json.dumps(chat_body()).encode()
    async with RawClient.to(gateway.port) as client:
        client.send_head(PATH, world.key, content_length=str(len(body)))
        client.writer.write(body[:10])
        await until(lambda: lookups(world) == 1)
        revoke(world)
        await followed(world, gateway)
        client.writer.write(body[10:])
        code, _ = await client.read_head()
    assert code == 401
    assert world.engine.generations() == []
    assert (gateway.gateway.grants.open_holds(), gateway.gateway.live, world.control.events) == (0, set(), {})


async def test_a_key_revoked_while_budget_is_leased_starts_nothing_and_costs_nothing(
    world: World, gateway: RunningGateway
) -> None:
    world.control.grant_delay_s = 0.5
    asking = asyncio.create_task(gateway.http.post(PATH, json=chat_body(), headers=auth(world.key)))
    await until(lambda: "POST /grants" in world.control.calls)
    revoke(world)
    check_error(await asking, 401, "invalid_api_key")
    assert world.engine.generations() == []
    [event] = await world.events(1)
    assert (event.counts, event.amount_nano) == (NO_COUNTS, 0)


async def test_a_reader_that_stalls_gets_no_more_time_when_the_right_is_gone(world: World) -> None:
    world.engine.script.tokens, world.engine.script.text = 1000, "x" * 20_000
    async with world.gateway(stall_s=30.0) as gateway, RawClient.to(gateway.port, limit=1024) as client:
        client.send_chat(world.key, stream=True, max_tokens=1000)
        await client.reader.readexactly(10)
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]  # a socket's transport has it
        await until(lambda: any(call.sending_since is not None for call in gateway.gateway.live))
        revoke(world)
        [event] = await world.events(1, within_s=ENDS_WITHIN_S)
        assert event.outcome is Outcome.DISCONNECTED
        assert gateway.gateway.live == set()


async def test_negative_and_positive_memory_are_bounded_and_leave_nothing_behind(
    world: World, gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chappe_gateway.access.auth._MAX_KNOWN", 3)
    monkeypatch.setattr("chappe_gateway.access.auth._MAX_UNKNOWN", 3)
    cache: KeyCache = gateway.gateway.keys
    for _ in range(8):
        assert await status(gateway, world.control.new_key(world.control.new_tenant())) == 200
    for _ in range(8):
        gone = world.control.new_key(world.tenant)
        del world.control.keys[gone]
        assert await status(gateway, gone) == 401
    assert len(cache._known) == len(cache._of_tenant) == 3
    assert len(cache._unknown) == 3
    assert cache._lookups == {}
    cache.forget([KeyChange(tenant) for tenant in tuple(cache._of_tenant)])
    assert (len(cache._known), len(cache._of_tenant), len(cache._unknown)) == (0, 0, 0)


async def test_changes_touch_only_the_calls_that_they_are_about(world: World, gateway: RunningGateway) -> None:
    stranger = world.control.new_key(world.control.new_tenant())
    async with streaming(world, gateway, stranger), streaming(world, gateway, world.key):
        mine, other = (world.control.keys[key] for key in (world.key, stranger))

        def touched(*changes: KeyChange) -> set[object]:
            return {call.facts.key_id for call in touched_by(changes, gateway.gateway.live) if call.facts}

        assert touched(KeyChange(mine.tenant_id, mine.key_id)) == {mine.key_id}
        assert touched(KeyChange(other.tenant_id)) == {other.key_id}
        assert touched(KeyChange(mine.tenant_id, other.tenant_id)) == set()
        assert len(touched_by(None, gateway.gateway.live)) == 2
        assert all(call.deployment == CHAT for call in gateway.gateway.live)


def _beats(world: World, gateway: str) -> list[Any]:
    return [beat for beat in world.control.heartbeats if beat.gateway == gateway]
