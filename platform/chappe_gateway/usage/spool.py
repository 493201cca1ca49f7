"""Usage events on disk before their responses end: a log that a thread writes, and SQLite, which another one feeds.

Commits are made in groups: whatever has queued up while the last one was written goes into the next, and a lone event
is written at once. A commit is one write to the log (`commit_log.py`); SQLite (WAL, `synchronous=FULL`) has what was
committed before anything else is asked of it, so no answer waits for its work. Events stay there for a while after
they were shipped, so that a restored database can have them again.

A spool belongs to one gateway over all its lives, and is the register of what that gateway's requests were charged:
`request_id` is unique in it, whoever settles. One process at a time has it open (`spool_lock.py`).
"""

import asyncio
import contextlib
import hashlib
import os
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, NamedTuple, TypeVar
from uuid import UUID

import msgspec
import structlog
from msgspec import Struct

from chappe_gateway.rush import Rush
from chappe_gateway.usage.commit_log import CommitLog, Row
from chappe_gateway.usage.spool_lock import SpoolLock
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
CREATE TABLE IF NOT EXISTS life (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id BLOB NOT NULL UNIQUE,
    region TEXT NOT NULL,
    gateway TEXT NOT NULL,
    records_after TEXT NOT NULL,
    began_at REAL NOT NULL
);
"""
# Every step of a statement gives up the interpreter's lock and has to wait for it again, behind a busy event loop. So
# whatever is asked of SQLite is one step: an insert of many rows, a batch put together by SQLite itself.
_OLDEST_UNSHIPPED = """
SELECT min(seq), max(seq), count(*), '[' || group_concat(body) || ']'
FROM (SELECT seq, body FROM event WHERE shipped_epoch IS NULL ORDER BY seq LIMIT ?)
"""
_COUNT_UNSHIPPED = "SELECT count(*) FROM event WHERE shipped_epoch IS NULL"
_MAX_GROUP = 500
_RETRY_S = 0.2
_CLOSE_S = 5.0
_KEEP_LIVES_S = 7 * 24 * 3600
_KEEP_LIVES = 20
_FORGET_LIVES = "DELETE FROM life WHERE began_at < ? AND seq <= (SELECT max(seq) FROM life) - ?"


class Batch(NamedTuple):
    """Events as they lie on disk, in order."""

    first_seq: int
    last_seq: int
    size: int
    events_json: bytes
    """A JSON array of `UsageEvent`."""


class SpoolState(NamedTuple):
    """For whoever watches."""

    unshipped: int
    reserved: int
    free_bytes: int
    is_failing: bool


class Life(NamedTuple):
    """One process that had a spool as its own. What engines wrote of its requests comes after `records_after`."""

    id: UUID
    region: str
    gateway: str
    records_after: str
    """An id in the region's stream of engine records."""


class _Insert(Struct, frozen=True):
    row: Row
    event: UsageEvent
    done: asyncio.Future[UsageEvent]
    then: Callable[[], None] | None


class _Group(NamedTuple):
    """What is committed at once. All its requests are of one loop."""

    inserts: list[_Insert]
    loop: asyncio.AbstractEventLoop


class _Job(NamedTuple):
    work: Callable[[sqlite3.Connection], Any]
    result: "Future[Any] | None"
    """None where nobody waits for it."""


_NOTHING = _Job(lambda _: None, None)
"""Before each job SQLite is given what was committed."""


