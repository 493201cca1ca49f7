"""Many open streams at one gateway process: `python -m tests.bench.streams_bench [--streams 2000 --per-s 10]`.

The gateway has a core to itself. On the other one run, each in a process of its own, the engine that sends every stream
its chunks at a pace (`paced_engine.py`), the clients that keep every byte and compare it afterwards
(`stream_readers.py`), and whoever asks for whole answers meanwhile (`asker.py`): what these take beyond the same ones
before any stream was there is what the streams cost a new request. What each process used of its core is said beside
it: a core that is full would be measured instead of the gateway. `--slow N` adds N readers who take a byte a second of
an endless answer.
"""

import asyncio
import contextlib
import os
import sys
import tempfile
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import click
import msgspec
import psutil
import uvloop

from tests.bench.asker import Ask
from tests.bench.gateway_bench import folder_option
from tests.bench.load import OTHER_CORE, pinned
from tests.bench.paced_engine import ENDLESS, Lateness
from tests.bench.stream_readers import Ended, Opened
from tests.bench.systems import System, body_for, chappe
from tests.bench.upstream import STREAM, UNARY, Ports
from tests.gateway.servers import free_port

_WARM_S = 3.0
_BEGINNING_PER_S = 250.0
_END_S = 60.0
_MARGIN_S = 1.0


class Plan(NamedTuple):
    """What is asked for. Streams begin one after another, and all are open for `seconds`."""

    streams: int
    per_s: float
    seconds: float
    slow: int
    slots: int

    @property
    def beginning_s(self) -> float:
        return self.streams / _BEGINNING_PER_S

    @property
    def chunks(self) -> int:
        return int(self.per_s * (self.beginning_s + self.seconds))


class Used(NamedTuple):
    """What a process used of its core while all streams were open."""

    name: str
    part: float


class Measured(NamedTuple):
    asks: Mapping[str, Sequence[Ask]]
    """By what was going on when they were asked for."""
    clean: int
    lateness: Lateness
    grown_bytes: int
    used: Sequence[Used]


def request_of(system: System, body: bytes) -> bytes:
    head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n" % len(body)
    lines = b"".join(b"%b: %b\r\n" % (name.encode(), text.encode()) for name, text in system.unary.headers.items())
    return head + lines + b"\r\n" + body


@contextlib.asynccontextmanager
async def program(module: str, *arguments: object) -> AsyncIterator[Process]:
    """One of the load's on the load's core; ended here if it has not ended by itself."""
    command = pinned(OTHER_CORE, sys.executable, "-m", f"tests.bench.{module}", *map(str, arguments))
    process = await asyncio.create_subprocess_exec(*command, stdout=PIPE, limit=2**26)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def last_word(process: Process) -> bytes:
    """What it says when it is told to stop."""
    assert process.stdout is not None  # a pipe, as above
    process.terminate()
    said = await process.stdout.read()
    if await process.wait():
        raise click.ClickException("a part of the load failed; what is above says why")
    return said


async def next_word(process: Process, within_s: float) -> bytes:
    """Raises `ClickException` when it ends, or `TimeoutError`, before it says anything."""
    assert process.stdout is not None  # a pipe, as above
    said = await asyncio.wait_for(process.stdout.readline(), within_s)
    if not said:
        raise click.ClickException("a part of the load failed; what is above says why")
    return said


class _Requests(NamedTuple):
    """Files with what is sent, head and body."""

    ask: Path
    stream: Path
    endless: Path


def requests_to(system: System, folder: Path) -> _Requests:
    files = _Requests(*(folder / name for name in _Requests._fields))
    files.ask.write_bytes(request_of(system, body_for(UNARY)))
    files.stream.write_bytes(request_of(system, body_for(STREAM)))
    files.endless.write_bytes(files.stream.read_bytes().replace(b"capital", ENDLESS))
    return files


async def measure(plan: Plan, folder: Path) -> Measured:
    engine_port = free_port()
    paced = ("--per-s", plan.per_s, "--chunks", plan.chunks, "--slots", plan.slots)
    async with program("paced_engine", engine_port, *paced) as engine:
        async with chappe(folder, Ports(0, 0, engine_port)) as system:
            port = int(system.unary.url.split(":")[2].split("/")[0])
            requests = requests_to(system, folder)
            async with program("asker", port, requests.ask) as asker:
                await asyncio.sleep(_WARM_S)
                alone_from = time.perf_counter()
                await asyncio.sleep(plan.seconds)
                began = time.perf_counter()
                watched = {"gateway": system.pids[0], "engine": engine.pid, "asker": asker.pid}
                opened, ended, grown, used = await beside_streams(plan, port, requests, watched)
                asks = msgspec.json.decode(await last_word(asker), type=list[Ask])
        lateness = msgspec.json.decode(await last_word(engine), type=Lateness)
    during = {
        "alone": [one for one in asks if alone_from < one.at < began],
        "as they begin": [one for one in asks if began < one.at < opened.at],
        "all open": [one for one in asks if opened.at < one.at < ended.first_end_at],
        "as they end": [one for one in asks if ended.first_end_at < one.at],
    }
    return Measured(during, ended.clean, lateness, grown, used)


