"""The spool's commit log: what its SQLite file will have soon, on disk after one write.

A commit of SQLite writes a page of each tree that it touches, each with a frame around it, and now and then moves all
of them to their places while whoever commits waits. Here a group of rows is one write, into room that was set aside
and filled before, so that the disk has no metadata to write with it. SQLite gets the rows later, many at once.

Two segments take turns: while what is in one goes to SQLite, the other is written. A segment holds one *run* of frames
from its beginning: a frame counts if it is whole, and of the same run as the first. Once SQLite has a run, its first
frame is wiped out. What was only half written when a process died was never promised to anybody.
"""

import errno
import os
import struct
import threading
import time
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

SEGMENT_BYTES = 2 * 1024 * 1024
"""Some 2,500 events."""
_FILLING = SEGMENT_BYTES // 2
_ZEROS = bytes(1024 * 1024)

_HEAD = struct.Struct("<IIQ")
"""The rows' bytes, a CRC-32 of all that follows it, and the run."""
_CHECKED_FROM = 8


class Row(NamedTuple):
    """What SQLite gets: its key there, and an event as JSON."""

    key: bytes
    body: str


class LogFull(OSError):
    """SQLite has not taken the other segment yet."""


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(list[Row])


class _Segment:
    """One file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: int | None = None
        self._run = 0
        self._end = 0
        """Where the next frame goes."""

    def append(self, payload: bytes, next_run: int) -> int:
        """Returns its run once it is on disk. After an `OSError` the next one is written to the same place."""
        if self._end and self._end + _HEAD.size + len(payload) > SEGMENT_BYTES:
            raise LogFull(errno.ENOSPC, "the spool's log is full")
        run = self._run if self._end else next_run
        frame = _frame(run, payload)
        write(self._opened(), frame, self._end)
        self._run = run
        self._end += len(frame)
        return run

    @property
    def is_filling(self) -> bool:
        return self._end > _FILLING

    def clear(self) -> None:
        """SQLite has this run."""
        if self.path.exists():
            write(self._opened(), bytes(_HEAD.size), 0)
        self._end = 0

    def make_room(self) -> None:
        """So that later writes find their blocks there, and written once: that alone makes them plain overwrites."""
        file = self._opened()
        while (size := os.fstat(file).st_size) < SEGMENT_BYTES:
            write(file, _ZEROS[: SEGMENT_BYTES - size], size)

    def close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _opened(self) -> int:
        if self._file is None:
            # O_DSYNC: a write and its flush are one call, for which the interpreter's lock is given up once.
            self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_DSYNC, 0o600)
            _flush_folder(self.path.parent)
        return self._file


class CommitLog:
    """Beside a spool's SQLite file, whose lock is this log's as well. One thread appends and another takes."""

    def __init__(self, spool_path: Path) -> None:
        self._segments = [_Segment(path) for path in segment_paths(spool_path)]
        self._lock = threading.Lock()
        self._spool_path = spool_path
        self._appended: list[Row] = []
        self._taken: list[Row] = []
        self._to_clear: list[_Segment] = []
        self._active = 0
        self._run = 0
        """The newest: whatever the clock does, what was written first has the lower one."""

    def recover(self) -> None:
        """Before anything is appended: what an earlier process left is what SQLite is to have first. Raises
        `OSError`."""
        self._taken = recorded(self._spool_path)
        self._to_clear = list(self._segments) if self._taken else []

    def append(self, rows: Sequence[Row]) -> bool:
        """Returns once they are on disk; whether it is time to take them. Raises `LogFull`, `OSError`: then none of
        them is there."""
        payload = _encoder.encode(rows)
        with self._lock:
            segment = self._segments[self._active]
            was_filling = segment.is_filling
            self._run = segment.append(payload, max(self._run + 1, time.time_ns()))
            self._appended += rows
            return segment.is_filling and not was_filling

    def take(self) -> Sequence[Row]:
        """What SQLite does not have yet, in order; the same again until it is `settled`."""
        with self._lock:
            if not self._to_clear and self._appended:
                self._taken, self._appended = self._appended, []
                self._to_clear = [self._segments[self._active]]
                self._active = 1 - self._active
            return self._taken

    @property
    def is_settled(self) -> bool:
        """Whether SQLite has all that was taken so far."""
        return not self._to_clear

    def settled(self) -> None:
        """SQLite has what was taken, on disk. Raises `OSError`: then it is not settled yet."""
        for segment in self._to_clear:
            segment.clear()
        with self._lock:
            self._to_clear, self._taken = [], []

    def make_room(self, min_free_bytes: int) -> None:
        """Set room for both segments aside, if as much stays free. Raises `OSError`."""
        stat = os.statvfs(self._segments[0].path.parent)
        if stat.f_bavail * stat.f_frsize - len(self._segments) * SEGMENT_BYTES < min_free_bytes:
            return
        with self._lock:
            for segment in self._segments:
                segment.make_room()

    def close(self) -> None:
        for segment in self._segments:
            segment.close()


def segment_paths(spool_path: Path) -> tuple[Path, Path]:
    return spool_path.with_suffix(".log-1"), spool_path.with_suffix(".log-2")


def recorded(spool_path: Path) -> list[Row]:
    """What the log has on disk and SQLite may not have, in order. Raises `OSError`."""
    runs = sorted(run for path in segment_paths(spool_path) if (run := _read(path)) is not None)
    return [row for _, rows in runs for row in rows]


def write(file: int, data: bytes, offset: int) -> None:
    """All of it, on disk. Raises `OSError`."""
    if os.pwrite(file, data, offset) != len(data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _frame(run: int, payload: bytes) -> bytes:
    checked = _HEAD.pack(0, 0, run)[_CHECKED_FROM:] + payload
    return _HEAD.pack(len(payload), zlib.crc32(checked), run) + payload


def _read(path: Path) -> tuple[int, list[Row]] | None:
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD.size)
            # Mostly there is nothing in the whole of it.
            frames = list(_frames(head + file.read())) if any(head) else []
    except FileNotFoundError:
        return None
    return (frames[0][0], [row for _, rows in frames for row in rows]) if frames else None


def _frames(data: bytes) -> Iterator[tuple[int, list[Row]]]:
    """The whole frames of the first run."""
    at, first = 0, None
    while at + _HEAD.size <= len(data):
        length, check, run = _HEAD.unpack_from(data, at)
        end = at + _HEAD.size + length
        if length == 0 or end > len(data) or run != (first or run):
            return
        if zlib.crc32(data[at + _CHECKED_FROM : end]) != check:
            return
        yield run, _decoder.decode(data[at + _HEAD.size : end])
        at, first = end, run


def _flush_folder(folder: Path) -> None:
    """A new file's name is on disk only then."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
