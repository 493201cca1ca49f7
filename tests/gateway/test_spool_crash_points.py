"""A gateway that dies at any moment between a request's settlement and its record's being forgotten, and a spool whose
every statement and every write fails once.

What a killed process leaves is what its files are at that moment: they are copied before and after each statement and
around and amidst each write to the log, and SQLite's own log is cut where its writes ended. From each copy another
gateway goes on as orphans' heirs do: it settles what has no record by what the engine said, and ships. Then each
request has one content, in the spool and wherever it was sent; and those whose answers had ended, the one that they
ended with.
"""

import asyncio
import shutil
import sqlite3
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
import pytest

from chappe_gateway.usage import commit_log
from chappe_gateway.usage.shipper import Shipper
from chappe_gateway.usage.spool import Life, Spool
from chappe_kernel.ids import new_id
from chappe_kernel.rating import Counts, Outcome
from chappe_kernel.wire.control import UsageEvent, UsageReceipt
from tests.gateway.test_spool import event, opened
from tests.gateway.world import until

_WAL_HEAD, _FRAME = 32, 24 + 4096


@dataclass
class Observer:
    """Called around each statement that the spool's register executes, and around and amidst each write to its log."""

    seen: Callable[[str], None] = lambda _: None
    still: threading.RLock = field(default_factory=threading.RLock)
    """Kept while a statement runs: files that are copied in its midst, one after another, are of no one moment."""

    def connection(self) -> type[sqlite3.Connection]:
        observer = self

        class Observed(sqlite3.Connection):
            def execute(self, sql: str, *values: Any) -> sqlite3.Cursor:
                with observer.still:
                    observer.seen(f"before {sql}")
                    cursor = super().execute(sql, *values)
                    # What it executes is executed when it returns: each is one step.
                    observer.seen(f"after {sql}")
                    return cursor

            def executescript(self, sql: str) -> sqlite3.Cursor:
                with observer.still:
                    observer.seen(f"before {sql}")
                    cursor = super().executescript(sql)
                    observer.seen(f"after {sql}")
                    return cursor

        return Observed


