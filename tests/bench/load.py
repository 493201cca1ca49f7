"""Load for the gateways' benchmark: Debian's `wrk`, one thread, on the core that the measured system does not have."""

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import click
import msgspec

SYSTEM_CORE = 0
"""Whatever is measured runs here and nowhere else."""
OTHER_CORE = 1
"""Upstream, load, Valkey and control plane."""

_SCRIPT = """
wrk.method = "POST"
wrk.body = {body}
{headers}
function done(summary, latency, requests)
  local failed = summary.errors
  io.write(string.format('{{"requests":%d,"microseconds":%d,"p50_us":%d,"p99_us":%d,"failed":' ..
    '{{"connect":%d,"read":%d,"write":%d,"status":%d,"timeout":%d}}}}\\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    failed.connect, failed.read, failed.write, failed.status, failed.timeout))
end
"""


class Target(NamedTuple):
    """One kind of request to one system."""

    url: str
    headers: Mapping[str, str]
    body: bytes


class Measured(NamedTuple):
    per_s: float
    p50_ms: float
    p99_ms: float
    cpu_us: float = 0.0
    """Of the measured processes, for each request."""


NOTHING = Measured(0.0, 0.0, 0.0)
"""No answer came in the time that there was."""


class _Summary(msgspec.Struct):
    requests: int
    microseconds: int
    p50_us: int
    p99_us: int
    failed: dict[str, int]
    """How many, by what of them failed."""


def pinned(core: int, *command: str) -> list[str]:
    return ["taskset", "--cpu-list", str(core), *command]


def go_before(priority: int) -> None:
    """Let this process run before what shares its core, by a real-time priority (1 to 99), if its user may have one."""
    with contextlib.suppress(PermissionError):
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(priority))


def need(*programs: str) -> None:
    missing = [program for program in programs if shutil.which(program) is None]
    if missing:
        raise click.ClickException(f"this needs {', '.join(missing)}: apt-get install {' '.join(missing)}")


def drive(target: Target, *, connections: int, seconds: float, pids: tuple[int, ...] = ()) -> Measured:
    """Send one request after another on each connection. Any that fails spoils the measurement."""
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        lines = [f"wrk.headers[ {_lua(name)} ] = {_lua(value)}" for name, value in target.headers.items()]
        script.write(_SCRIPT.format(body=_lua(target.body.decode()), headers="\n".join(lines)))
        script.flush()
        command = pinned(OTHER_CORE, "wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "20s")
        before = _cpu_s(pids)
        # wrk takes whole seconds only.
        command[command.index(f"-d{seconds}s")] = f"-d{max(1, round(seconds))}s"
        output = subprocess.run([*command, "-s", script.name, target.url], check=True, capture_output=True).stdout
    summary = msgspec.json.decode(output.splitlines()[-1], type=_Summary)
    if any(summary.failed.values()):
        failed = ", ".join(f"{count} by {what}" for what, count in summary.failed.items() if count)
        raise click.ClickException(f"of {summary.requests} requests to {target.url} failed {failed}")
    if not summary.requests:
        return NOTHING
    return Measured(
        1_000_000 * summary.requests / summary.microseconds,
        summary.p50_us / 1000,
        summary.p99_us / 1000,
        1_000_000 * (_cpu_s(pids) - before) / summary.requests,
    )


def _cpu_s(pids: tuple[int, ...]) -> float:
    """What these processes have used: it says more than the clock does on a machine with other work."""
    ticks = 0
    for pid in pids:
        with contextlib.suppress(FileNotFoundError):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def _lua(text: str) -> str:
    """A Lua string of any text."""
    level = "=" * 3
    return f"[{level}[{text}]{level}]"
