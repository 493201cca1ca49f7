"""End one region's Ray cluster completely, by pid, without touching any other cluster of the machine."""

import os
import signal
import time
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from chappe_serving.ray_head import RayHead

_POLL_S = 0.05
_STAT_PPID = 1
_STAT_START_TIME = 19
_PROC = Path("/proc")


class Process(NamedTuple):
    """A pid and when it started, in the kernel's ticks: together they name a process for ever, a pid alone does not."""

    pid: int
    started: int


def end_cluster(cluster: RayHead, head_pid: int | None, *, grace_s: float = 5.0) -> None:
    """Blocks until no process of the cluster is left. `head_pid` is `ray start --block`, or `None` when it is gone.

    SIGTERM to the head first; after `grace_s` SIGKILL for whatever of its tree is left, and for every process that
    names this cluster's folder on its command line (HAProxy outlives the worker that started it, and workers may
    outlive a killed head).
    """
    members = set() if head_pid is None else set(_tree(head_pid))
    members |= set(_naming(cluster))
    if head_pid is not None:
        _signal([process for process in members if process.pid == head_pid], signal.SIGTERM)
        _wait(members, grace_s)
    while members := {process for process in members | set(_naming(cluster)) if _alive(process)}:
        _signal(members, signal.SIGKILL)
        _wait(members, grace_s)


def _tree(root: int) -> list[Process]:
    parents: dict[int, list[Process]] = {}
    for pid in _pids():
        stat = _stat(pid)
        if stat is not None:
            parents.setdefault(int(stat[_STAT_PPID]), []).append(Process(pid, int(stat[_STAT_START_TIME])))
    stat = _stat(root)
    found = [] if stat is None else [Process(root, int(stat[_STAT_START_TIME]))]
    for process in found:
        found.extend(parents.get(process.pid, ()))
    return found


def _naming(cluster: RayHead) -> list[Process]:
    folder = os.fsencode(cluster.temp_dir) + b"/"
    found = []
    for pid in _pids():
        try:
            command = (_PROC / str(pid) / "cmdline").read_bytes()
            environment = (_PROC / str(pid) / "environ").read_bytes()
        except OSError:
            continue
        # Ray's workers change their command line to a title; their environment keeps the folder.
        if (
            folder in command or b"RAY_SERVE_HAPROXY_SERVER_STATE_BASE=" + folder in environment
        ) and pid != os.getpid():
            stat = _stat(pid)
            if stat is not None:
                found.append(Process(pid, int(stat[_STAT_START_TIME])))
    return found


def _wait(processes: Iterable[Process], limit_s: float) -> None:
    give_up_at = time.monotonic() + limit_s
    while any(_alive(process) for process in processes) and time.monotonic() < give_up_at:
        time.sleep(_POLL_S)


def _alive(process: Process) -> bool:
    stat = _stat(process.pid)
    if stat is None or int(stat[_STAT_START_TIME]) != process.started:
        return False
    # A zombie is dead, unless only its first thread is: the others still hold its sockets then.
    return stat[0] != "Z" or _threads(process.pid) > 1


def _signal(processes: Iterable[Process], number: signal.Signals) -> None:
    for process in processes:
        if _alive(process):
            try:
                os.kill(process.pid, number)
            except ProcessLookupError:
                continue


def _pids() -> list[int]:
    return [int(entry.name) for entry in _PROC.iterdir() if entry.name.isdigit()]


def _threads(pid: int) -> int:
    try:
        return sum(1 for _ in (_PROC / str(pid) / "task").iterdir())
    except OSError:
        return 0


def _stat(pid: int) -> list[str] | None:
    """The fields of /proc/<pid>/stat from the state on, or `None` when there is no such process."""
    try:
        return (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
