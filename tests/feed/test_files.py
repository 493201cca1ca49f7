"""A consumer of the files notices whatever happens to one; whoever asks for one again gets the same."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import text

from chappe_billing.feed.folder import Busy, Folder, deliver
from chappe_billing.feed.service import FeedNotIntact, request_again
from chappe_kernel.errors import Invalid, NotFound
from chappe_kernel.rating import Counts
from chappe_store.queries import renew_epoch
from chappe_store.session import Database
from tests.billing.conftest import Customer
from tests.conftest import DatabaseUrls
from tests.feed.bss import Altered, Missing, Refused, Repeated
from tests.feed.conftest import Feed


@pytest.fixture
async def four(feed: Feed, customer: Customer) -> list[Path]:
    """Four batches' contents as files."""
    for _ in range(3):
        await feed.use(customer, Counts(100, 20, 30), Counts(1, 0, 1))
    closed = await feed.publish(max_records=1)
    return [feed.path / manifest.file for manifest in closed]


def manifest(content: Path) -> Path:
    return content.with_suffix(".manifest.json")


def remove(files: list[Path]) -> None:
    files[1].unlink()
    manifest(files[1]).unlink()


def remove_content(files: list[Path]) -> None:
    files[1].unlink()


def remove_last(files: list[Path]) -> None:
    files[3].unlink()
    manifest(files[3]).unlink()


def alter(files: list[Path]) -> None:
    files[2].write_bytes(files[2].read_bytes().replace(b'"completion_tokens":30', b'"completion_tokens":31'))


def alter_with_its_digest(files: list[Path]) -> None:
    alter(files)
    said = json.loads(manifest(files[2]).read_bytes())
    said["sha256"] = hashlib.sha256(files[2].read_bytes()).hexdigest()
    manifest(files[2]).write_text(json.dumps(said))


def truncate(files: list[Path]) -> None:
    files[2].write_bytes(files[2].read_bytes().splitlines(keepends=True)[0])


def swap(files: list[Path]) -> None:
    """Contents and manifests of two batches change places."""
    for one, other in ((files[1], files[2]), (manifest(files[1]), manifest(files[2]))):
        first, second = one.read_bytes(), other.read_bytes()
        one.write_bytes(second)
        other.write_bytes(first)


def repeat(files: list[Path]) -> None:
    """The second batch comes again in place of the third."""
    files[2].write_bytes(files[1].read_bytes())
    said = json.loads(manifest(files[1]).read_bytes())
    manifest(files[2]).write_text(json.dumps(said | {"sequence": 3, "file": files[2].name}))


def forget_the_newest(files: list[Path]) -> None:
    (files[0].parent / "rated-usage-latest.json").unlink()


@pytest.mark.parametrize(
    ("damage", "noticed", "booked"),
    [
        (remove, Missing, 1),
        (remove_content, Missing, 1),
        (remove_last, Missing, 3),
        (alter, Altered, 2),
        (alter_with_its_digest, Altered, 2),
        (truncate, Altered, 2),
        (swap, Altered, 1),
        (repeat, Altered, 2),
        (forget_the_newest, Missing, 0),
    ],
)
def test_whatever_happens_to_a_file_is_noticed(
    feed: Feed, four: list[Path], damage: Callable[[list[Path]], None], noticed: type[Refused], booked: int
) -> None:
    damage(four)
    consumer = feed.consumer()
    with pytest.raises(noticed):
        consumer.run()
    assert consumer.bss.sequence == booked


def test_a_batch_is_booked_once(feed: Feed, four: list[Path]) -> None:
    consumer = feed.consumer()
    assert consumer.run() == 4
    assert consumer.run() == 0
    with pytest.raises(Repeated):
        consumer.bss.take(json.loads(manifest(four[3]).read_bytes()), four[3].read_bytes())


async def test_a_consumer_may_take_files_away(feed: Feed, four: list[Path], customer: Customer) -> None:
    consumer = feed.consumer()
    consumer.run()
    for file in four:
        file.unlink()
        manifest(file).unlink()
    await feed.use(customer, Counts(3, 0, 3))
    await feed.publish()
    assert consumer.run() == 1
    assert consumer.bss.sums() == await feed.owed()
    assert len(list(feed.path.glob("*.jsonl"))) == 1