async def beside_streams(
    plan: Plan, port: int, requests: _Requests, watched: Mapping[str, int]
) -> tuple[Opened, Ended, int, list[Used]]:
    """All streams from the first to the last, by how many bytes the gateway has grown when all are open, and what is
    used meanwhile."""
    before = memory_bytes(watched["gateway"])
    load = ("--streams", plan.streams, "--chunks", plan.chunks, "--per-s", _BEGINNING_PER_S)
    slow = ("--slow", plan.slow, "--slow-request-file", requests.endless)
    async with program("stream_readers", port, requests.stream, *load, *slow) as readers:
        opened = msgspec.json.decode(await next_word(readers, plan.beginning_s + _END_S), type=Opened)
        others = {"readers": readers.pid, "control plane": os.getpid()}
        used = await use_of({**watched, **others}, plan.seconds - _MARGIN_S)
        grown = memory_bytes(watched["gateway"]) - before
        ended = msgspec.json.decode(await next_word(readers, plan.beginning_s + plan.seconds + _END_S), type=Ended)
    return opened, ended, grown, used


async def use_of(pids: Mapping[str, int], seconds: float) -> list[Used]:
    """By these processes, and of each core by whoever it was."""
    before = {name: _cpu_s(pid) for name, pid in pids.items()}
    idle_before, began = psutil.cpu_times(percpu=True), time.perf_counter()
    await asyncio.sleep(seconds)
    elapsed = time.perf_counter() - began
    used = [Used(name, (_cpu_s(pid) - before[name]) / elapsed) for name, pid in pids.items()]
    for core, (old, new) in enumerate(zip(idle_before, psutil.cpu_times(percpu=True), strict=True)):
        idle = (new.idle - old.idle + new.iowait - old.iowait) / elapsed
        used.append(Used(f"core {core}, everything on it", 1 - idle))
    return used


def _cpu_s(pid: int) -> float:
    times = psutil.Process(pid).cpu_times()
    return times.user + times.system


def memory_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def percentiles(asks: Sequence[Ask]) -> tuple[float, float]:
    ordered = sorted(one.ms for one in asks) or [0.0]
    return ordered[len(ordered) // 2], ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]


def report(plan: Plan, measured: Measured) -> None:
    click.echo(f"{measured.clean} of {plan.streams} streams of {plan.chunks} chunks clean to the last byte")
    for is_new, connection in ((False, "a kept connection"), (True, "a new one")):
        base = percentiles([one for one in measured.asks["alone"] if one.is_new == is_new])
        for during, asks in measured.asks.items():
            chosen = [one for one in asks if one.is_new == is_new]
            p50, p99 = percentiles(chosen)
            click.echo(
                f"a request on {connection:17} {during:13} {len(chosen):5} times  p50 {p50:6.2f} ms"
                f"  p99 {p99:6.2f} ms  added {p50 - base[0]:6.2f} and {p99 - base[1]:6.2f} ms"
            )
    late = measured.lateness
    click.echo(f"the engine's chunks were late by {late.p50_ms:.2f} ms at p50, {late.p99_ms:.2f} ms at p99")
    for used in measured.used:
        click.echo(f"{used.name:26} {100 * used.part:5.1f} % of a core")
    count = max(1, plan.streams + plan.slow)
    grown = measured.grown_bytes
    click.echo(f"memory: {grown / 2**20:.1f} MiB more, {grown / count / 1000:.1f} KB a stream")
    click.echo(f"load of the machine: {os.getloadavg()[0]:.1f}")


async def run(plan: Plan, folder: Path) -> None:
    with tempfile.TemporaryDirectory(dir=folder) as name:
        report(plan, await measure(plan, Path(name)))


@click.command()
@click.option("--streams", type=int, default=2000)
@click.option("--per-s", type=float, default=10.0, help="Chunks a second of each.")
@click.option("--seconds", type=float, default=20.0, help="How long all are open.")
@click.option("--slow", type=int, default=0, help="Readers of a byte a second beside them.")
@click.option("--slots", type=int, default=100, help="In how many moments of each period chunks are sent.")
@folder_option
def main(folder: Path, **plan: Any) -> None:
    os.sched_setaffinity(0, {OTHER_CORE})
    folder.mkdir(parents=True, exist_ok=True)
    uvloop.run(run(Plan(**plan), folder))


if __name__ == "__main__":
    main()
