"""The supervisor's process: one per instance, away from any terminal, spoken to over a unix socket.

One JSON object a line each way: `{"do": "status" | "hold" | "down" | "start" | "stop", "part": …}`. Whoever sends
`hold` keeps the instance up with its connection: when it goes, the instance goes down.
"""

import asyncio
import contextlib
import ctypes
import json
import os
import resource
import shutil
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

import psutil
import structlog

from chappe_kernel.process import prepare_process
from chappe_local import logs
from chappe_local.instance import Instance
from chappe_local.memory import memory_by_part
from chappe_local.parts import Part, Setting, all_parts
from chappe_local.processes import end_processes, marked_processes, note_processes
from chappe_local.runfile import remove_run_file
from chappe_local.startup import StartUp
from chappe_local.supervisor import StartFailed, Supervisor

_log = structlog.get_logger()
_HOUSEKEEPING_S = 2.0
_FAILURE_SHOWN_WITHIN_S = 10.0
_LAST_GRACE_S = 3.0
_PR_SET_CHILD_SUBREAPER = 36


def fork_daemon(
    setting: Setting,
    lock: int,
    *,
    make_parts: Callable[[Setting], list[Part]] = all_parts,
    start_up: type[StartUp] = StartUp,
) -> int:
    """Go on as the supervisor in a child process, and return its pid in the parent. `lock` stays with the child.

    A fork, not a new interpreter: the modules are imported already, and start-up time counts.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child:
        os.close(lock)
        return child
    status = 1
    try:
        _detach(setting.instance)
        asyncio.run(_Daemon(setting, make_parts, start_up).run())
        status = 0
    except BaseException:  # noqa: BLE001 -- the last frame of this process: whatever it was is logged
        _log.exception("the supervisor failed")
    finally:
        # Neither the parent's exit handlers nor its buffers are this process's business.
        os._exit(status)


def _detach(instance: Instance) -> None:
    os.setsid()
    os.chdir("/")
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    nothing = os.open(os.devnull, os.O_RDWR)
    log = logs.open_log(logs.log_path(instance.logs_dir, "supervisor"))
    for target, source in ((0, nothing), (1, log), (2, log)):
        os.dup2(source, target)
    prepare_process("supervisor")
    note_processes(instance.supervisor_file, [psutil.Process()])
    # Orphans of the parts become our children: we see them, and reap them.
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


class _Daemon:
    def __init__(self, setting: Setting, make_parts: Callable[[Setting], list[Part]], start_up: type[StartUp]) -> None:
        self._setting = setting
        self._make_parts = make_parts
        self._make_start_up = start_up
        self._instance = setting.instance
        self._phase = "starting"
        self._failure: dict[str, Any] | None = None
        self._started = time.monotonic()
        self._ready_after_s: float | None = None
        self._document: dict[str, Any] | None = None

    async def run(self) -> None:
        instance = self._instance
        self._going_down = asyncio.Event()
        self._failure_seen = asyncio.Event()
        self._supervisor = Supervisor(
            self._make_parts(self._setting),
            mark=instance.mark,
            logs_dir=instance.logs_dir,
            process_file=instance.process_file,
        )
        self._start_up = self._make_start_up(self._setting, self._supervisor)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self._going_down.set)
        server = await asyncio.start_unix_server(self._answer_client, instance.control_socket)
        instance.control_socket.chmod(0o600)
        housekeeping = asyncio.create_task(self._keep_house())
        await self._start_and_wait()
        await self._end_all()
        if self._failure is not None:
            self._phase = "failed"
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._failure_seen.wait(), _FAILURE_SHOWN_WITHIN_S)
        housekeeping.cancel()
        server.close()
        _reap_all()
        shutil.rmtree(instance.runtime_dir, ignore_errors=True)

    async def _start_and_wait(self) -> None:
        """Until the instance is to go down: because it was asked to, or because it failed to start."""
        going_down = asyncio.create_task(self._going_down.wait())
        starting = asyncio.create_task(self._start_up.run())
        await asyncio.wait({starting, going_down}, return_when=asyncio.FIRST_COMPLETED)
        if not starting.done():
            starting.cancel()
            with contextlib.suppress(asyncio.CancelledError, StartFailed):
                await starting
            return
        error = starting.exception()
        if error is not None:
            self._note_failure(error)
            going_down.cancel()
            return
        self._document = starting.result()
        self._phase = "ready"
        self._ready_after_s = time.monotonic() - self._started
        _log.info("ready", seconds=round(self._ready_after_s, 1))
        await going_down

    def _note_failure(self, error: BaseException) -> None:
        if isinstance(error, StartFailed):
            self._failure = {"part": error.part, "why": error.why, "lines": error.lines}
        else:
            self._failure = {"part": "supervisor", "why": f"{type(error).__name__}: {error}", "lines": []}
        _log.error("start failed", part=self._failure["part"], why=self._failure["why"])

    async def _end_all(self) -> None:
        self._phase = "failing" if self._failure else "stopping"
        remove_run_file(self._instance)
        await self._supervisor.stop_all()
        mark = self._instance.mark
        await asyncio.to_thread(
            end_processes, lambda: [*psutil.Process().children(recursive=True), *marked_processes(mark)], _LAST_GRACE_S
        )
        _log.info("down")

    async def _keep_house(self) -> None:
        """Bound the logs and reap orphans."""
        finished: set[int] = set()
        while True:
            await asyncio.sleep(_HOUSEKEEPING_S)
            for path in self._instance.logs_dir.glob("*.log"):
                logs.rotate(path)
            zombies = {child.pid for child in psutil.Process().children() if _is_zombie(child)}
            # Seen twice and awaited by nobody: asyncio reaps its own children within the loop's next turn.
            for pid in (zombies & finished) - self._supervisor.known_pids:
                _reap(pid)
            finished = zombies

    async def _answer_client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        holds = False
        try:
            while line := await reader.readline():
                request = json.loads(line)
                holds = holds or request["do"] == "hold"
                try:
                    answer = await self._answer(request)
                except (KeyError, TimeoutError, StartFailed) as error:
                    answer = {"error": f"{type(error).__name__}: {error}"}
                writer.write(json.dumps(answer).encode() + b"\n")
                await writer.drain()
        except (ConnectionError, json.JSONDecodeError):
            _log.info("a client went away")
        except asyncio.CancelledError:
            # The loop is ending, and asyncio would report a cancelled handler as an error.
            return
        finally:
            writer.close()
            if holds:
                self._going_down.set()

    async def _answer(self, request: dict[str, Any]) -> dict[str, Any]:
        match request["do"]:
            case "hold":
                return {}
            case "down":
                self._going_down.set()
                return {}
            case "stop":
                return await self._change(request["part"], "stop")
            case "start":
                return await self._change(request["part"], "start")
            case _:
                if self._phase == "failed":
                    self._failure_seen.set()
                return await self._status(with_memory=bool(request.get("memory")))

    async def _change(self, part: str, verb: str) -> dict[str, Any]:
        if part not in self._supervisor.running:
            return {"error": f"there is no part {part}; there are {', '.join(self._supervisor.running)}"}
        if self._phase != "ready":
            return {"error": f"the instance is {self._phase}; try again when it is ready"}
        try:
            await (self._supervisor.stop(part) if verb == "stop" else self._supervisor.start(part))
        except TimeoutError:
            return {"error": f"{part} was started and does not answer yet: chappe logs {part}"}
        return {}

    async def _status(self, *, with_memory: bool) -> dict[str, Any]:
        roots = {name: running.process for name, running in self._supervisor.running.items() if running.process}
        memory = await asyncio.to_thread(memory_by_part, self._instance.mark, roots) if with_memory else {}
        now = time.monotonic()
        return {
            "phase": self._phase,
            "pid": os.getpid(),
            "port_base": self._instance.port_base,
            "state_dir": str(self._instance.state_dir),
            "runtime_dir": str(self._instance.runtime_dir),
            "seconds": round(self._ready_after_s or now - self._started, 1),
            "failure": self._failure,
            "run": self._document,
            "steps": [
                {"name": step.name, "state": step.state, "seconds": round(step.seconds, 1)}
                for step in self._start_up.steps
            ],
            "parts": [
                {
                    "name": name,
                    "state": running.state,
                    "answers": running.answers,
                    "pid": running.process.pid if running.process else None,
                    "restarts": running.restarts,
                    "reason": running.reason,
                    "for_s": round(now - running.since, 1),
                    "memory_mb": memory.get(name),
                }
                for name, running in self._supervisor.running.items()
            ],
        }


def _reap(pid: int) -> None:
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)


def _reap_all() -> None:
    """Whatever ended as our child is reaped by us: not every container's first process does it."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG) != (0, 0):
            continue


def _is_zombie(process: psutil.Process) -> bool:
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
