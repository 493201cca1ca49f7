"""Whoever closes batches or writes files is killed at any moment: nothing is lost, nothing comes twice."""

import asyncio
import random
import sys
from pathlib import Path
from typing import Any

import pytest

from chappe_billing.audit.service import verify_ledger
from chappe_billing.feed import folder as folder_module
from chappe_billing.feed.folder import Folder, deliver
from chappe_kernel.rating import Counts
from tests.billing.conftest import Customer, MakeCustomer
from tests.conftest import DatabaseUrls
from tests.feed.bss import FileConsumer, Missing
from tests.feed.conftest import Feed

WORKER = """
import asyncio, sys
from pathlib import Path
from chappe_billing.feed.folder import Folder, deliver
from chappe_billing.feed.service import close_batch
from chappe_store.session import Database

async def main():
    database = Database(sys.argv[1])
    while True:
        async with database.operator() as session:
            closed = await close_batch(session, max_records=7)
        await deliver(database, Folder(Path(sys.argv[2])))
        print("one", flush=True)

asyncio.run(main())
"""


async def test_a_killed_worker_leaves_the_feed_equal_to_the_ledger(
    feed: Feed, make_customer: MakeCustomer, database_urls: DatabaseUrls
) -> None:
    dice = random.Random(6)  # noqa: S311 -- a test's dice
    customers = [await make_customer() for _ in range(3)]
    consumer = feed.consumer()
    using = asyncio.create_task(_use_for_ever(feed, customers))
    for _ in range(6):
        worker = await asyncio.create_subprocess_exec(
            sys.executable, "-c", WORKER, database_urls.app, str(feed.path), stdout=asyncio.subprocess.PIPE
        )
        assert worker.stdout is not None
        await worker.stdout.readline()
        await asyncio.sleep(dice.uniform(0, 0.05))
        worker.kill()
        await worker.wait()
        # Whatever it was doing: what is there can be taken.
        consumer.run()
    using.cancel()
    await asyncio.gather(using, return_exceptions=True)
    await feed.publish()
    consumer.run()
    assert consumer.bss.sequence >= 6
    assert consumer.bss.sums() == await feed.owed()
    assert len([record for record in consumer.bss.records if record["kind"] == "usage"]) == await feed.market.scalar(
        "SELECT count(*) FROM usage_event"
    )
    async with feed.market.database.audit() as session:
        assert await verify_ledger(session) is None


async def _use_for_ever(feed: Feed, customers: list[Customer]) -> None:
    while True:
        for customer in customers:
            await feed.use(customer, Counts(100, 20, 30), Counts(1, 0, 1))


class Killed(BaseException):
    """As SIGKILL: nobody handles it."""


async def test_a_consumer_can_take_what_is_there_after_a_crash_at_any_step_of_writing(
    feed: Feed, customer: Customer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(2):
        await feed.use(customer, Counts(100, 20, 30))
    await feed.publish(max_records=1)
    wanted = _contents(feed.path)
    crashes = 0
    while await _crash_at(feed, tmp_path / str(crashes), crashes, monkeypatch):
        consumer = FileConsumer(tmp_path / str(crashes))
        try:
            consumer.run()
        except Missing:
            # Nothing was complete yet.
            assert not list((tmp_path / str(crashes)).glob("*latest.json"))
        await deliver(feed.market.database, Folder(tmp_path / str(crashes)))
        consumer.run()
        assert consumer.bss.sequence == 3
        assert _contents(tmp_path / str(crashes)) == wanted
        crashes += 1
    # Three batches of three files: each is flushed, renamed, and but for the content its name is flushed.
    assert crashes == 3 * 3 * 2


async def _crash_at(feed: Feed, path: Path, step: int, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Write everything into a new folder and die before this step; whether there was such a step."""
    steps = 0
    replace, flush = Path.replace, folder_module._flush

    def count() -> None:
        nonlocal steps
        if steps == step:
            raise Killed
        steps += 1

    def replacing(self: Path, target: Any) -> Path:
        count()
        return replace(self, target)

    def flushing(descriptor: int) -> None:
        count()
        flush(descriptor)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", replacing)
        patched.setattr(folder_module, "_flush", flushing)
        try:
            await deliver(feed.market.database, Folder(path))
        except Killed:
            return True
    return False


def _contents(path: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in path.iterdir() if not file.name.startswith(".")}
