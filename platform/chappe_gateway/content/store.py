"""The cell's content store: one SQLite database for all gateways of a region, sealed by `sealing`, in a thread of its
own. Requests that keep nothing never come here.

SQLite does the locking between processes, so the folder must be on a file system of the machine's own (no NFS).
"""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TypeVar

import structlog

from chappe_gateway.content import schema
from chappe_gateway.content.objects import Bounds, Kind, Name, Objects, Owner, Page, Stored
from chappe_gateway.content.sealing import RegionSeal, Unreadable
from chappe_kernel.clock import Clock
from chappe_kernel.errors import Unavailable

_log = structlog.get_logger()
T = TypeVar("T")

_MAX_UPLOADS = 32
PIECE_BYTES = 256 * 1024
"""What is longer is kept in pieces of this size."""


class ContentStore:
    """One per gateway process. Nothing is opened before something is asked of it.

    Every method raises `Unavailable` when the store cannot be used."""

    def __init__(self, path: Path, seal: RegionSeal, bounds: Bounds, clock: Clock) -> None:
        self.objects = Objects(path, seal, bounds, clock)
        self.uploads = asyncio.Semaphore(_MAX_UPLOADS)
        """Each takes a line's memory."""
        self._path = path
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="content")
        self._db: sqlite3.Connection | None = None

    async def put(self, name: Name, head: bytes, body: bytes, kept_for_s: float) -> None:
        """Keep a whole object, durably; one that is there already stays as it is. Raises `TooLarge`."""

        def work(db: sqlite3.Connection) -> None:
            self.objects.insert(db, name, head, kept_for_s, is_whole=True)
            for number, begin in enumerate(range(0, len(body), PIECE_BYTES)):
                self.objects.append(db, name, number, body[begin : begin + PIECE_BYTES])

        await self.do(work)

    async def finish(self, name: Name, head: bytes, kept_for_s: float | None = None) -> Stored:
        """What was begun is there from now on, with this head, and for no longer than that after it was begun. Raises
        `Unavailable` if it has gone meanwhile."""

        def work(db: sqlite3.Connection) -> Stored:
            self.objects.set_head(db, name, head)
            self.objects.finish(db, name, kept_for_s)
            found = self.objects.find(db, name)
            if found is None:
                raise Unavailable("what was to be kept is gone", code="content_store_unavailable")
            return found

        return await self.do(work)

    async def check_room(self, owner: Owner, weight: int) -> None:
        """Whether so many bytes more could be kept now. Raises `TooLarge`."""
        await self.do(lambda db: self.objects.check_room(db, owner, weight))

    async def get(self, name: Name) -> Stored | None:
        """None for what is not there, not finished, over its time, or another's."""
        return await self.do(lambda db: self.objects.find(db, name)) if self.exists() else None

    async def pieces(self, name: Name) -> AsyncIterator[bytes]:
        """The body of an object that `get` has just shown."""
        for number in await self.do(partial(self.objects.numbers, object_id=name.id)):
            piece = await self.do(partial(self.objects.read, name=name, number=number))
            if piece is None:
                return
            yield piece

    async def read(self, name: Name) -> bytes:
        """The whole of it: for what is known to be small."""
        return b"".join([piece async for piece in self.pieces(name)])

    async def page(self, owner: Owner, kind: Kind, asked: Page) -> list[Stored]:
        """What is there, whole and in its time."""
        return await self.do(lambda db: self.objects.page(db, owner, kind, asked)) if self.exists() else []

    async def delete(self, name: Name) -> bool:
        """Whether it was there."""
        return await self.do(lambda db: self.objects.delete(db, name)) if self.exists() else False

    async def owners(self) -> list[Owner]:
        """Everybody who has something here."""
        return await self.do(self.objects.owners) if self.exists() else []

    async def keep_within(self, owner: Owner, kept_for_s: float) -> int:
        """Nothing of the owner's is kept longer than this after it was made; with 0 nothing at all. How many go."""
        return await self.do(lambda db: self.objects.keep_within(db, owner, kept_for_s))

    async def sweep(self) -> int:
        """Delete what is over its time, and give the disk its room back. How many objects went."""
        if not self.exists():
            return 0
        gone = await self.do(self.objects.sweep)
        await self.do(schema.give_back_space, in_transaction=False)
        return gone

    async def do(self, work: Callable[[sqlite3.Connection], T], *, in_transaction: bool = True) -> T:
        """Run `work` in one transaction: all of it or nothing. Raises what it raises."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._run, work, in_transaction)

    def exists(self) -> bool:
        """Whether anybody of the region has kept anything yet: nobody makes a file by looking."""
        return self._path.exists()

    def close(self) -> None:
        """It blocks for what is being written."""
        self._thread.submit(self._disconnect)
        self._thread.shutdown()

    def _disconnect(self) -> None:
        if self._db is not None:
            self._db.close()

    def _run(self, work: Callable[[sqlite3.Connection], T], in_transaction: bool) -> T:  # noqa: FBT001  # run_in_executor's
        try:
            if self._db is None:
                self._db = schema.connect(self._path)
            if not in_transaction:
                return work(self._db)
            with _transaction(self._db):
                return work(self._db)
        except (sqlite3.Error, OSError, Unreadable) as error:
            _log.error("content_store_failed", error=type(error).__name__, reason=str(error))
            raise Unavailable("kept content cannot be reached now", code="content_store_unavailable") from None


@contextmanager
def _transaction(db: sqlite3.Connection) -> Iterator[None]:
    """It takes its place at once, so that none fails half-way for want of the lock."""
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        db.execute("ROLLBACK")
        raise
    db.execute("COMMIT")
