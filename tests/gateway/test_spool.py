"""What was committed is shipped, by whichever process comes next, and again to a restored database."""

import asyncio
import contextlib
import errno
import shutil
import sqlite3
import time
from pathlib import Path

import msgspec
import pytest

from chappe_gateway.usage import commit_log
from chappe_gateway.usage.shipper import MAX_BATCH, Shipper
from chappe_gateway.usage.spool import Spool
from chappe_kernel.errors import Unavailable
from chappe_kernel.ids import new_id
from chappe_kernel.rating import NO_COUNTS, Outcome
from chappe_kernel.wire.control import UsageBatch, UsageEvent, UsageReceipt
from tests.gateway.fake_control import CHAT, STARTED
from tests.gateway.spool_files import spooled
from tests.gateway.test_answers_shape import check_error
from tests.gateway.world import RunningGateway, World, auth, chat_body, until

PATH = "/v1/chat/completions"


def event() -> UsageEvent:
    return UsageEvent(
        request_id=new_id(),
        tenant_id=new_id(),
        project_id=new_id(),
        key_id=new_id(),
        grant_id=new_id(),
        listing=CHAT,
        price_version=new_id(),
        outcome=Outcome.FAILED,
        counts=NO_COUNTS,
        amount_nano=0,
        hold_nano=0,
        started_at=STARTED,
        finished_at=STARTED,
    )


async def opened(folder: Path, max_rows: int = 1000, min_free_bytes: int = 0) -> Spool:
    spool = Spool(folder / "spool" / "gw.sqlite", max_rows=max_rows, min_free_bytes=min_free_bytes)
    await spool.open()
    return spool


def decoded(events_json: bytes) -> tuple[UsageEvent, ...]:
    return msgspec.json.decode(events_json, type=tuple[UsageEvent, ...])


class Taker:
    """Stands where the control plane's client does."""

    def __init__(self) -> None:
        self.epoch = "one"
        self.batches: list[UsageBatch] = []

    async def send_usage(self, gateway: str, events_json: bytes) -> UsageReceipt:
        self.batches.append(UsageBatch(gateway, decoded(events_json)))
        return UsageReceipt(self.epoch, len(self.batches[-1].events), 0, 0)


def shipper(spool: Spool, taker: Taker) -> Shipper:
    return Shipper(spool, taker, "gw")  # type: ignore[arg-type]  # as much of the client as a shipper uses


async def test_commits_survive_and_are_durable(tmp_path: Path) -> None:
    spool = await opened(tmp_path)
    events = [event() for _ in range(300)]
    await asyncio.gather(*(spool.commit(one) for one in [*events, *events[:50]]))
    killed = shutil.copytree(tmp_path, tmp_path / "killed")
    spool.close()
    assert [row.key for row in spooled(tmp_path / "spool" / "gw.sqlite")] == [one.request_id.bytes for one in events]
    with sqlite3.connect(tmp_path / "spool" / "gw.sqlite") as db:
        assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert db.execute("SELECT count(*) FROM event").fetchone() == (300,), "a stop leaves nothing in the log"
    db.close()
    for folder in (tmp_path, killed):
        again = await opened(folder)
        assert again.state().unshipped == 300
        batch = await again.unshipped(1000)
        assert batch is not None
        assert decoded(batch.events_json) == tuple(events)
        again.close()


async def test_batches_are_bounded_and_in_order(tmp_path: Path) -> None:
    spool, taker = await opened(tmp_path, max_rows=10_000), Taker()
    events = [event() for _ in range(MAX_BATCH + 20)]
    for one in events:
        await spool.commit(one)
    await shipper(spool, taker).flush()
    assert [len(batch.events) for batch in taker.batches] == [MAX_BATCH, 20]
    assert [one for batch in taker.batches for one in batch.events] == events
    assert await spool.unshipped(10) is None
    spool.close()


