"""Logs of the parts: one file each, bounded, and the end of one for a person."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

MAX_LOG_BYTES = 8 * 1024 * 1024
_TAIL_BYTES = 64 * 1024


def log_path(logs_dir: Path, part: str) -> Path:
    return logs_dir / f"{part}.log"


def open_log(path: Path) -> int:
    """A descriptor that appends (so that the file can be cut while a process holds it), readable by the owner only."""
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)


def rotate(path: Path, max_bytes: int = MAX_LOG_BYTES) -> bool:
    """Above `max_bytes`, keep the text as PART.log.1 and empty the file. Lines written in between may be lost."""
    if not path.exists() or path.stat().st_size <= max_bytes:
        return False
    older = path.with_name(f"{path.name}.1")
    shutil.copyfile(path, older)
    older.chmod(0o600)
    os.truncate(path, 0)
    return True


def size(path: Path) -> int:
    """Bytes; 0 when there is no such file yet."""
    return path.stat().st_size if path.exists() else 0


def tail(path: Path, lines: int, offset: int = 0) -> list[str]:
    """The last `lines` lines at or after byte `offset`; bytes that are no UTF-8 are replaced."""
    if not path.exists():
        return []
    with path.open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        start = max(end - _TAIL_BYTES, offset if offset <= end else 0)
        file.seek(start)
        text = file.read().decode(errors="replace")
    return text.splitlines()[-lines:]


def follow(paths: list[Path]) -> Iterator[tuple[Path, str] | None]:
    """New lines of all files from now on, and None when there is nothing new. A file that was cut is read again."""
    offsets = {path: size(path) for path in paths}
    rests = dict.fromkeys(paths, "")
    while True:
        silent = True
        for path in paths:
            end = size(path)
            if end < offsets[path]:
                offsets[path] = 0
            if end == offsets[path]:
                continue
            silent = False
            with path.open("rb") as file:
                file.seek(offsets[path])
                new = file.read(end - offsets[path]).decode(errors="replace")
            offsets[path] = end
            *complete, rests[path] = (rests[path] + new).split("\n")
            for line in complete:
                yield path, line
        if silent:
            yield None
