"""Keeps the parts of an instance running: starts them in order, restarts the dead, and ends all that they started."""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import psutil
import structlog

from chappe_local import logs
from chappe_local.parts import Part
from chappe_local.processes import Mark, end_processes, marked_processes, note_processes, with_followers

State = Literal["waiting", "starting", "ready", "restarting", "stopping", "stopped"]

_log = structlog.get_logger()
_FIRST_BACK_OFF_S = 0.25
_MAX_BACK_OFF_S = 30.0
_STEADY_S = 30.0
"""A part that was ready for this long starts again with the shortest back-off."""
_START_ATTEMPTS = 3
_PROBE_EVERY_S = 0.1
_CHECK_EVERY_S = 15.0
_LEFTOVER_GRACE_S = 3.0


class StartFailed(Exception):
    """A part or a step did not get ready. `lines` are the last ones of its log."""

    def __init__(self, part: str, why: str, lines: list[str]) -> None:
        super().__init__(f"{part}: {why}")
        self.part = part
        self.why = why
        self.lines = lines


@dataclass
class Running:
    """What the supervisor knows of one part."""

    part: Part
    log: Path
    state: State = "waiting"
    answers: bool = False
    restarts: int = 0
    reason: str | None = None
    """Why it was restarted last, or why it does not answer."""
    process: psutil.Process | None = None
    since: float = field(default_factory=time.monotonic)
    log_offset: int = 0
    failures_in_a_row: int = 0
    ready_once: asyncio.Event = field(default_factory=asyncio.Event)
    stop_asked: asyncio.Event = field(default_factory=asyncio.Event)
    keeper: asyncio.Task[None] | None = None

    def enter(self, state: State) -> None:
        self.state = state
        self.answers = state == "ready"
        self.since = time.monotonic()
        _log.info("part", name=self.part.name, state=state, reason=self.reason)


