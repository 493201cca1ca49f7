"""Usage events on disk before their responses end: SQLite, WAL, `synchronous=FULL`, in a thread of its own.

Commits are made in groups: whatever has queued up while the last one was written goes into the next, and a lone event
is written at once. Events stay for a while after they were shipped, so that a restored database can have them again.
"""

import asyncio
import os
import queue
import sqlite3
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any, NamedTuple, TypeVar
from uuid import UUID

import msgspec
import structlog

from chappe_kernel.errors import Unavailable
from chappe_kernel.wire.control import UsageEvent

_log = structlog.get_logger()
T = TypeVar("T")

_SCHEMA = """
CREATE TABLE IF NOT EXISTS event (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    request_id BLOB NOT NULL UNIQUE,
    body TEXT NOT NULL,
    shipped_epoch TEXT,
    shipped_at REAL
);
CREATE INDEX IF NOT EXISTS event_unshipped ON event (seq) WHERE shipped_epoch IS NULL;
"""
# Every step of a statement gives up the interpreter's lock and has to wait for it again, behind a busy event loop. So
# whatever this thread does is one step: an insert of many rows, a batch put together by SQLite itself.
_OLDEST_UNSHIPPED = """
SELECT min(seq), max(seq), count(*), '[' || group_concat(body) || ']'
FROM (SELECT seq, body FROM event WHERE shipped_epoch IS NULL ORDER BY seq LIMIT ?)
"""
_MAX_GROUP = 500
_RETRY_S = 0.2


class Batch(NamedTuple):
    """Events as they lie on disk, in order."""

    first_seq: int
    last_seq: int
    size: int
    events_json: bytes
    """A JSON array of `UsageEvent`."""


class _Insert(NamedTuple):
    request_id: UUID
    body: str
    loop: asyncio.AbstractEventLoop
    done: asyncio.Future[None]


class _Job(NamedTuple):
    work: Callable[[sqlite3.Connection], Any]
    result: "Future[Any]"


