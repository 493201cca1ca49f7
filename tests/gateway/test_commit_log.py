"""What was appended is there after any death, in order, until SQLite has it; and never again after that."""

import errno
import os
import shutil
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chappe_gateway.usage import commit_log
from chappe_gateway.usage.commit_log import SEGMENT_BYTES, CommitLog, LogFull, Row, recorded, segment_paths


def rows(first: int, count: int, size: int = 20) -> list[Row]:
    return [Row(b"%016d" % number, f'{{"n":{number},"é":"{"x" * size}"}}') for number in range(first, first + count)]


def opened(path: Path) -> CommitLog:
    log = CommitLog(path)
    log.recover()
    return log


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "gw.1.sqlite"


def test_what_was_appended_is_taken_in_order_and_after_a_death_again(path: Path) -> None:
    log = opened(path)
    assert log.take() == []
    log.append(rows(0, 3))
    log.append(rows(3, 1))
    assert log.take() == rows(0, 4)
    log.append(rows(4, 2))
    assert log.take() == rows(0, 4), "what is not settled yet comes again, and nothing before it"
    assert not log.is_settled
    after = opened(path)
    assert after.take() == recorded(path) == rows(0, 6)
    after.settled()
    assert recorded(path) == []
    assert opened(path).take() == []


def test_what_is_settled_never_comes_again(path: Path) -> None:
    """Also under a shorter run that was written over it."""
    log = opened(path)
    for number in range(6):
        log.append(rows(10 * number, 5 - number // 2))
        taken = log.take()
        assert [row.key for row in taken] == [row.key for row in rows(10 * number, 5 - number // 2)]
        log.settled()
        assert log.is_settled
        assert recorded(path) == []
        log.append(rows(1000 + number, 1))
        assert recorded(path) == rows(1000 + number, 1)
        assert log.take() == rows(1000 + number, 1)
        log.settled()


def test_a_shorter_run_hides_what_is_left_of_an_older_one_behind_it(path: Path) -> None:
    log = opened(path)
    for number in (0, 1):
        log.append(rows(number, 1))
    # Twice, so that the first segment has its turn again; frames of one size, so that the old ones begin where it ends.
    for _ in range(2):
        log.take()
        log.settled()
        log.append(rows(2, 1))
    assert recorded(path) == rows(2, 1)
    log.append(rows(3, 1))
    assert recorded(path) == rows(2, 2)
    log.close()


class Disk:
    """Between the log and its files: dies in the middle of a write, or refuses one."""

    def __init__(self, real: Callable[[int, bytes, int], None]) -> None:
        self.real = real
        self.keep: int | None = None
        """How much of the next write is done before it fails."""

    def __call__(self, file: int, data: bytes, offset: int) -> None:
        if self.keep is None:
            return self.real(file, data, offset)
        if part := data[: self.keep]:
            self.real(file, part, offset)
        self.keep = None
        raise OSError(errno.EIO, "the disk is gone")


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    disk = Disk(commit_log.write)
    monkeypatch.setattr(commit_log, "write", disk)
    return disk


Step = tuple[str, int]
_KINDS = ["append", "append", "fail", "take", "settle", "settle fails", "die"]
_STEPS: st.SearchStrategy[list[Step]] = st.lists(st.tuples(st.sampled_from(_KINDS), st.integers(0, 200)), max_size=40)


@given(_STEPS)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_any_order_of_deaths_and_failures_loses_and_repeats_nothing(
    disk: Disk, tmp_path: Path, steps: list[Step]
) -> None:
    folder = tmp_path / "live"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    path = folder / "gw.sqlite"
    log = opened(path)
    number = 0
    promised: list[Row] = []
    settled = in_sqlite = 0
    """How many of them the log has let go of, and how many SQLite has: more where the letting go failed."""
    for step, size in steps:
        disk.keep = None
        if step in ("append", "fail"):
            new = rows(number, 1 + size % 4)
            number += len(new)
            if step == "append":
                log.append(new)
                promised += new
            else:
                disk.keep = size
                with pytest.raises(OSError, match="disk"):
                    log.append(new)
        elif step in ("take", "settle", "settle fails"):
            taken = list(log.take())
            assert taken == promised[settled : settled + len(taken)]
            if step != "take":
                in_sqlite = max(in_sqlite, settled + len(taken))
            if step == "settle":
                log.settled()
                settled += len(taken)
            elif step == "settle fails" and taken:
                disk.keep = size % 16
                with pytest.raises(OSError, match="disk"):
                    log.settled()
        else:
            log.close()
            log = opened(path)
            # A write that failed may be there as a whole: nobody was told that it is not.
            left = [row for row in log.take() if row in promised]
            assert len(left) >= len(promised) - in_sqlite
            assert left == promised[len(promised) - len(left) :]
            assert len(left) <= len(promised) - settled, "what was settled has come again"
            log.settled()
            settled = in_sqlite = len(promised)
    log.close()


def test_a_log_that_is_cut_or_damaged_anywhere_has_whole_groups_in_order_or_less(path: Path) -> None:
    log = opened(path)
    groups = [rows(0, 2), rows(2, 1), rows(3, 3)]
    ends = [0]
    for group in groups:
        log.append(group)
        ends.append(segment_paths(path)[0].stat().st_size)
    data = segment_paths(path)[0].read_bytes()
    assert recorded(path) == rows(0, 6)
    for size in range(len(data)):
        whole = sum(end <= size for end in ends[1:])
        segment_paths(path)[0].write_bytes(data[:size])
        assert recorded(path) == [row for group in groups[:whole] for row in group]
        # As one that had room set aside is.
        segment_paths(path)[0].write_bytes(data[:size] + bytes(len(data)))
        assert recorded(path) == [row for group in groups[:whole] for row in group]
    for number, (begin, end) in enumerate(pairwise(ends)):
        for at in range(begin, end):
            segment_paths(path)[0].write_bytes(data[:at] + bytes([data[at] ^ 0x10]) + data[at + 1 :])
            assert recorded(path) == [row for group in groups[:number] for row in group], at
    log.close()


def test_a_clock_that_is_set_back_changes_no_order(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([5_000, 4_000, 1])
    monkeypatch.setattr(time, "time_ns", lambda: next(times))
    log = opened(path)
    log.append(rows(0, 1))
    log.take()
    log.append(rows(1, 1))
    log.append(rows(2, 1))
    assert recorded(path) == rows(0, 3)
    log.close()


def test_a_full_log_says_so_in_time_and_takes_nothing(path: Path) -> None:
    log = opened(path)
    big, number, told = SEGMENT_BYTES // 8, 0, []
    log.append(rows(number, 1, big))
    assert log.take() != []
    with pytest.raises(LogFull):
        for number in range(1, 20):
            told.append(log.append(rows(number, 1, big)))
    assert told.count(True) == 1
    assert told.index(True) < len(told) - 1, "there is time to take it before it is full"
    assert [row.key for row in log.take()] == [b"%016d" % 0]
    log.settled()
    left = log.take()
    assert [row.key for row in left] == [b"%016d" % n for n in range(1, number)]
    log.append(rows(number, 1, big))
    assert [row.key for row in recorded(path)] == [b"%016d" % n for n in range(1, number + 1)]
    log.close()


def test_room_is_set_aside_once_and_writes_stay_in_it(path: Path) -> None:
    log = opened(path)
    log.append(rows(0, 1))
    log.make_room(0)
    for one in segment_paths(path):
        stat = one.stat()
        assert stat.st_size == SEGMENT_BYTES
        assert 512 * stat.st_blocks >= SEGMENT_BYTES, "blocks of its own, and no hole"
        assert stat.st_mode & 0o777 == 0o600
    assert recorded(path) == rows(0, 1)
    for number in range(1, 50):
        log.append(rows(number, 1))
        if number % 7 == 0:
            log.take()
            log.settled()
    assert [one.stat().st_size for one in segment_paths(path)] == [SEGMENT_BYTES] * 2
    log.close()


def test_every_write_returns_when_it_is_on_disk(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened_with: dict[Path, int] = {}
    flushed: list[Path] = []
    real_open, real_fsync = os.open, os.fsync

    def open_noting(name: Path, flags: int, mode: int = 0o777) -> int:
        opened_with[Path(name)] = flags
        return real_open(name, flags, mode)

    def fsync_noting(descriptor: int) -> None:
        flushed.append(Path(f"/proc/self/fd/{descriptor}").readlink())
        real_fsync(descriptor)

    monkeypatch.setattr(os, "open", open_noting)
    monkeypatch.setattr(os, "fsync", fsync_noting)
    log = opened(path)
    log.append(rows(0, 1))
    assert opened_with[segment_paths(path)[0]] & os.O_DSYNC
    assert flushed == [path.parent], "a new file's name too"
    log.close()


def test_no_room_is_taken_that_must_stay_free(path: Path) -> None:
    log = opened(path)
    free = os.statvfs(path.parent)
    log.make_room(free.f_bavail * free.f_frsize)
    assert not any(one.exists() for one in segment_paths(path))
    log.append(rows(0, 1))
    assert recorded(path) == rows(0, 1)
    log.close()


def test_a_write_that_the_disk_cuts_short_is_an_error(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = opened(path)
    log.append(rows(0, 1))
    real = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda file, data, offset: real(file, data[:-1], offset))
    with pytest.raises(OSError, match="No space left"):
        log.append(rows(1, 1))
    monkeypatch.undo()
    assert recorded(path) == rows(0, 1)
    log.append(rows(2, 1))
    assert recorded(path) == [*rows(0, 1), *rows(2, 1)]
    log.close()
