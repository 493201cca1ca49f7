"""Gateways as processes: the region's dispatcher is killed while its engines have all that Serve takes, and nothing is
sent beyond that by whoever is left."""

import asyncio
import contextlib
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import redis.asyncio

from tests.gateway.fake_control import CHAT
from tests.gateway.scripted_engine import Script
from tests.gateway.servers import free_port
from tests.gateway.test_processes import is_up, process
from tests.gateway.world import World, auth, chat_body, until

PATH = "/v1/chat/completions"
CAPACITY = 4
_LEASE = "chappe:turns:fr-par:dispatcher"
_QUIET_S = 1.5
_START_S = 90.0
"""An upper bound only, for machines that are busy."""


async def holder(client: "redis.asyncio.Redis") -> str:
    """Which gateway the lease names; empty while nobody holds it."""
    value: Any = await client.get(_LEASE)
    return "" if value is None else value.decode().partition(" ")[2].partition(":")[0]


def have_looked(world: World, gateways: int) -> bool:
    """Each has asked what should run here: before it knows what Serve takes it would send whatever comes."""
    return world.control.calls.count("GET /deployments") >= gateways


async def test_a_killed_dispatchers_successor_sends_no_more_than_serve_takes(world: World, tmp_path: Path) -> None:
    held = asyncio.Event()
    world.engine.script = Script(tokens=2, held=held)
    world.control.capacities[CHAT] = CAPACITY
    ports = {name: free_port() for name in ("gw-a", "gw-b", "gw-c")}
    client = redis.asyncio.Redis.from_url(world.redis_url)
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(client.aclose)
        processes = {
            name: stack.enter_context(process(world, tmp_path / f"{name}.log", name, port))
            for name, port in ports.items()
        }
        await asyncio.gather(*(is_up(processes[name], port, _START_S) for name, port in ports.items()))
        await until(partial(have_looked, world, len(ports)), _START_S)
        dying = await holder(client)
        busy, idle = [
            await stack.enter_async_context(httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=90))
            for name, port in ports.items()
            if name != dying
        ]

        def ask(gateway: httpx.AsyncClient) -> "asyncio.Task[httpx.Response]":
            return asyncio.create_task(gateway.post(PATH, json=chat_body(), headers=auth(world.key)))

        asked = [ask(busy) for _ in range(CAPACITY)]
        await until(lambda: len(world.engine.generations()) == CAPACITY, 30)
        asked += [ask(idle) for _ in range(CAPACITY)]
        processes[dying].kill()
        async with asyncio.timeout(30):
            while await holder(client) in ("", dying):  # noqa: ASYNC110 -- only asking again can tell
                await asyncio.sleep(0.02)
        # So long the successor has had the turns to itself.
        await asyncio.sleep(_QUIET_S)
        assert len(world.engine.generations()) == CAPACITY
        held.set()
        answers = await asyncio.gather(*asked)
        assert [answer.status_code for answer in answers] == [200] * 2 * CAPACITY
        assert len(await world.events(2 * CAPACITY, within_s=30)) == 2 * CAPACITY