@pytest.fixture(autouse=True)
def small_log(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each moment is a copy of it."""
    monkeypatch.setattr(commit_log, "SEGMENT_BYTES", 64 * 1024)


@pytest.fixture
def observer(monkeypatch: pytest.MonkeyPatch) -> Observer:
    observer, connect, commit_write = Observer(), sqlite3.connect, commit_log.write

    def observed(*arguments: Any, **options: Any) -> sqlite3.Connection:
        return connect(*arguments, **options, factory=observer.connection())

    def write(file: int, data: bytes, offset: int) -> None:
        with observer.still:
            observer.seen("before write")
            if len(data) > 1:
                commit_write(file, data[: len(data) // 2], offset)
                observer.seen("half of write")
            commit_write(file, data, offset)
            observer.seen("after write")

    monkeypatch.setattr("chappe_gateway.usage.spool.sqlite3.connect", observed)
    monkeypatch.setattr(commit_log, "write", write)
    return observer


@dataclass
class Control:
    """The control plane: all that it ever received, and what its database knows."""

    epoch: str = "one"
    received: list[UsageEvent] = field(default_factory=list)
    known: dict[UUID, UsageEvent] = field(default_factory=dict)
    seen: Callable[[str], None] = lambda _: None

    async def send_usage(self, _: str, events_json: bytes) -> UsageReceipt:
        self.seen("before usage is received")
        events = msgspec.json.decode(events_json, type=list[UsageEvent])
        self.received += events
        for one in events:
            self.known.setdefault(one.request_id, one)
        self.seen("after usage is received")
        return UsageReceipt(self.epoch, len(events), 0, 0)

    def restore(self) -> None:
        self.epoch, self.known = "two", {}

    def copy(self) -> "Control":
        return Control(self.epoch, list(self.received), dict(self.known))


@dataclass(frozen=True)
class Moment:
    """What there is when the gateway dies."""

    what: str
    folder: Path
    began: tuple[UUID, ...]
    ended: dict[UUID, UsageEvent]
    control: Control


@dataclass
class Gateway:
    """As much of one as settles and ships; `moments` are those in which it may die."""

    folder: Path
    copies: Path
    still: threading.RLock = field(default_factory=threading.RLock)
    control: Control = field(default_factory=Control)
    began: list[UUID] = field(default_factory=list)
    ended: dict[UUID, UsageEvent] = field(default_factory=dict)
    moments: list[Moment] = field(default_factory=list)

    def may_die(self, what: str) -> None:
        with self.still:
            # Before the files are copied: an answer that ends meanwhile may not be in the copy.
            began, ended, control = tuple(self.began), dict(self.ended), self.control.copy()
            copy = self.copies / str(len(self.moments))
            shutil.copytree(self.folder, copy)
            self.moments.append(Moment(what, copy, began, ended, control))

    async def settle(self, spool: Spool) -> None:
        """Its answer ends once `commit` has returned."""
        one = msgspec.structs.replace(event(), outcome=Outcome.COMPLETED, counts=Counts(5, 0, 5), amount_nano=9)
        self.began.append(one.request_id)
        spool.reserve()
        await spool.commit(one)
        spool.release()
        self.ended[one.request_id] = one
        self.may_die("an answer has ended")

    async def live(self, spool: Spool) -> None:
        await spool.begin(
            Life(
                new_id(),
                "fr-par",
                "gw",
                "0-0",
            )
        )
        shipper = Shipper(spool, self.control, "gw")  # type: ignore[arg-type]  # as much of the client as it uses
        await self.settle(spool)
        await shipper.flush()
        await asyncio.gather(*(self.settle(spool) for _ in range(3)))
        await shipper.ship()
        await self.settle(spool)
        self.control.restore()
        await shipper.saw_epoch("two")
        await self.settle(spool)
        await shipper.flush()
        await shipper.forget_old()


def cut_logs(moment: Moment) -> Iterator[Moment]:
    """The same, with less and less of the newest log written: as if it had died in the middle of writing it."""
    log = moment.folder / "spool" / "gw.sqlite-wal"
    size = log.stat().st_size if log.exists() else 0
    for end in range(_WAL_HEAD + _FRAME, size, _FRAME):
        for torn in (end, end - _FRAME // 2):
            copy = moment.folder.with_name(f"{moment.folder.name}-{torn}")
            shutil.copytree(moment.folder, copy)
            with (copy / "spool" / "gw.sqlite-wal").open("r+b") as file:
                file.truncate(torn)
            # The index of the log is in shared memory: who opens it alone builds it anew.
            (copy / "spool" / "gw.sqlite-shm").unlink(missing_ok=True)
            yield Moment(f"{moment.what}, {torn} bytes of the log", copy, moment.began, {}, moment.control.copy())


async def take_over(moment: Moment) -> tuple[Control, dict[UUID, UsageEvent]]:
    """Settles by the engine's word what has no record, ships all; what the control plane has, and the spool."""
    spool = await opened(moment.folder)
    control = moment.control
    shipper = Shipper(spool, control, "gw")  # type: ignore[arg-type]  # as much of the client as it uses
    await shipper.saw_epoch(control.epoch)
    found = await spool.find(moment.began)
    for request_id in moment.began:
        if request_id not in found:
            engines = msgspec.structs.replace(event(), request_id=request_id, settled_by="engine")
            await spool.commit(engines)
    await shipper.flush()
    assert await spool.unshipped(1) is None
    kept = await spool.find(moment.began)
    spool.close()
    return control, kept


async def assert_whole(moment: Moment) -> None:
    control, kept = await take_over(moment)
    assert kept.keys() == set(moment.began)
    for request_id, one in moment.ended.items():
        assert kept[request_id] == one, moment.what
    contents: dict[UUID, set[bytes]] = {}
    for one in control.received:
        contents.setdefault(one.request_id, set()).add(msgspec.json.encode(one))
    assert {len(each) for each in contents.values()} <= {1}, f"shipped twice with another content: {moment.what}"
    assert control.known == kept, moment.what


async def test_a_gateway_may_die_around_every_statement_and_every_answer(observer: Observer, tmp_path: Path) -> None:
    gateway = Gateway(tmp_path / "live", tmp_path / "copies", observer.still)
    gateway.folder.mkdir()
    observer.seen = gateway.control.seen = gateway.may_die
    spool = await opened(gateway.folder)
    await gateway.live(spool)
    observer.seen = gateway.control.seen = lambda _: None
    gateway.may_die("at rest")
    words = {word for moment in gateway.moments for word in moment.what.split()}
    assert {"INSERT", "UPDATE", "DELETE", "received", "ended", "synchronous", "write", "half"} <= words
    assert len(gateway.moments) > 60
    for moment in gateway.moments:
        await assert_whole(moment)
    spool.close()


async def test_a_log_that_was_half_written_has_whole_records_or_none(tmp_path: Path) -> None:
    """And no answer had ended whose record is not whole: it ends when all of it was written and flushed."""
    gateway = Gateway(tmp_path / "live", tmp_path / "copies")
    gateway.folder.mkdir()
    spool = await opened(gateway.folder)
    await gateway.live(spool)
    gateway.moments.clear()
    shutil.rmtree(gateway.copies)
    gateway.may_die("at rest")
    [last] = gateway.moments
    # Nothing of what was sent counts here: a log that loses what was acknowledged is a disk that lies.
    last.control.received.clear()
    last.control.known.clear()
    torn = list(cut_logs(last))
    assert len(torn) > 20
    for moment in torn:
        await assert_whole(moment)
    spool.close()


@dataclass
class Failing:
    """A disk that is full for a moment: the statement, or the part of a write to the log, of this number fails."""

    number: int
    executed: int = 0

    def __call__(self, what: str) -> None:
        if what.endswith("write"):
            self._count(OSError("the disk is gone"))
        elif what.startswith(("before INSERT", "before UPDATE", "before DELETE", "before SELECT", "before \nSELECT")):
            self._count(sqlite3.OperationalError("database or disk is full"))

    def _count(self, failure: Exception) -> None:
        self.executed += 1
        if self.executed - 1 == self.number:
            raise failure


async def test_each_statement_may_fail_once_and_everything_is_shipped(observer: Observer, tmp_path: Path) -> None:
    """The tasks that write and ship go on."""
    executed = number = 0
    while number <= executed:
        executed = await _ship_with(observer, Failing(number), tmp_path / str(number))
        number += 1
    assert executed >= 18


async def _ship_with(observer: Observer, failing: Failing, folder: Path) -> int:
    """How many statements there were."""
    spool, control = await opened(folder), Control()
    shipper = Shipper(spool, control, "gw")  # type: ignore[arg-type]  # as much of the client as it uses
    observer.seen = failing
    running = asyncio.create_task(shipper.run())
    events = [event() for _ in range(2)]
    for number, one in enumerate(events, start=1):
        await spool.commit(one)
        await until(lambda count=number: len(control.known) == count)  # type: ignore[misc]  # a default binds it
    observer.seen = lambda _: None
    assert not running.done()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert await spool.find([one.request_id for one in events]) == {one.request_id: one for one in events}
    spool.close()
    return failing.executed


async def test_an_answer_of_a_database_that_is_gone_acknowledges_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was on its way when the restored database was heard of."""
    spool, control = await opened(tmp_path), Control()
    shipper = Shipper(spool, control, "gw")  # type: ignore[arg-type]  # as much of the client as it uses
    await shipper.saw_epoch("one")
    await spool.commit(event())
    late = UsageReceipt("one", 1, 0, 0)

    async def send_usage(_: str, __: bytes) -> UsageReceipt:
        control.restore()
        await shipper.saw_epoch("two")
        return late

    monkeypatch.setattr(control, "send_usage", send_usage)
    await shipper.ship()
    monkeypatch.undo()
    await shipper.flush()
    assert len(control.known) == 1
    assert shipper.has_sent_again("two")
    spool.close()
