"""A gateway as a process: SIGKILL loses no event of an answer that had ended, SIGTERM lets streams finish."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx

from chappe_kernel.ids import REQUEST, decode_id
from chappe_kernel.rating import Outcome
from tests.gateway.fake_control import CREDENTIAL
from tests.gateway.world import RawClient, World, auth, chat_body, until

PATH = "/v1/chat/completions"


@contextlib.contextmanager
def process(
    world: World, log: Path, gateway_id: str = "gw-1", port: int | None = None
) -> "Iterator[subprocess.Popen[bytes]]":
    settings = {
        "REGION": "fr-par",
        "GATEWAY_ID": gateway_id,
        "PORT": str(port or world.ports["fr-par"]),
        "CONTROL_URL": f"http://127.0.0.1:{world.control_port}",
        "REGION_CREDENTIAL": CREDENTIAL,
        "SERVING_URL": f"http://127.0.0.1:{world.engine.port}",
        "REDIS_URL": world.redis_url,
        "SPOOL_DIR": str(world.folder / "spool"),
    }
    environ = {**os.environ, **{f"CHAPPE_{name}": value for name, value in settings.items()}}
    command = Path(sys.executable).with_name("chappe")
    with log.open("ab") as output:
        running = subprocess.Popen([str(command), "gateway"], env=environ, stderr=output, stdout=output)
    try:
        yield running
    finally:
        if running.poll() is None:
            running.kill()
        running.wait(5)


@contextlib.asynccontextmanager
async def started(world: World, log: Path) -> "AsyncIterator[subprocess.Popen[bytes]]":
    with process(world, log) as running:
        await is_up(running, world.ports["fr-par"])
        yield running


async def is_up(running: "subprocess.Popen[bytes]", port: int, within_s: float = 15) -> None:
    """Wait until a gateway serves."""
    async with httpx.AsyncClient() as http, asyncio.timeout(within_s):
        while True:
            with contextlib.suppress(httpx.TransportError):
                if (await http.get(f"http://127.0.0.1:{port}/healthz")).status_code == 200:
                    return
            assert running.poll() is None
            await asyncio.sleep(0.02)


async def test_sigkill_in_mid_stream_loses_no_event_of_an_ended_answer(world: World, tmp_path: Path) -> None:
    log = tmp_path / "gateway.log"
    port = world.ports["fr-par"]
    ended: list[str] = []
    async with started(world, log) as gateway:
        world.control.away = False
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=10) as http:
            first = await http.post(PATH, json=chat_body(), headers=auth(world.key))
            ended.append(first.headers["x-request-id"])
            # From here on nothing is shipped any more: the events exist in the spool alone.
            world.control.away = True
            for stream in (True, False) * 5:
                answer = await http.post(PATH, json=chat_body(stream=stream), headers=auth(world.key))
                assert answer.status_code == 200
                ended.append(answer.headers["x-request-id"])
            world.engine.script.tokens, world.engine.script.delay_s = 500, 0.05
            async with RawClient.to(port) as client:
                client.send_chat(world.key, stream=True)
                await client.reader.readuntil(b'" tok"')
                gateway.send_signal(signal.SIGKILL)
                gateway.wait(5)
        await until(lambda: world.engine.generations()[-1].closed_at is not None)
    world.control.away = False
    async with started(world, log):
        await until(lambda: len(world.control.events) >= len(ended), 10)
        await asyncio.sleep(0.3)
    assert set(world.control.events) == {decode_id(REQUEST, name) for name in ended}
    assert world.key not in _read(log)


def _read(log: Path) -> str:
    return log.read_text()


async def test_sigterm_lets_streams_finish_ships_and_gives_budget_back(world: World, tmp_path: Path) -> None:
    world.engine.script.tokens, world.engine.script.delay_s = 20, 0.05
    async with started(world, tmp_path / "gateway.log") as gateway:
        async with RawClient.to(world.ports["fr-par"]) as client:
            client.send_chat(world.key, stream=True)
            await client.reader.readuntil(b'" tok"')
            gateway.send_signal(signal.SIGTERM)
            async with asyncio.timeout(10):
                assert b"data: [DONE]" in await client.reader.read(-1)
        await until(lambda: gateway.poll() is not None, 10)
    [event] = await world.events(1)
    assert event.outcome is Outcome.COMPLETED
    assert event.counts.completion_tokens == 20
    assert world.control.pending_nano(world.tenant) == 0
