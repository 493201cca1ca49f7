"""The feed says what the ledger says, to the nano, and in the order in which it was committed."""

import asyncio

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from chappe_billing.audit.service import verify_ledger
from chappe_billing.feed.service import FeedNotIntact, close_batch, get_batch, manifest_of, read_content
from chappe_billing.usage.service import ingest
from chappe_kernel.ids import REQUEST, encode_id
from chappe_kernel.rating import Counts, Outcome
from chappe_kernel.wire.control import UsageBatch
from chappe_store.session import Database
from tests.billing.conftest import Customer, MakeCustomer
from tests.conftest import DatabaseUrls
from tests.feed.conftest import Feed


async def test_everything_that_moves_a_tenants_money_is_in_the_feed_once(
    feed: Feed, customer: Customer, make_customer: MakeCustomer
) -> None:
    other = await make_customer()
    await feed.use(customer, Counts(100, 20, 30), Counts(50, 0, 7))
    await feed.use(other, Counts(10, 0, 1))
    await feed.correct(customer)
    await feed.publish()
    consumer = feed.consumer()
    consumer.run()
    kinds = sorted(record["kind"] for record in consumer.bss.records)
    assert kinds == ["usage"] * 4 + ["usage_correction"] + ["welcome_credit"] * 2
    assert consumer.bss.sums() == await feed.owed()
    assert await feed.close() == []


async def test_a_correction_names_the_request_that_it_corrects(feed: Feed, customer: Customer) -> None:
    await feed.correct(customer)
    await feed.publish()
    consumer = feed.consumer()
    consumer.run()
    (correction,) = [record for record in consumer.bss.records if record["kind"] == "usage_correction"]
    (usage,) = [record for record in consumer.bss.records if record["kind"] == "usage"]
    assert correction["corrects"] == usage["id"]
    assert correction["amount"] == "-0.000004200"


async def test_usage_that_was_free_of_charge_is_in_the_feed_too(feed: Feed, customer: Customer) -> None:
    await feed.use(customer, Counts(100, 0, 0), outcome=Outcome.FAILED)
    await feed.publish()
    consumer = feed.consumer()
    consumer.run()
    (record,) = [record for record in consumer.bss.records if record["kind"] == "usage"]
    assert (record["amount"], record["transaction_id"], record["outcome"]) == ("0.000000000", None, "failed")


async def test_written_off_usage_charges_the_tenant_what_it_paid(feed: Feed, make_customer: MakeCustomer) -> None:
    poor = await make_customer(1_000)
    event = feed.market.event(poor, poor.key_id)
    await feed.market.ingest(event)
    await feed.publish()
    consumer = feed.consumer()
    consumer.run()
    (record,) = [record for record in consumer.bss.records if record["kind"] == "usage"]
    assert (record["amount"], record["written_off"]) == ("0.000001000", "0.000010407")
    assert consumer.bss.sums() == await feed.owed()


async def test_batches_are_cut_between_transactions_and_numbered_without_gaps(feed: Feed, customer: Customer) -> None:
    for _ in range(5):
        await feed.use(customer, *[Counts(10, 0, 1)] * 3)
    closed = await feed.publish(max_records=5)
    # The welcome credit, then transactions of three requests each: two make up five records or more.
    assert [manifest.records for manifest in closed] == [7, 6, 3]
    assert [manifest.sequence for manifest in closed] == [1, 2, 3]
    assert feed.consumer().run() == 3


async def test_what_is_committed_later_comes_later_whatever_its_id(feed: Feed, customer: Customer) -> None:
    market = feed.market
    grant = await market.ask(customer, 1_000_000)
    early, late = (market.event(customer, grant.grant_id) for _ in range(2))
    async with market.database.ingest() as session:
        await ingest(session, region="fr-par", batch=UsageBatch("gw-1", (early,)))
        # Its transaction has an id, and is not committed: what is committed does not wait for it.
        (first,) = await feed.close()
    assert [total.kind for total in first.totals] == ["welcome_credit"]
    await market.ingest(late)
    await feed.publish()
    consumer = feed.consumer()
    consumer.run()
    ids = [record["id"] for record in consumer.bss.records if record["kind"] == "usage"]
    assert ids == [encode_id(REQUEST, early.request_id), encode_id(REQUEST, late.request_id)]


async def test_two_who_close_at_once_take_turns(feed: Feed, customer: Customer) -> None:
    for _ in range(8):
        await feed.use(customer, Counts(10, 0, 1))
    closed = await asyncio.gather(*(feed.close(max_records=1) for _ in range(4)))
    numbers = sorted(manifest.sequence for each in closed for manifest in each)
    assert numbers == list(range(1, 10))
    await feed.write()
    consumer = feed.consumer()
    assert consumer.run() == 9
    assert consumer.bss.sums() == await feed.owed()


async def test_a_batch_reads_the_same_for_ever(feed: Feed, customer: Customer) -> None:
    await feed.use(customer, Counts(100, 20, 30), Counts(5, 0, 5))
    (manifest,) = await feed.publish()
    await feed.use(customer, Counts(1, 0, 1))
    await feed.close()
    async with feed.market.database.audit() as session:
        batch = await get_batch(session, 1)
        assert manifest_of(batch) == manifest
        again = b"".join([piece async for piece in read_content(session, batch)])
    assert again == (feed.path / manifest.file).read_bytes()


async def test_closed_batches_cannot_be_changed(feed: Feed, customer: Customer, database_urls: DatabaseUrls) -> None:
    await feed.use(customer, Counts(1, 0, 1))
    await feed.close()
    owner = Database(database_urls.superuser)
    for table in ("rated_usage_batch", "rated_usage_entry"):
        with pytest.raises(DBAPIError, match="append-only"):
            async with owner.operator() as session:
                await session.execute(text("RESET ROLE"))
                await session.execute(text(f"UPDATE {table} SET records = records + 1"))
    await owner.close()


async def test_a_feed_that_contradicts_the_ledger_stops(
    feed: Feed, customer: Customer, database_urls: DatabaseUrls
) -> None:
    await feed.use(customer, Counts(100, 20, 30))
    superuser = Database(database_urls.superuser)
    async with superuser.operator() as session:
        await session.execute(text("RESET ROLE"))
        await session.execute(text("SET LOCAL session_replication_role = replica"))
        await session.execute(text("UPDATE usage_event SET amount_nano = amount_nano + 1"))
    await superuser.close()
    with pytest.raises(FeedNotIntact):
        async with feed.market.database.operator() as session:
            await close_batch(session)
    assert await feed.market.scalar("SELECT count(*) FROM rated_usage_batch") == 0


async def test_the_ledgers_verification_covers_the_feed(
    feed: Feed, customer: Customer, database_urls: DatabaseUrls
) -> None:
    await feed.use(customer, Counts(100, 20, 30))
    await feed.use(customer, Counts(10, 0, 0), outcome=Outcome.FAILED)
    await feed.close()
    await feed.use(customer, Counts(100, 20, 30))
    async with feed.market.database.audit() as session:
        assert await verify_ledger(session) is None
    superuser = Database(database_urls.superuser)
    async with superuser.operator() as session:
        await session.execute(text("RESET ROLE"))
        await session.execute(text("DELETE FROM rated_usage_waiting"))
    await superuser.close()
    async with feed.market.database.audit() as session:
        found = await verify_ledger(session)
    assert found is not None
    assert "feed" in found.rule
