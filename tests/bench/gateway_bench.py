"""Chappe's gateway with everything on, beside LiteLLM's proxy, Portkey's gateway, nginx that only passes through, and
the bare upstream: `make bench-gateway`, one run, the same upstream and core for each.

`--quick` leaves the peers out and takes under a minute. What it measures is in `.chappe/bench/gateway.json`.
"""

import asyncio
import contextlib
import os
import subprocess
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import click
import msgspec
import uvloop

from tests.bench.load import NOTHING, OTHER_CORE, Measured, drive, need
from tests.bench.systems import System, chappe, chappe_tls, install_matplotlib, litellm, portkey, target
from tests.bench.upstream import CHUNKS, STREAM, UNARY, Ports, nginx_version, pass_through, upstream

RESULTS = Path(__file__).parents[2] / ".chappe" / "bench"
CONNECTIONS = (32, 64, 128)
folder_option = click.option(
    "--folder",
    type=click.Path(path_type=Path),
    default=RESULTS,
    help="Where the spool is while it runs: /dev/shm shows what is left without the disk.",
)
Open = Callable[[Path, Ports], AbstractAsyncContextManager[System]]


class Result(msgspec.Struct):
    """One system. Throughput is at the best number of connections; added latency is its own less the upstream's, at
    one connection."""

    version: str
    unary_rps: float
    streams_per_s: float
    p50_ms: float
    p99_ms: float
    stream_p50_ms: float
    unary_cpu_us: float
    stream_cpu_us: float
    added_p50_ms: float = 0.0
    added_p99_ms: float = 0.0


@contextlib.asynccontextmanager
async def bare(_: Path, ports: Ports) -> AsyncIterator[System]:
    yield System("upstream", f"nginx {nginx_version()}", target(ports.unary, UNARY), target(ports.stream, STREAM))


@contextlib.asynccontextmanager
async def nginx(folder: Path, ports: Ports) -> AsyncIterator[System]:
    with pass_through(folder, ports) as (unary, stream, pid):
        yield System("nginx", nginx_version(), target(unary, UNARY), target(stream, STREAM), (pid,))


SYSTEMS: dict[str, Open] = {
    "upstream": bare,
    "nginx": nginx,
    "chappe": chappe,
    "chappe_tls": chappe_tls,
    "portkey": portkey,
    "litellm": litellm,
}
QUICK = ("upstream", "nginx", "chappe")


async def measure(system: System, seconds: float) -> Result:
    async def run(kind: str, connections: int) -> Measured:
        asked = system.unary if kind == UNARY else system.stream
        measured = await asyncio.to_thread(drive, asked, connections=connections, seconds=seconds, pids=system.pids)
        click.echo(
            f"{system.name:9} {kind:6} x{connections:<3} {measured.per_s:8.0f}/s  p50 {measured.p50_ms:7.2f} ms"
            f"  p99 {measured.p99_ms:7.2f} ms  {measured.cpu_us:6.0f} µs of CPU each"
        )
        return measured

    async def run_kind(kind: str) -> tuple[Measured, Measured]:
        """With one connection, and with the best number of them."""
        try:
            # Whatever is made at the first request is made before it is measured.
            await asyncio.to_thread(drive, system.unary if kind == UNARY else system.stream, connections=8, seconds=3)
            return await run(kind, 1), max([await run(kind, connections) for connections in CONNECTIONS])
        except click.ClickException as failure:
            click.echo(f"{system.name} does not serve {kind}: {failure.message}", err=True)
            return NOTHING, NOTHING

    (alone, unary), (stream_alone, stream) = await run_kind(UNARY), await run_kind(STREAM)
    return Result(
        version=system.version,
        unary_rps=unary.per_s,
        streams_per_s=stream.per_s,
        p50_ms=alone.p50_ms,
        p99_ms=alone.p99_ms,
        stream_p50_ms=stream_alone.p50_ms,
        unary_cpu_us=unary.cpu_us,
        stream_cpu_us=stream.cpu_us,
    )


async def run_all(names: tuple[str, ...], seconds: float, folder: Path) -> dict[str, Result]:
    results: dict[str, Result] = {}
    with tempfile.TemporaryDirectory(dir=folder) as name, upstream(Path(name)) as ports:
        for system_name in names:
            async with SYSTEMS[system_name](Path(name), ports) as system:
                results[system_name] = await measure(system, seconds)
    base = results["upstream"]
    for result in results.values():
        result.added_p50_ms = result.p50_ms - base.p50_ms
        result.added_p99_ms = result.p99_ms - base.p99_ms
    return results


def table(results: dict[str, Result]) -> str:
    """For docs/performance.md."""
    rows = [
        f"| | version | whole answers/s | streams of {CHUNKS} chunks/s | added p50 ms | added p99 ms |",
        "|---|---|---|---|---|---|",
    ]
    rows += [
        f"| {name} | {result.version} | {result.unary_rps:,.0f} | {result.streams_per_s:,.0f} "
        f"| {result.added_p50_ms:.2f} | {result.added_p99_ms:.2f} |"
        for name, result in results.items()
    ]
    return "\n".join(rows)


@click.command()
@click.option("--quick", is_flag=True, help="Without the peers, and shorter.")
@click.option("--only", multiple=True, type=click.Choice(tuple(SYSTEMS)), help="These beside the upstream.")
@click.option("--seconds", type=int, default=0, help="For each measurement: 4, or 2 with --quick.")
@folder_option
def main(quick: bool, only: tuple[str, ...], seconds: int, folder: Path) -> None:
    need("nginx", "wrk", "taskset")
    os.sched_setaffinity(0, {OTHER_CORE})
    names = ("upstream", *(name for name in only if name != "upstream")) if only else QUICK if quick else tuple(SYSTEMS)
    for needed in (folder, RESULTS):
        needed.mkdir(parents=True, exist_ok=True)
    results = uvloop.run(run_all(names, seconds or (2 if quick else 4), folder))
    written = RESULTS / "gateway.json"
    written.write_bytes(msgspec.json.format(msgspec.json.encode(results)))
    click.echo(table(results))
    if not quick:
        subprocess.run(
            [str(install_matplotlib()), str(Path(__file__).with_name("plot.py")), str(written), str(RESULTS)],
            check=True,
        )


if __name__ == "__main__":
    main()