async def test_another_epoch_gets_everything_again(tmp_path: Path) -> None:
    spool, taker = await opened(tmp_path), Taker()
    events = [event() for _ in range(5)]
    for one in events[:3]:
        await spool.commit(one)
    ship = shipper(spool, taker)
    await ship.flush()
    taker.epoch = "two"
    await ship.saw_epoch("two")
    for one in events[3:]:
        await spool.commit(one)
    await ship.flush()
    assert [one for batch in taker.batches for one in batch.events] == events[:3] + events
    await ship.saw_epoch("two")
    assert await ship.ship() == 0
    spool.close()


async def test_a_receipt_of_another_epoch_is_enough(tmp_path: Path) -> None:
    spool, taker = await opened(tmp_path), Taker()
    first, second = event(), event()
    ship = shipper(spool, taker)
    await spool.commit(first)
    await ship.flush()
    taker.epoch = "two"
    await spool.commit(second)
    await ship.flush()
    assert [one for batch in taker.batches for one in batch.events] == [first, second, first]
    spool.close()


async def test_acknowledged_events_are_kept_for_a_while(tmp_path: Path) -> None:
    spool, taker = await opened(tmp_path), Taker()
    await spool.commit(event())
    await shipper(spool, taker).flush()
    await spool.forget_before(time.time() - 60)
    assert await spool.ship_again_unless("two") == 1
    await shipper(spool, taker).flush()
    await spool.forget_before(time.time() + 60)
    assert await spool.ship_again_unless("three") == 0
    spool.close()


async def test_a_full_spool_refuses_before_it_loses(tmp_path: Path) -> None:
    spool = await opened(tmp_path, max_rows=3)
    await spool.commit(event())
    spool.reserve()
    spool.reserve()
    with pytest.raises(Unavailable):
        spool.reserve()
    spool.release()
    spool.reserve()
    spool.close()
    full = await opened(tmp_path, min_free_bytes=2**60)
    with pytest.raises(Unavailable):
        full.reserve()
    full.close()


def refuse(*_: object) -> None:
    raise OSError(errno.EIO, "the disk is gone")


async def test_a_failing_disk_delays_and_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = await opened(tmp_path)
    monkeypatch.setattr(commit_log, "write", refuse)
    commit = asyncio.create_task(spool.commit(event()))
    await until(lambda: spool.state().is_failing)
    with pytest.raises(Unavailable):
        spool.reserve()
    assert not commit.done()
    monkeypatch.undo()
    await asyncio.wait_for(commit, 5)
    spool.reserve()
    batch = await spool.unshipped(10)
    assert batch is not None
    assert batch.size == 1
    spool.close()


async def block_sqlite(spool: Spool) -> sqlite3.Connection:
    blocker = sqlite3.connect(spool.path, isolation_level=None)
    await spool._do(lambda db: db.execute("PRAGMA busy_timeout = 10").fetchall() and None)
    blocker.execute("BEGIN IMMEDIATE")
    return blocker


async def test_answers_do_not_wait_for_sqlite_and_it_gets_everything_once_it_works(tmp_path: Path) -> None:
    spool, events = await opened(tmp_path), [event() for _ in range(40)]
    blocker = await block_sqlite(spool)
    for one in events[:20]:
        await asyncio.wait_for(spool.commit(one), 5)
    with pytest.raises(sqlite3.OperationalError):
        await spool.unshipped(100)
    for one in events[20:]:
        await asyncio.wait_for(spool.commit(one), 5)
    killed = shutil.copytree(tmp_path, tmp_path / "killed", ignore=shutil.ignore_patterns("*-shm"))
    blocker.execute("ROLLBACK")
    blocker.close()
    for each in (spool, await opened(killed)):
        batch = await each.unshipped(100)
        assert batch is not None
        assert decoded(batch.events_json) == tuple(events)
        assert await each.find([events[-1].request_id]) == {events[-1].request_id: events[-1]}
        each.close()


