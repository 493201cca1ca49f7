"""Many open streams at one gateway process: `python -m tests.bench.streams_bench [--streams 2000 --per-s 10]`.

The engine sends each stream its chunks at the given pace; every byte that arrives is compared with what was sent. While
they run a new request is asked for twenty times a second: what it takes beyond the same request with no streams open is
what the streams cost it. `--slow N` adds N readers who take a byte a second of an endless answer.
"""

import asyncio
import contextlib
import os
import statistics
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path

import click
import msgspec
import uvloop

from chappe_kernel.rating import Counts
from chappe_kernel.wire.engine import END_HEADER, END_MARK, START_MARK, End, EngineHealth, Start
from tests.bench.gateway_bench import RESULTS
from tests.bench.load import OTHER_CORE
from tests.bench.systems import System, body_for, chappe
from tests.bench.upstream import STREAM, UNARY, Ports
from tests.gateway.servers import free_port

_ASKS_PER_S = 20
_ENDLESS = b"endless"
_EVENT = b'data: {"choices":[{"index":0,"delta":{"content":" tok%05d"},"finish_reason":null}]}\n\n'
_DONE = b"data: [DONE]\n\n"
_CONNECTING = 100


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def _end(tokens: int) -> bytes:
    return msgspec.json.encode(End("completed", Counts(42, 0, tokens), "stop"))


class PacedEngine(asyncio.Protocol):
    """Whole answers at once, and streams of `chunks` at a pace; one timer for all of them."""

    chunks = 0
    running: "dict[PacedEngine, int]" = {}  # noqa: RUF012  # one for the process
    health = msgspec.json.encode(EngineHealth("paced", 2048, 0))
    whole = b'{"choices":[],"usage":{}}'

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]  # a socket's

    def connection_lost(self, exc: Exception | None) -> None:
        self.running.pop(self, None)

    def data_received(self, data: bytes) -> None:
        if data.startswith(b"GET"):
            self.transport.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(self.health), self.health))
        elif b'"stream":true' not in data:
            head = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n%b: %b\r\n\r\n"
            self.transport.write(head % (len(self.whole), END_HEADER.encode(), _end(8)) + self.whole)
        else:
            start = START_MARK + msgspec.json.encode(Start(42, 0)) + b"\n\n"
            self.transport.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + _chunk(start))
            self.running[self] = 10**9 if _ENDLESS in data else 0

    @classmethod
    async def run(cls, per_s: float) -> None:
        """Spread over each period, so that they don't all come at once."""
        slots = 20
        tick = 0
        while True:
            began = time.perf_counter()
            for index, (stream, sent) in enumerate(tuple(cls.running.items())):
                if index % slots == tick % slots:
                    stream.send(sent)
            tick += 1
            await asyncio.sleep(max(0.0, 1 / per_s / slots - (time.perf_counter() - began)))

    def send(self, sent: int) -> None:
        if sent >= 10**9:
            # As much as the gateway takes.
            if self.transport.get_write_buffer_size() == 0:
                self.transport.write(_chunk(_EVENT % 0 * 100))
        elif sent < self.chunks:
            self.transport.write(_chunk(_EVENT % sent))
            self.running[self] = sent + 1
        else:
            del self.running[self]
            self.transport.write(_chunk(END_MARK + _end(self.chunks) + b"\n\n") + b"0\r\n\r\n")


class Reader(asyncio.Protocol):
    """One stream's client: keeps the body without its framing, and compares it at the end."""

    def __init__(self, request: bytes) -> None:
        self._request = request
        self._received = bytearray()
        self.ended: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]  # a socket's
        self.transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._received += data
        if self._received.endswith(b"0\r\n\r\n"):
            self.ended.set_result(self._is_clean())
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.ended.done():
            self.ended.set_result(False)

    def _is_clean(self) -> bool:
        head, _, framed = bytes(self._received).partition(b"\r\n\r\n")
        expected = b"".join(_EVENT % index for index in range(PacedEngine.chunks)) + _DONE
        return head.startswith(b"HTTP/1.1 200") and _unframed(framed) == expected