class Spool:
    """One file, one thread. `reserve` at admission, `commit` once per reservation, `release` afterwards."""

    def __init__(self, path: Path, *, max_rows: int, min_free_bytes: int) -> None:
        self._path = path
        self._max_rows = max_rows
        self._min_free_bytes = min_free_bytes
        self._reserved = 0
        self._unshipped = 0
        self._free_bytes = 0
        self._failing = False
        self._queue: queue.SimpleQueue[_Insert | _Job | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="spool", daemon=True)
        self.committed = asyncio.Event()
        """Set after each commit: there is something to ship."""

    async def open(self) -> None:
        """Start the thread. Raises `sqlite3.Error` or `OSError` when the file cannot be used."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._thread.start()
        self._unshipped = await self._do(
            lambda db: db.execute("SELECT count(*) FROM event WHERE shipped_epoch IS NULL").fetchone()[0]
        )
        self.look_at_disk()

    def look_at_disk(self) -> None:
        """Refresh the free space that `reserve` goes by."""
        stat = os.statvfs(self._path.parent)
        self._free_bytes = stat.f_bavail * stat.f_frsize

    def reserve(self) -> None:
        """Make sure of room for one more event. Raises `Unavailable` (`spool_full`)."""
        if (
            self._failing
            or self._free_bytes < self._min_free_bytes
            or self._unshipped + self._reserved >= self._max_rows
        ):
            raise Unavailable("this gateway has no room left to record usage", code="spool_full")
        self._reserved += 1

    def release(self) -> None:
        """The reservation's request is over."""
        self._reserved -= 1

    async def commit(self, event: UsageEvent) -> None:
        """Return once the event is on disk. A disk that fails is tried again until it works; meanwhile nothing new
        is admitted. Committing the same request again changes nothing."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()
        self._queue.put(_Insert(event.request_id, msgspec.json.encode(event).decode(), loop, done))
        await done
        self._unshipped += 1
        self.committed.set()

    async def unshipped(self, limit: int) -> Batch | None:
        """The oldest events that the control plane has not acknowledged; `None` when there are none."""
        first_seq, last_seq, count, events = await self._do(
            lambda db: db.execute(_OLDEST_UNSHIPPED, (limit,)).fetchone()
        )
        return Batch(first_seq, last_seq, count, events.encode()) if count else None

    async def mark_shipped(self, batch: Batch, epoch: str) -> None:
        """The control plane's database of this epoch has them."""
        now = time.time()
        await self._do(
            lambda db: (
                db.execute(
                    "UPDATE event SET shipped_epoch = ?, shipped_at = ?"
                    " WHERE seq BETWEEN ? AND ? AND shipped_epoch IS NULL",
                    (epoch, now, batch.first_seq, batch.last_seq),
                ).rowcount
            )
        )
        self._unshipped -= batch.size

    async def ship_again_unless(self, epoch: str) -> int:
        """Everything that only another database has acknowledged is unshipped again. Returns how many."""
        again: int = await self._do(
            lambda db: (
                db.execute(
                    "UPDATE event SET shipped_epoch = NULL, shipped_at = NULL WHERE shipped_epoch <> ?", (epoch,)
                ).rowcount
            )
        )
        self._unshipped += again
        return again

    async def forget_before(self, shipped_before: float) -> None:
        """Delete what was acknowledged before this wall time, in small portions so that commits need not wait."""
        await self._do(
            lambda db: (
                db.execute(
                    "DELETE FROM event WHERE seq IN (SELECT seq FROM event WHERE shipped_at < ? LIMIT 5000)",
                    (shipped_before,),
                ).rowcount
            )
        )

    def close(self) -> None:
        """Write what is queued and end the thread. It blocks for one commit."""
        self._queue.put(None)
        self._thread.join(timeout=5)

    async def _do(self, work: Callable[[sqlite3.Connection], T]) -> T:
        result: Future[T] = Future()
        self._queue.put(_Job(work, result))
        return await asyncio.wrap_future(result)

    def _run(self) -> None:
        db: sqlite3.Connection | None = None
        while (item := self._queue.get()) is not None:
            inserts, jobs, stop = self._gather(item)
            try:
                db = db or self._connect()
            except sqlite3.Error as error:
                self._fail(inserts, jobs, error)
                continue
            if inserts:
                self._insert(db, inserts)
            for job in jobs:
                _run_job(db, job)
            if stop:
                break
        if db is not None:
            db.close()

    def _gather(self, first: _Insert | _Job) -> tuple[list[_Insert], list[_Job], bool]:
        inserts: list[_Insert] = []
        jobs: list[_Job] = []
        item: _Insert | _Job | None = first
        while True:
            if isinstance(item, _Insert):
                inserts.append(item)
            elif item is not None:
                jobs.append(item)
            else:
                return inserts, jobs, True
            if len(inserts) >= _MAX_GROUP:
                return inserts, jobs, False
            try:
                item = self._queue.get_nowait()
            except queue.Empty:
                return inserts, jobs, False

    def _connect(self) -> sqlite3.Connection:
        db = sqlite3.connect(self._path, isolation_level=None)
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        db.execute("PRAGMA busy_timeout = 5000")
        db.executescript(_SCHEMA)
        return db

    def _insert(self, db: sqlite3.Connection, inserts: list[_Insert]) -> None:
        statement = "INSERT OR IGNORE INTO event (request_id, body) VALUES (?, ?)" + ", (?, ?)" * (len(inserts) - 1)
        values = [value for item in inserts for value in (item.request_id.bytes, item.body)]
        while True:
            try:
                db.execute(statement, values)
                break
            except sqlite3.Error as error:
                # The answers wait: none ends before its event is safe.
                if not self._failing:
                    _log.error("spool_write_failed", reason=str(error), events=len(inserts))
                self._failing = True
                time.sleep(_RETRY_S)
        self._failing = False
        _tell(inserts)

    def _fail(self, inserts: list[_Insert], jobs: list[_Job], error: sqlite3.Error) -> None:
        _log.error("spool_unusable", reason=str(error))
        self._failing = True
        for job in jobs:
            if job.result.set_running_or_notify_cancel():
                job.result.set_exception(error)
        for item in inserts:
            self._queue.put(item)
        time.sleep(_RETRY_S)


def _run_job(db: sqlite3.Connection, job: _Job) -> None:
    if not job.result.set_running_or_notify_cancel():
        # Whoever asked was cancelled; without this check setting a result would end the thread.
        return
    try:
        result = job.work(db)
    except sqlite3.Error as error:
        job.result.set_exception(error)
    else:
        job.result.set_result(result)


def _tell(inserts: list[_Insert]) -> None:
    """Wake the waiting requests, with one call into each loop."""
    by_loop: dict[asyncio.AbstractEventLoop, list[asyncio.Future[None]]] = {}
    for item in inserts:
        by_loop.setdefault(item.loop, []).append(item.done)
    for loop, waiting in by_loop.items():
        if not loop.is_closed():
            loop.call_soon_threadsafe(_set_done, waiting)


def _set_done(waiting: list[asyncio.Future[None]]) -> None:
    for done in waiting:
        if not done.done():
            done.set_result(None)