async def test_what_sqlite_does_not_take_for_long_refuses_new_work_and_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commit_log, "SEGMENT_BYTES", 4096)
    spool, events = await opened(tmp_path), [event() for _ in range(40)]
    blocker = await block_sqlite(spool)
    commits = [asyncio.create_task(spool.commit(one)) for one in events[:1]]
    await asyncio.wait_for(commits[0], 5)
    for one in events[1:]:
        # One group each, so that the log fills.
        commits.append(asyncio.create_task(spool.commit(one)))
        await asyncio.wait(commits[-1:], timeout=0.05)
        if spool.state().is_failing:
            break
    await until(lambda: spool.state().is_failing)
    with pytest.raises(Unavailable):
        spool.reserve()
    assert not commits[-1].done()
    blocker.execute("ROLLBACK")
    blocker.close()
    await asyncio.wait_for(asyncio.gather(*commits), 5)
    spool.reserve()
    batch = await spool.unshipped(100)
    assert batch is not None
    assert decoded(batch.events_json) == tuple(events[: len(commits)])
    spool.close()


async def test_a_cancelled_look_does_not_end_the_thread(tmp_path: Path) -> None:
    spool = await opened(tmp_path)
    for _ in range(20):
        looking = asyncio.create_task(spool.unshipped(1))
        await asyncio.sleep(0)
        looking.cancel()
    await asyncio.wait_for(spool.commit(event()), 5)
    spool.close()


async def test_no_room_is_503_before_an_engine_works(world: World) -> None:
    async with world.gateway(spool_min_free_bytes=2**60) as gateway:
        answer = await gateway.http.post(PATH, json=chat_body(), headers=auth(world.key))
        check_error(answer, 503, "spool_full")
        assert gateway.gateway.live == set()
    assert world.engine.generations() == []


async def test_a_restored_database_gets_its_events_again(world: World, gateway: RunningGateway) -> None:
    await gateway.http.post(PATH, json=chat_body(), headers=auth(world.key))
    [lost] = await world.events(1)
    world.control.events.clear()
    world.control.grants.clear()
    world.control.epoch = "epoch-2"
    world.control.changed()
    await until(lambda: lost.request_id in world.control.events)
    answer = await gateway.http.post(PATH, json=chat_body(), headers=auth(world.key))
    assert answer.status_code == 200
    await until(lambda: len(world.control.events) == 2)
    assert msgspec.structs.asdict(world.control.events[lost.request_id]) == msgspec.structs.asdict(lost)


async def test_who_stops_waiting_changes_nothing_for_the_event(tmp_path: Path) -> None:
    spool = await opened(tmp_path)
    told: list[bool] = []
    left = event()
    spool.put(left, lambda: told.append(True)).cancel()
    await spool.commit(event())
    assert told == [True]
    assert await spool.find([left.request_id]) == {left.request_id: left}
    spool.close()


async def test_what_goes_wrong_after_one_commit_keeps_no_other_answer_waiting(tmp_path: Path) -> None:
    spool = await opened(tmp_path)

    def fail() -> None:
        raise ValueError

    # The first is on its way alone; these two are written together.
    settled = [spool.put(event()), spool.put(event(), fail), spool.put(event())]
    async with asyncio.timeout(5):
        await asyncio.gather(*settled)
        await spool.commit(event())
    spool.close()


async def test_a_batch_that_is_under_way_at_a_stop_is_not_sent_twice(tmp_path: Path) -> None:
    received, answered = asyncio.Event(), asyncio.Event()

    class Slow(Taker):
        async def send_usage(self, gateway: str, events_json: bytes) -> UsageReceipt:
            receipt = await super().send_usage(gateway, events_json)
            received.set()
            await answered.wait()
            return receipt

    spool, taker = await opened(tmp_path), Slow()
    await spool.commit(event())
    stopped = shipper(spool, taker)
    running = asyncio.create_task(stopped.run())
    await received.wait()
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running
    flushed = asyncio.create_task(stopped.flush())
    await asyncio.sleep(0)
    answered.set()
    await flushed
    assert len(taker.batches) == 1
    spool.close()