def _unframed(framed: bytes) -> bytes:
    parts, at = [], 0
    while (size := int(framed[at : (line_end := framed.index(b"\r\n", at))], 16)) > 0:
        parts.append(framed[line_end + 2 : line_end + 2 + size])
        at = line_end + 2 + size + 2
    return b"".join(parts)


def request_of(system: System, body: bytes) -> bytes:
    head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n" % len(body)
    lines = b"".join(b"%b: %b\r\n" % (name.encode(), text.encode()) for name, text in system.unary.headers.items())
    return head + lines + b"\r\n" + body


async def asks(port: int, request: bytes, seconds: float) -> list[float]:
    """How long whole answers take, in ms, one after another at an even pace."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    times = []
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        began = time.perf_counter()
        writer.write(request)
        await reader.readuntil(PacedEngine.whole)
        times.append(1000 * (time.perf_counter() - began))
        await asyncio.sleep(1 / _ASKS_PER_S)
    writer.close()
    return times


def memory_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def slow_reader(port: int, request: bytes) -> None:
    """A byte a second, out of a socket that holds next to nothing."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1)
    writer.write(request)
    with contextlib.suppress(ConnectionError):
        while await reader.read(1):  # noqa: ASYNC110 -- waiting is what it is for
            await asyncio.sleep(1)


def _percentiles(times: list[float]) -> tuple[float, float]:
    ordered = sorted(times)
    return statistics.median(ordered), ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]


@contextlib.asynccontextmanager
async def paced_gateway(per_s: float) -> AsyncIterator[tuple[System, int]]:
    RESULTS.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=RESULTS) as name:
        port = free_port()
        engine = await asyncio.get_running_loop().create_server(PacedEngine, "127.0.0.1", port, backlog=4096)
        pacing = asyncio.create_task(PacedEngine.run(per_s))
        async with chappe(Path(name), Ports(0, 0, port)) as system:
            yield system, int(system.unary.url.split(":")[2].split("/")[0])
        pacing.cancel()
        engine.close()


async def run(streams: int, per_s: float, seconds: float, slow: int) -> None:
    PacedEngine.chunks = int(per_s * seconds)
    async with paced_gateway(per_s) as (system, port):
        pid = system.pids[0]
        ask, stream = request_of(system, body_for(UNARY)), request_of(system, body_for(STREAM))
        await asks(port, ask, 2)
        alone = _percentiles(await asks(port, ask, min(seconds, 10)))
        before = memory_bytes(pid)
        loop = asyncio.get_running_loop()
        endless = stream.replace(b"capital", _ENDLESS)
        slow_ones = [asyncio.create_task(slow_reader(port, endless)) for _ in range(slow)]
        readers: list[Reader] = []
        for _ in range(0, streams, _CONNECTING):
            made = (loop.create_connection(lambda: Reader(stream), "127.0.0.1", port) for _ in range(_CONNECTING))
            readers += [reader for _, reader in await asyncio.gather(*made)]
        beside = _percentiles(await asks(port, ask, seconds * 0.6))
        grown = memory_bytes(pid) - before
        clean = sum(await asyncio.gather(*(reader.ended for reader in readers)))
        for task in slow_ones:
            task.cancel()
        click.echo(f"{clean} of {len(readers)} streams of {PacedEngine.chunks} chunks clean to the last byte")
        click.echo(f"a new request: p50 {alone[0]:.2f} ms, p99 {alone[1]:.2f} ms without streams")
        click.echo(f"               p50 {beside[0]:.2f} ms, p99 {beside[1]:.2f} ms beside them")
        count = max(1, len(readers) + slow)
        click.echo(f"memory: {grown / 2**20:.1f} MiB more, {grown / count / 1000:.1f} KB a stream")


@click.command()
@click.option("--streams", type=int, default=2000)
@click.option("--per-s", type=float, default=10.0, help="Chunks a second of each.")
@click.option("--seconds", type=float, default=20.0)
@click.option("--slow", type=int, default=0, help="Readers of a byte a second beside them.")
def main(streams: int, per_s: float, seconds: float, slow: int) -> None:
    os.sched_setaffinity(0, {OTHER_CORE})
    uvloop.run(run(streams, per_s, seconds, slow))


if __name__ == "__main__":
    main()