async def test_a_batch_that_is_asked_for_again_is_written_again_the_same(feed: Feed, four: list[Path]) -> None:
    content, said = four[1].read_bytes(), manifest(four[1]).read_bytes()
    remove(four)
    consumer = feed.consumer()
    with pytest.raises(Missing):
        consumer.run()
    async with feed.market.database.operator() as session:
        await request_again(session, 2, reason="batch 2 never arrived")
    assert await feed.write() == 1
    assert (four[1].read_bytes(), manifest(four[1]).read_bytes()) == (content, said)
    assert consumer.run() == 3
    assert await feed.write() == 0


async def test_a_request_for_a_batch_that_is_not_there_is_refused(feed: Feed, four: list[Path]) -> None:
    async with feed.market.database.operator() as session:
        with pytest.raises(NotFound):
            await request_again(session, len(four) + 1, reason="?")
        with pytest.raises(Invalid):
            await request_again(session, 1, reason="  ")


async def test_a_new_folder_gets_everything(feed: Feed, four: list[Path], tmp_path: Path) -> None:
    other = tmp_path / "other"
    assert await deliver(feed.market.database, Folder(other)) == len(four)
    assert {path.name: path.read_bytes() for path in other.iterdir() if path.is_file()} == {
        path.name: path.read_bytes() for path in feed.path.iterdir() if path.is_file()
    }


async def test_a_folder_has_one_writer(feed: Feed, four: list[Path]) -> None:
    assert four
    with Folder(feed.path).locked(), pytest.raises(Busy):
        await feed.write()


async def test_a_folder_of_another_feed_is_left_alone(feed: Feed, four: list[Path], customer: Customer) -> None:
    assert four
    latest = feed.path / "rated-usage-latest.json"
    latest.write_text(json.dumps(json.loads(latest.read_bytes()) | {"sequence": 7}))
    await feed.use(customer, Counts(3, 0, 3))
    await feed.close()
    with pytest.raises(FeedNotIntact):
        await feed.write()
    latest.write_text("{")
    with pytest.raises(FeedNotIntact):
        await feed.write()


async def test_after_a_restore_batches_of_the_new_epoch_take_the_place_of_the_lost_ones(
    feed: Feed, four: list[Path], customer: Customer, database_urls: DatabaseUrls
) -> None:
    assert four
    consumer = feed.consumer()
    consumer.run()
    await _lose_from(3, database_urls)
    # What was lost comes again from the spools, in another batch; and life goes on.
    await feed.use(customer, Counts(7, 0, 7))
    closed = await feed.publish()
    assert [manifest.sequence for manifest in closed] == [3]
    assert consumer.run() == 1
    assert [batch.sequence for batch in consumer.bss.voided] == [3, 4]
    assert consumer.bss.sums() == await feed.owed()
    # Another consumer, which never saw the old epoch, comes to the same.
    fresh = feed.consumer()
    assert fresh.run() == 3
    assert fresh.bss.sums() == consumer.bss.sums()


async def _lose_from(sequence: int, database_urls: DatabaseUrls) -> None:
    """As a backup from before these batches would have it."""
    superuser = Database(database_urls.superuser)
    async with superuser.operator() as session:
        await session.execute(text("RESET ROLE"))
        await session.execute(text("SET LOCAL session_replication_role = replica"))
        lost = f"SELECT transaction_id FROM rated_usage_entry WHERE sequence >= {sequence}"
        for statement in (
            f"DELETE FROM usage_event WHERE transaction_id IN ({lost})",
            f"DELETE FROM ledger_entry WHERE transaction_id IN ({lost})",
            f"DELETE FROM ledger_transaction WHERE id IN ({lost})",
            f"DELETE FROM rated_usage_entry WHERE sequence >= {sequence}",
            f"DELETE FROM rated_usage_batch WHERE sequence >= {sequence}",
        ):
            await session.execute(text(statement))
        await renew_epoch(session)
    await superuser.close()
