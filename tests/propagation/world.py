"""Gateways as processes of their own, in front of one scripted engine and connected to a real control plane."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx

from tests.control.world import CREDENTIALS
from tests.gateway.scripted_engine import ScriptedEngine
from tests.gateway.servers import free_port, valkey_server
from tests.gateway.world import auth
from tests.portal.world import CHAT, PortalWorld

_STARTS_WITHIN_S = 60


@dataclass(frozen=True)
class Fleet:
    """The gateways' URLs by name; all of one region's look the same to their clients."""

    urls: dict[str, str]
    processes: "dict[str, subprocess.Popen[bytes]]"
    engine: ScriptedEngine
    http: httpx.AsyncClient

    async def statuses(self, key: str) -> set[int]:
        """At every gateway, of a request that nobody pays for."""
        calls = (self.http.get(f"{url}/v1/models", headers=auth(key)) for url in self.urls.values())
        return {answer.status_code for answer in await asyncio.gather(*calls)}

    async def seconds_until(self, key: str, wanted: int, *, at_most_s: float = 20.0) -> float:
        """How long until every gateway answers with this status."""
        began = time.monotonic()
        while (found := await self.statuses(key)) != {wanted}:
            assert time.monotonic() - began < at_most_s, found
            await asyncio.sleep(0.02)
        return time.monotonic() - began

    async def until_they_run(self, count: int) -> None:
        """So many generations that have not ended, each with a token on its way."""
        async with asyncio.timeout(20):
            while self._running() < count:  # noqa: ASYNC110 -- it lives in other processes
                await asyncio.sleep(0.02)

    def _running(self) -> int:
        return sum(one.sent_tokens > 1 and one.closed_at is None for one in self.engine.generations())

    @contextlib.contextmanager
    def stopped(self, name: str) -> Iterator[None]:
        """The process is there and does nothing, as on a machine that hangs."""
        self.processes[name].send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.processes[name].send_signal(signal.SIGCONT)

    async def stream(self, url: str, key: str) -> tuple[float, str]:
        """A long answer, to its end: when that was, and its last event."""
        body = {"model": CHAT, "messages": [{"role": "user", "content": "x"}], "stream": True, "max_tokens": 1000}
        last = ""
        async with self.http.stream("POST", f"{url}/v1/chat/completions", headers=auth(key), json=body) as answer:
            assert answer.status_code == 200, await answer.aread()
            async for line in answer.aiter_lines():
                last = line or last
        return time.monotonic(), last


@contextlib.asynccontextmanager
async def running_fleet(portal: PortalWorld, folder: Path, per_region: int = 2) -> AsyncIterator[Fleet]:
    async with contextlib.AsyncExitStack() as stack:
        redis_url = stack.enter_context(valkey_server())
        engine = await stack.enter_async_context(ScriptedEngine(free_port(), redis_url).running())
        http = await stack.enter_async_context(httpx.AsyncClient(timeout=20))
        urls: dict[str, str] = {}
        processes: dict[str, subprocess.Popen[bytes]] = {}
        stack.push_async_callback(lambda: _stop(processes.values()))
        for region in CREDENTIALS:
            for number in range(per_region):
                port, name = free_port(), f"{region}-gateway-{number}"
                environ = {
                    "REGION": region,
                    "GATEWAY_ID": name,
                    "PORT": str(port),
                    "CONTROL_URL": str(portal.http.base_url).rstrip("/"),
                    "REGION_CREDENTIAL": CREDENTIALS[region],
                    "SERVING_URL": f"http://127.0.0.1:{engine.port}",
                    "REDIS_URL": redis_url,
                    "SPOOL_DIR": str(folder / name),
                    "DRAIN_S": "1",
                }
                processes[name] = _start(environ, folder / f"{name}.log")
                urls[name] = f"http://127.0.0.1:{port}"
        async with asyncio.timeout(_STARTS_WITHIN_S):
            await asyncio.gather(*(_until_it_serves(http, url) for url in urls.values()))
        yield Fleet(urls, processes, engine, http)


def _start(settings: dict[str, str], log: Path) -> "subprocess.Popen[bytes]":
    environ = {**os.environ, **{f"CHAPPE_{name}": value for name, value in settings.items()}}
    command = [str(Path(sys.executable).with_name("chappe")), "gateway"]
    with log.open("wb") as output:
        return subprocess.Popen(command, env=environ, stderr=output, stdout=output)


async def _stop(processes: "Iterable[subprocess.Popen[bytes]]") -> None:
    """All at once, and the loop goes on: the control plane that they take their leave of runs in it."""
    for process in processes:
        process.terminate()
    for process in processes:
        try:
            await asyncio.to_thread(process.wait, 10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(5)


async def _until_it_serves(http: httpx.AsyncClient, url: str) -> None:
    while True:
        with contextlib.suppress(httpx.TransportError):
            if (await http.get(f"{url}/healthz")).status_code == 200:
                return
        await asyncio.sleep(0.05)
