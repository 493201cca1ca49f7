"""Throttles count per key and per client; with Redis away they let everything pass."""

import asyncio
import dataclasses
import time
from pathlib import Path

import httpx
from redis.asyncio import Redis

from chappe_control.settings import ControlSettings
from chappe_control.throttle import Throttle, address_group
from chappe_kernel.api_keys import KeyKind, generate_key
from chappe_kernel.errors import LimitExceeded
from tests.control.conftest import serve
from tests.control.world import HandClock, World
from tests.valkey_server import Valkey


async def test_calls_over_the_keys_limit_are_429(world: World, settings: ControlSettings, clock: HandClock) -> None:
    strict = dataclasses.replace(settings, management_calls_per_minute=3)
    _start_of_minute(clock)
    async with serve(strict, clock) as url, httpx.AsyncClient(base_url=f"{url}/api/v1") as http:
        statuses = [(await http.get("/regions", headers=world.alice.headers())).status_code for _ in range(5)]
        assert statuses == [200, 200, 200, 429, 429]
        answer = await http.get("/regions", headers=world.alice.headers())
        assert answer.json()["code"] == "rate_limit_exceeded"
        assert 1 <= int(answer.headers["retry-after"]) <= 60
        assert (await http.get("/regions", headers=world.bob.headers())).status_code == 200
        clock.advance(60)
        assert (await http.get("/regions", headers=world.alice.headers())).status_code == 200


async def test_failed_authentications_are_counted_per_client(
    world: World, settings: ControlSettings, clock: HandClock, valkey: Valkey
) -> None:
    """Whatever address a header claims; and a good key from the same address is never locked out."""
    clock.advance(3600)  # A minute that no other test has counted in.
    _start_of_minute(clock)
    strict = dataclasses.replace(settings, failed_sign_ins_per_minute=4)
    async with serve(strict, clock) as url, httpx.AsyncClient(base_url=f"{url}/api/v1") as http:
        statuses = []
        for guess in range(7):
            headers = {
                "authorization": f"Bearer {generate_key(KeyKind.MANAGEMENT)}",
                "x-forwarded-for": f"10.0.0.{guess}",
            }
            statuses.append((await http.get("/balance", headers=headers)).status_code)
        assert statuses[:4] == [401] * 4
        assert statuses[-2:] == [429] * 2
        assert (await http.get("/balance", headers=world.alice.headers())).status_code == 200


async def test_a_process_that_was_held_up_counts_all_the_same(valkey: Valkey, clock: HandClock) -> None:
    """Its own time-out is over when it runs again, and the answer has been there for long."""
    async with Redis.from_url(valkey.url) as redis:
        throttle = Throttle(redis, clock)
        await throttle.note("held", "up")

        async def hold_up() -> None:
            time.sleep(0.6)  # noqa: ASYNC251  # This is what is tested: nothing in the process runs.

        for seen in (2, 3):
            noted, _ = await asyncio.gather(throttle.note("held", "up"), hold_up())
            assert noted.seen == seen


async def test_a_redis_that_says_nothing_costs_one_time_out(clock: HandClock) -> None:
    async def say_nothing(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(5)
        writer.close()

    server = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with Redis(host="127.0.0.1", port=port) as redis:
        throttle = Throttle(redis, clock)
        began = time.monotonic()
        assert [(await throttle.note("silent", "redis")).seen for _ in range(50)] == [0] * 50
        assert time.monotonic() - began < 2
    server.close()


async def test_redis_away_lets_calls_pass(
    world: World, settings: ControlSettings, clock: HandClock, tmp_path: Path
) -> None:
    nowhere = dataclasses.replace(settings, redis_url=f"unix://{tmp_path}/none.sock", management_calls_per_minute=1)
    async with serve(nowhere, clock) as url, httpx.AsyncClient(base_url=f"{url}/api/v1") as http:
        for _ in range(3):
            assert (await http.get("/balance", headers=world.alice.headers())).status_code == 200


async def test_throttle_uses_redis_again_after_a_rest(valkey: Valkey) -> None:
    clock = HandClock()
    async with Redis.from_url("unix:///nowhere.sock") as broken, Redis.from_url(valkey.url) as working:
        throttle = Throttle(broken, clock)
        await throttle.count("test", "rest", 0)
        throttle._redis = working
        await throttle.count("test", "rest", 0)
        clock.advance(5)
        try:
            await throttle.count("test", "rest", 0)
        except LimitExceeded as error:
            assert 1 <= error.retry_after_s <= 60
        else:
            raise AssertionError("it counts again")


def test_clients_are_told_apart_by_address_and_ipv6_site() -> None:
    assert address_group("192.0.2.7") == "192.0.2.7"
    assert address_group("::ffff:192.0.2.7") == "192.0.2.7"
    assert address_group("2001:db8::1") == address_group("2001:db8::ffff:2") == "2001:db8::/64"
    assert address_group("2001:db8:1::1") != address_group("2001:db8::1")
    assert address_group("unix") == "unix"


def _start_of_minute(clock: HandClock) -> None:
    """So that no minute ends in the middle of the test."""
    clock.advance(60 - clock.now().timestamp() % 60 + 1)