class Supervisor:
    """Owns the parts' processes. All methods run on one event loop."""

    def __init__(self, parts: Iterable[Part], *, mark: Mark, logs_dir: Path, process_file: Path) -> None:
        self.running = {part.name: Running(part, logs.log_path(logs_dir, part.name)) for part in parts}
        self.known_pids: set[int] = set()
        """Children that somebody awaits; the others are orphans that only need to be reaped."""
        self._mark = mark
        self._process_file = process_file
        self._milestones: dict[str, asyncio.Event] = {}
        self._failure: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def milestone(self, name: str) -> asyncio.Event:
        """The event that parts wait for which are to start after a part or a step of this name."""
        if name in self.running:
            return self.running[name].ready_once
        return self._milestones.setdefault(name, asyncio.Event())

    def start_all(self) -> None:
        for running in self.running.values():
            self._start_keeper(running)

    async def until_ready(self, *names: str) -> None:
        """Wait for parts and steps. Raises `StartFailed` as soon as any part of the instance fails to start."""
        reached = asyncio.gather(*(self.milestone(name).wait() for name in names))
        awaited: set[asyncio.Future[Any]] = {reached, self._failure}
        try:
            await asyncio.wait(awaited, return_when=asyncio.FIRST_COMPLETED)
            if self._failure.done():
                self._failure.result()
        finally:
            await _cancelled(reached)

    def finish_start_up(self) -> None:
        """From now on a part that dies is only restarted: nobody waits for the whole any more."""
        self._failure.cancel()

    async def start(self, name: str) -> None:
        """Start a stopped part again, and return when it is ready. Nothing happens to one that runs."""
        running = self.running[name]
        if running.keeper is None or running.keeper.done():
            running.stop_asked = asyncio.Event()
            running.ready_once = asyncio.Event()
            running.reason = None
            self._start_keeper(running)
        await asyncio.wait_for(running.ready_once.wait(), running.part.ready_within_s)

    async def stop(self, name: str) -> None:
        """End a part and all that it started; it stays stopped until `start`."""
        running = self.running[name]
        running.stop_asked.set()
        if running.keeper is not None:
            await running.keeper

    async def stop_all(self) -> None:
        """End everything, wave by wave: whoever needs others goes first."""
        for wave in sorted({running.part.stop_wave for running in self.running.values()}):
            names = [name for name, running in self.running.items() if running.part.stop_wave == wave]
            await asyncio.gather(*(self.stop(name) for name in names))

    async def run_once(self, name: str, command: list[str], environment: Mapping[str, str], log: Path) -> bytes:
        """Run a step to its end and return what it printed; its standard error goes to `log`. Raises `StartFailed`."""
        offset = logs.size(log)
        cwd = self._cwd(name)
        descriptor = logs.open_log(log)
        try:
            process = await asyncio.create_subprocess_exec(
                *command,
                env=environment,
                cwd=cwd,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=descriptor,
                start_new_session=True,
            )
        finally:
            os.close(descriptor)
        self.known_pids.add(process.pid)
        output, _ = await process.communicate()
        self.known_pids.discard(process.pid)
        if process.returncode != 0:
            raise StartFailed(name, _describe_exit(process.returncode), logs.tail(log, 20, offset))
        return output

    def _start_keeper(self, running: Running) -> None:
        running.keeper = asyncio.create_task(self._keep(running), name=f"keep {running.part.name}")

    async def _keep(self, running: Running) -> None:
        """One part's life: until it is stopped, start it, watch it, and start it again when it dies."""
        part = running.part
        running.enter("waiting")
        earlier = asyncio.gather(*(self.milestone(name).wait() for name in part.after))
        await _first_of(earlier, running.stop_asked)
        while not running.stop_asked.is_set():
            running.reason = await self._live_once(running) or running.reason
            if running.stop_asked.is_set():
                break
            running.restarts += 1
            running.failures_in_a_row += 1
            running.enter("restarting")
            if not running.ready_once.is_set() and running.failures_in_a_row >= _START_ATTEMPTS:
                self._fail(running, running.reason or "does not start")
            back_off_s = min(_MAX_BACK_OFF_S, _FIRST_BACK_OFF_S * 2 ** (running.failures_in_a_row - 1))
            await _first_of(asyncio.create_task(asyncio.sleep(back_off_s)), running.stop_asked)
        running.enter("stopped")

    async def _live_once(self, running: Running) -> str | None:
        """From start to death. Returns why it died, None when it was stopped."""
        part = running.part
        running.enter("starting")
        try:
            await asyncio.to_thread(part.prepare)
            process = await self._spawn(running)
        except Exception as error:  # noqa: BLE001 -- whatever prevents a start is shown, and tried again
            _log.warning("part cannot be started", name=part.name, error=type(error).__name__)
            return f"cannot be started: {error}"
        watcher = asyncio.create_task(self._watch(running), name=f"watch {part.name}")
        exited = asyncio.create_task(process.wait())
        await _first_of(exited, running.stop_asked, keep=True)
        watcher.cancel()
        code = process.returncode
        if code is None:
            running.enter("stopping")
            await self._stop_process(part, process, exited)
        await asyncio.to_thread(self._end_leftovers, running)
        self.known_pids.discard(process.pid)
        running.process = None
        return None if running.stop_asked.is_set() else _describe_exit(code)

    async def _spawn(self, running: Running) -> asyncio.subprocess.Process:
        part = running.part
        running.log_offset = logs.size(running.log)
        command = await asyncio.to_thread(part.command)
        cwd = self._cwd(part.name)
        descriptor = logs.open_log(running.log)
        try:
            process = await asyncio.create_subprocess_exec(
                *command,
                env=part.environment,
                cwd=cwd,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=descriptor,
                stderr=descriptor,
                start_new_session=True,
            )
        finally:
            os.close(descriptor)
        self.known_pids.add(process.pid)
        with contextlib.suppress(psutil.NoSuchProcess):
            running.process = psutil.Process(process.pid)
        note_processes(
            self._process_file, [entry.process for entry in self.running.values() if entry.process is not None]
        )
        return process

    async def _watch(self, running: Running) -> None:
        """Probe until the part is ready, then see from time to time whether it still answers."""
        part = running.part
        started = time.monotonic()
        while not await part.ready():
            if time.monotonic() - started > part.ready_within_s and not running.ready_once.is_set():
                self._fail(running, f"is not ready after {part.ready_within_s:.0f} s")
            await asyncio.sleep(_PROBE_EVERY_S)
        running.enter("ready")
        running.ready_once.set()
        while True:
            await asyncio.sleep(_CHECK_EVERY_S)
            running.answers = await part.ready()
            if time.monotonic() - running.since > _STEADY_S:
                running.failures_in_a_row = 0

    async def _stop_process(self, part: Part, process: asyncio.subprocess.Process, exited: "asyncio.Task[int]") -> None:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(part.stop_signal)
        await asyncio.wait({exited}, timeout=part.stop_grace_s)
        if not exited.done():
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await exited

    def _cwd(self, name: str) -> Path:
        cwd = self._mark.cwd(name)
        cwd.mkdir(mode=0o711, parents=True, exist_ok=True)
        return cwd

    def _end_leftovers(self, running: Running) -> None:
        """Whatever the part started and left behind: in its session, below it, or with its name in the environment."""
        roots = [running.process] if running.process is not None else []
        followers = [process for process in with_followers(roots) if process not in roots]
        count = end_processes(lambda: [*followers, *marked_processes(self._mark, running.part.name)], _LEFTOVER_GRACE_S)
        if count:
            _log.info("ended what a part left behind", name=running.part.name, processes=count)

    def _fail(self, running: Running, why: str) -> None:
        if self._failure.done():
            return
        lines = logs.tail(running.log, 20, running.log_offset)
        for extra in running.part.extra_logs():
            lines += [f"== {extra.name}", *logs.tail(extra, 12)]
        self._failure.set_exception(StartFailed(running.part.name, why, lines))


async def _first_of(work: "asyncio.Future[Any]", stop: asyncio.Event, *, keep: bool = False) -> None:
    """Wait for the work or for the wish to stop. Unless it is to be kept, unfinished work is cancelled."""
    stopping = asyncio.create_task(stop.wait())
    awaited: set[asyncio.Future[Any]] = {work, stopping}
    await asyncio.wait(awaited, return_when=asyncio.FIRST_COMPLETED)
    await _cancelled(stopping)
    if not keep:
        await _cancelled(work)


async def _cancelled(work: "asyncio.Future[Any]") -> None:
    """Cancel, and wait until it is: a future that nobody looks at is reported as an error."""
    work.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await work


def _describe_exit(code: int | None) -> str:
    if code is not None and code < 0:
        return f"ended by {signal.Signals(-code).name}"
    return f"ended with exit code {code}"
