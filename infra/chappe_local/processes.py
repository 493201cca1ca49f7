"""The processes of an instance: found by their mark, their session and their ancestors, and ended by pid.

The mark is a variable in the environment of everything that a part starts, and the part's own working folder. Either
may be missing: who sets a process title (Ray, PostgreSQL) overwrites what the system shows of the environment, and
PostgreSQL runs as another user in its data folder. So the first process of each part is noted in a file as well.
"""

import json
import os
import signal
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from chappe_local.private_files import write_private_json

MARKER_VARIABLE = "CHAPPE_INSTANCE"
PART_VARIABLE = "CHAPPE_PART"
_KILL_WAIT_S = 5.0
_POLL_S = 0.05


@dataclass(frozen=True)
class Mark:
    """What an instance's processes have and no other process has."""

    marker: str
    cwd_root: Path
    """Each part works in a folder of its own name below, empty: Ray and Python look for modules there first."""

    def cwd(self, part: str) -> Path:
        return self.cwd_root / part


def note_processes(path: Path, started: Iterable[psutil.Process]) -> None:
    """Write down who was started, so that a later command finds them without their environment."""
    write_private_json(path, [[process.pid, process.create_time()] for process in started if process.is_running()])


def noted_processes(path: Path) -> list[psutil.Process]:
    """Those of the note that still run; a pid that was given to another process since is not among them."""
    try:
        notes: list[list[Any]] = json.loads(path.read_text())
    except (OSError, ValueError):
        return []
    found = []
    for pid, created in notes:
        try:
            process = psutil.Process(pid)
            if process.create_time() == created:
                found.append(process)
        except psutil.NoSuchProcess:
            continue
    return found


def marked_processes(mark: Mark, part: str | None = None) -> list[psutil.Process]:
    """Every process that carries the instance's mark, of one part or of all; never this one or its ancestors."""
    spared = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    found = []
    for process in psutil.process_iter():
        owner = None if process.pid in spared else part_of(process, mark)
        if owner is not None and part in (None, owner):
            found.append(process)
    return found


def part_of(process: psutil.Process, mark: Mark) -> str | None:
    """Which part of the instance it belongs to. None: not ours, gone, or not to be seen."""
    try:
        environment = process.environ()
        if environment.get(MARKER_VARIABLE) == mark.marker:
            return environment.get(PART_VARIABLE, "")
        cwd = Path(process.cwd())
    except (psutil.Error, OSError):
        return None
    return cwd.relative_to(mark.cwd_root).parts[0] if cwd.parent == mark.cwd_root else None


def with_followers(roots: Iterable[psutil.Process]) -> list[psutil.Process]:
    """The given processes, their descendants, and all that share a session which one of the given leads."""
    found = {process.pid: process for process in roots}
    leaders = set(found)
    for root in list(found.values()):
        try:
            found.update((child.pid, child) for child in root.children(recursive=True))
        except psutil.NoSuchProcess:
            continue
    for process in psutil.process_iter():
        try:
            if os.getsid(process.pid) in leaders:
                found.setdefault(process.pid, process)
        except ProcessLookupError:
            continue
    return list(found.values())


def end_processes(find: Callable[[], list[psutil.Process]], grace_s: float) -> int:
    """SIGTERM to all that `find` gives, SIGKILL to what is left after `grace_s`, and again until nothing is found.

    Returns how many were ended. Raises `TimeoutError` naming the pids that survive even SIGKILL.
    """
    ended: set[int] = set()
    deadline = time.monotonic() + grace_s
    wanted = signal.SIGTERM
    asked: set[int] = set()
    while alive := [process for process in find() if _runs(process)]:
        now = time.monotonic()
        if now > deadline + _KILL_WAIT_S:
            raise TimeoutError(f"processes {sorted(process.pid for process in alive)} do not end")
        if now > deadline:
            wanted, asked = signal.SIGKILL, set()
        for process in alive:
            if process.pid not in asked:
                _send(process, wanted)
        asked |= {process.pid for process in alive}
        ended |= asked
        time.sleep(_POLL_S)
    return len(ended)


def end_instance(mark: Mark, process_file: Path, grace_s: float = 5.0) -> int:
    """End all that is left of an instance whose supervisor is gone. Returns how many processes there were."""
    noted = with_followers(noted_processes(process_file))
    return end_processes(lambda: [*noted, *marked_processes(mark)], grace_s)


def _runs(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _send(process: psutil.Process, wanted: signal.Signals) -> None:
    try:
        process.send_signal(wanted)
    except psutil.NoSuchProcess:
        return
