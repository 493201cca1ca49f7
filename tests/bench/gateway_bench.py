"""How fast a gateway relays, against an engine that answers at once: `python -m tests.bench.gateway_bench`.

The gateway is a process of its own, as in production (uvloop, one core); control plane, engine and load share this
process, so that on two cores the figures are a lower bound. Run it by hand, on an idle machine.
"""

import asyncio
import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path

import click
import httpx
import msgspec
import uvloop

from chappe_kernel.rating import Counts
from chappe_kernel.wire.control import UsageReceipt
from chappe_kernel.wire.engine import END_HEADER, END_MARK, START_MARK, End, EngineHealth, Start
from tests.gateway.fake_control import CREDENTIAL, FakeControl
from tests.gateway.servers import valkey_server
from tests.gateway.world import World, chat_body, new_world

CHUNKS = 66
SECONDS = 4.0
COUNTS = Counts(42, 0, CHUNKS - 2)


def canned(stream: bool) -> bytes:
    """The engine's whole answer, ready to be written."""
    end = msgspec.json.encode(End("completed", COUNTS, "stop"))
    if not stream:
        body = b'{"id":"c","object":"chat.completion","created":1,"model":"m","choices":[],"usage":{}}'
        return b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n%b: %b\r\n\r\n%b" % (
            len(body),
            END_HEADER.encode(),
            end,
            body,
        )
    parts = [START_MARK + msgspec.json.encode(Start(42, 0)) + b"\n\n"]
    for index in range(CHUNKS):
        delta = {"content": f" tok{index}"} if 0 < index < CHUNKS - 1 else {}
        choices = [{"index": 0, "delta": delta, "finish_reason": None}]
        chunk = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": choices}
        parts.append(b"data: " + msgspec.json.encode(chunk) + b"\n\n")
    parts.append(END_MARK + end + b"\n\n")
    framed = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts)
    return b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + framed + b"0\r\n\r\n"


class CountingControl(FakeControl):
    """Takes usage without looking at it: the load shares its process."""

    async def _usage(self, body: bytes) -> tuple[int, bytes]:
        receipt = UsageReceipt(self.epoch, body.count(b'"request_id"'), 0, 0)
        return 200, msgspec.json.encode(receipt)


class CannedEngine(asyncio.Protocol):
    """Answers as soon as a whole request is there. Bodies are small here: one read is one request."""

    answers = (canned(stream=False), canned(stream=True))
    health = msgspec.json.encode(EngineHealth("canned", 2048, 0))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]  # a socket's

    def data_received(self, data: bytes) -> None:
        if data.startswith(b"GET"):
            self.transport.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(self.health), self.health))
        else:
            self.transport.write(self.answers[b'"stream":true' in data])


class Client(asyncio.Protocol):
    """Sends one request after another on its connection, and notes how long each took."""

    def __init__(self, request: bytes, last: bytes, until: float) -> None:
        self._request, self._last, self._until = request, last, until
        self._tail = b""
        self.times: list[float] = []
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]  # a socket's
        self._next()

    def data_received(self, data: bytes) -> None:
        self._tail = (self._tail + data)[-64:]
        if not self._tail.endswith(self._last):
            return
        self._tail = b""
        now = time.perf_counter()
        self.times.append(now - self._sent)
        if now < self._until:
            self._next()
        elif not self.done.done():
            self.done.set_result(None)
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(exc or ConnectionError("the gateway closed the connection"))

    def _next(self) -> None:
        self._sent = time.perf_counter()
        self._transport.write(self._request)


async def measure(world: World, port: int, *, stream: bool, concurrency: int) -> str:
    body = msgspec.json.encode(chat_body("How fast is it?", stream=stream, max_tokens=64))
    request = (
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
        b"authorization: Bearer %b\r\ncontent-length: %d\r\n\r\n%b" % (world.key.encode(), len(body), body)
    )
    last = b"0\r\n\r\n" if stream else b'"usage":{}}'
    until = time.perf_counter() + SECONDS
    loop = asyncio.get_running_loop()
    started = time.perf_counter()
    clients = [
        (await loop.create_connection(lambda: Client(request, last, until), "127.0.0.1", port))[1]
        for _ in range(concurrency)
    ]
    await asyncio.gather(*(client.done for client in clients))
    elapsed = time.perf_counter() - started
    times = sorted(value for client in clients for value in client.times)
    kind = f"{CHUNKS}-chunk stream" if stream else "whole answer"
    p99 = times[int(len(times) * 0.99)]
    return (
        f"{kind:16} x{concurrency:<3} {len(times) / elapsed:8.0f}/s  "
        f"p50 {1000 * statistics.median(times):6.2f} ms  p99 {1000 * p99:6.2f} ms"
    )


@contextlib.asynccontextmanager
async def gateway_process(world: World) -> AsyncIterator[int]:
    port = world.ports["fr-par"]
    settings = {
        "REGION": "fr-par",
        "GATEWAY_ID": "bench",
        "PORT": str(port),
        "CONTROL_URL": f"http://127.0.0.1:{world.control_port}",
        "REGION_CREDENTIAL": CREDENTIAL,
        "SERVING_URL": f"http://127.0.0.1:{world.engine.port}",
        "REDIS_URL": world.redis_url,
        "SPOOL_DIR": str(world.folder / "spool"),
    }
    environ = {**os.environ, **{f"CHAPPE_{name}": value for name, value in settings.items()}}
    command = [str(Path(sys.executable).with_name("chappe")), "gateway"]
    process = await asyncio.create_subprocess_exec(*command, env=environ, stderr=subprocess.DEVNULL)
    try:
        async with httpx.AsyncClient() as http:
            while True:
                with contextlib.suppress(httpx.TransportError):
                    if (await http.get(f"http://127.0.0.1:{port}/healthz")).status_code == 200:
                        break
                await asyncio.sleep(0.05)
        click.echo(f"gateway pid {process.pid}")
        yield port
    finally:
        process.terminate()
        await process.wait()


async def run() -> None:
    with valkey_server() as redis_url, tempfile.TemporaryDirectory() as folder:
        async with new_world(redis_url, Path(folder), CountingControl) as world:
            await world.engine.stop()
            engine = await asyncio.get_running_loop().create_server(CannedEngine, "127.0.0.1", world.engine.port)
            world.control.keys.clear()
            world.key = world.control.new_key(world.tenant, requests_per_minute=100_000_000)
            world.control.funds[world.tenant] = 10**15
            async with gateway_process(world) as port:
                for stream in (False, True):
                    for concurrency in (1, 32, 128):
                        click.echo(await measure(world, port, stream=stream, concurrency=concurrency))
            engine.close()


if __name__ == "__main__":
    uvloop.run(run())