class Spool:
    """One file and its log, a thread for each. `reserve` at admission, `commit` once per reservation, `release`
    afterwards."""

    def __init__(self, path: Path, *, max_rows: int, min_free_bytes: int) -> None:
        self.path = path
        self._lock = SpoolLock(path)
        self._max_rows = max_rows
        self._min_free_bytes = min_free_bytes
        self._reserved = 0
        self._unshipped = 0
        self._free_bytes = 0
        self._failing = False
        self._log = CommitLog(path)
        self._commits: queue.SimpleQueue[_Group | Future[None] | None] = queue.SimpleQueue()
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._gathered: list[_Insert] = []
        """What goes into the next commit."""
        self._is_writing = False
        """Whether a group is on its way: what comes meanwhile waits for it, and goes into the next one together."""
        self._rush = Rush()
        self._register = threading.Thread(target=self._run_jobs, name="spool-register", daemon=True)
        self._committer = threading.Thread(target=self._run_commits, name="spool", daemon=True)
        self.committed = asyncio.Event()
        """Set after each commit: there is something to ship."""

    async def open(self, wait_s: float = 0.0) -> None:
        """Take the file and start the threads. Raises `SpoolTaken` when a living process keeps it for `wait_s`,
        `sqlite3.Error` or `OSError` when it cannot be used."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        await self._lock.take(wait_s)
        try:
            self._register.start()
            # What an earlier process left in the log is in SQLite then, and the log can be written.
            self._unshipped = await self._do(lambda db: db.execute(_COUNT_UNSHIPPED).fetchone()[0])
            self._committer.start()
            self.look_at_disk()
        except BaseException:
            self.close()
            raise

    async def begin(self, life: Life) -> None:
        """Note who has it from now on, before its first request. Lives that are too old to matter are forgotten."""
        row = (life.id.bytes, life.region, life.gateway, life.records_after, time.time())
        await self._do(self._set_room_aside)
        await self._do(
            lambda db: (
                db.execute(_FORGET_LIVES, (time.time() - _KEEP_LIVES_S, _KEEP_LIVES)).rowcount,
                db.execute(
                    "INSERT INTO life (id, region, gateway, records_after, began_at) VALUES (?, ?, ?, ?, ?)", row
                ).rowcount,
            )
        )

    async def lives(self) -> list[Life]:
        """Oldest first; the last one is the owner's newest."""
        rows = await self._do(
            lambda db: db.execute("SELECT id, region, gateway, records_after FROM life ORDER BY seq").fetchall()
        )
        return [Life(UUID(bytes=key), region, gateway, after) for key, region, gateway, after in rows]

    async def find(self, request_ids: Sequence[UUID]) -> dict[UUID, UsageEvent]:
        """Those of these requests that are settled: the events that were committed first."""
        keys = [request_id.bytes for request_id in request_ids]
        marks = ", ".join("?" * len(keys))
        bodies = await self._do(
            lambda db: db.execute(f"SELECT body FROM event WHERE request_id IN ({marks})", keys).fetchall()  # noqa: S608  # question marks
        )
        events = [msgspec.json.decode(body, type=UsageEvent) for (body,) in bodies]
        return {event.request_id: event for event in events}

    def look_at_disk(self) -> None:
        """Refresh the free space that `reserve` goes by."""
        stat = os.statvfs(self.path.parent)
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

    def state(self) -> SpoolState:
        """As it is now, without waiting."""
        return SpoolState(self._unshipped, self._reserved, self._free_bytes, self._failing)

    def release(self) -> None:
        """The reservation's request is over."""
        self._reserved -= 1

    async def commit(self, event: UsageEvent) -> None:
        """Return once the event is on disk. A disk that fails is tried again until it works; meanwhile nothing new
        is admitted. Committing the same request again changes nothing."""
        await self.put(event)

    def put(self, event: UsageEvent, then: Callable[[], None] | None = None) -> "asyncio.Future[UsageEvent]":
        """`commit` without waiting: once the event is on disk, `then` is called and what this gives is done. To cancel
        that ends the waiting and nothing else."""
        return self._put(event.request_id.bytes, msgspec.json.encode(event), event, then)

    async def written(self) -> None:
        """Return once whatever was put is on disk."""
        while self._is_writing:
            passed: Future[None] = Future()
            self._commits.put(passed)
            await asyncio.wrap_future(passed)

    async def commit_other_story(self, event: UsageEvent) -> None:
        """Beside the event of the same request, which stands: what it would be by a record that came later."""
        body = msgspec.json.encode(event)
        await self._put(event.request_id.bytes + hashlib.sha256(body).digest(), body, event)

    def _put(
        self, key: bytes, body: bytes, event: UsageEvent, then: Callable[[], None] | None = None
    ) -> "asyncio.Future[UsageEvent]":
        loop = asyncio.get_running_loop()
        done: asyncio.Future[UsageEvent] = loop.create_future()
        self._gathered.append(_Insert(Row(key, body.decode()), event, done, then))
        is_rush = self._rush.note(time.monotonic())
        if not self._is_writing:
            self._is_writing = True
            if is_rush and self._reserved > 1:
                # Others are likely to end in this turn of the event loop: they go along.
                loop.call_soon(self._hand_over, loop)
            else:
                self._hand_over(loop)
        return done

    def _hand_over(self, loop: asyncio.AbstractEventLoop) -> None:
        group = self._gathered[:_MAX_GROUP]
        del self._gathered[:_MAX_GROUP]
        self._is_writing = bool(group)
        if group:
            self._commits.put(_Group(group, loop))

    def _is_on_disk(self, group: _Group) -> None:
        self._unshipped += len(group.inserts)
        self._hand_over(group.loop)
        for item in group.inserts:
            if item.then is not None:
                try:
                    item.then()
                except Exception:  # noqa: BLE001  # see below
                    # A defect, and one request's: the others' answers wait for this too.
                    _log.exception("after_commit_failed", request_id=str(item.event.request_id))
            if not item.done.done():
                item.done.set_result(item.event)
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

    async def newest_seq(self) -> int:
        """The number of the newest event; 0 when there is none."""
        newest: int = await self._do(lambda db: db.execute("SELECT coalesce(max(seq), 0) FROM event").fetchone()[0])
        return newest

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
        """Write what is queued, end the threads and let go of the file. It blocks for one commit."""
        if self._gathered:
            loop = self._gathered[0].done.get_loop()
            self._commits.put(_Group(self._gathered, loop))
            self._gathered = []
        give_up_at = time.monotonic() + _CLOSE_S
        # The register at last: it gives SQLite what the log got.
        for thread, orders in ((self._committer, self._commits), (self._register, self._jobs)):
            orders.put(None)
            if thread.ident is not None:
                thread.join(timeout=give_up_at - time.monotonic())
        if not (self._committer.is_alive() or self._register.is_alive()):
            # A thread that hangs on its disk keeps the lock: what it may still write must not meet another writer.
            self._log.close()
            self._lock.release()

    async def _do(self, work: Callable[[sqlite3.Connection], T]) -> T:
        result: Future[T] = Future()
        self._jobs.put(_Job(work, result))
        return await asyncio.wrap_future(result)

    def _run_commits(self) -> None:
        while (item := self._commits.get()) is not None:
            if isinstance(item, _Group):
                self._commit(item)
            elif item.set_running_or_notify_cancel():
                item.set_result(None)

    def _commit(self, group: _Group) -> None:
        rows = [item.row for item in group.inserts]
        while True:
            try:
                if self._log.append(rows):
                    self._jobs.put(_NOTHING)
                break
            except OSError as error:
                # The answers wait: none ends before its event is safe.
                if not self._failing:
                    _log.error("spool_write_failed", reason=str(error), events=len(rows))
                self._failing = True
                self._jobs.put(_NOTHING)
                time.sleep(_RETRY_S)
        self._failing = False
        if not group.loop.is_closed():
            group.loop.call_soon_threadsafe(self._is_on_disk, group)

    def _run_jobs(self) -> None:
        db: sqlite3.Connection | None = None
        while (job := self._jobs.get()) is not None:
            if job.result is not None and not job.result.set_running_or_notify_cancel():
                # Whoever asked was cancelled; without this check setting a result would end the thread.
                continue
            try:
                db = db or self._connect()
                self._take_in(db)
                result = job.work(db)
            except (sqlite3.Error, OSError) as error:
                if job.result is None:
                    _log.error("spool_unusable", reason=str(error))
                else:
                    job.result.set_exception(error)
            else:
                if job.result is not None:
                    job.result.set_result(result)
        if db is not None:
            with contextlib.suppress(sqlite3.Error, OSError):
                # What it does not take stays in the log for whoever is next.
                self._take_in(db)
            db.close()

    def _connect(self) -> sqlite3.Connection:
        db = sqlite3.connect(self.path, isolation_level=None)
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        db.execute("PRAGMA busy_timeout = 5000")
        db.executescript(_SCHEMA)
        self._log.recover()
        return db

    def _take_in(self, db: sqlite3.Connection) -> None:
        """Whatever was committed until now is in SQLite then. Raises `sqlite3.Error`, `OSError`."""
        while True:
            was_settled = self._log.is_settled
            rows = self._log.take()
            for first in range(0, len(rows), _MAX_GROUP):
                _insert(db, rows[first : first + _MAX_GROUP])
            self._log.settled()
            if was_settled:
                return

    def _set_room_aside(self, _: sqlite3.Connection) -> None:
        try:
            self._log.make_room(self._min_free_bytes)
        except OSError as error:
            # Then each write looks for its own.
            _log.warning("spool_without_room", reason=str(error))


def _insert(db: sqlite3.Connection, rows: Sequence[Row]) -> None:
    statement = "INSERT OR IGNORE INTO event (request_id, body) VALUES (?, ?)" + ", (?, ?)" * (len(rows) - 1)
    db.execute(statement, [value for row in rows for value in row])
