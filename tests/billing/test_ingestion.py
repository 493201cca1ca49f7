"""Usage becomes money exactly once, in whatever batches it comes."""

import asyncio
import random

import pytest
from sqlalchemy import text

from chappe_billing.audit.service import verify_ledger
from chappe_billing.usage.queries import list_events, summarise
from chappe_kernel.errors import Unavailable
from chappe_kernel.ids import new_id
from chappe_kernel.rating import Counts, Outcome
from tests.billing.conftest import NOW, Customer, MakeCustomer, Market
from tests.conftest import DatabaseUrls, PostgresServer


async def assert_intact(market: Market) -> None:
    async with market.database.audit() as session:
        assert await verify_ledger(session) is None


async def test_balance_falls_by_the_sum_of_the_events_to_the_nano(market: Market, customer: Customer) -> None:
    before = await market.balance(customer)
    grant = await market.ask(customer, 1_000_000)
    events = [market.event(customer, grant.grant_id, counts=Counts(n, n // 2, n // 3)) for n in range(40)]
    receipt = await market.ingest(*events)
    assert (receipt.posted, receipt.repeated, receipt.quarantined) == (40, 0, 0)
    after = await market.balance(customer)
    total = sum(event.amount_nano for event in events)
    assert before.available_nano - after.available_nano == total > 0
    assert after.pending_nano == 1_000_000 - total
    await assert_intact(market)


async def test_the_same_batch_twice_is_posted_once(market: Market, customer: Customer) -> None:
    grant = await market.ask(customer, 1_000_000)
    events = [market.event(customer, grant.grant_id) for _ in range(10)]
    first = await market.ingest(*events)
    balance = await market.balance(customer)
    second = await market.ingest(*events)
    assert (first.posted, second.posted, second.repeated) == (10, 0, 10)
    assert first.epoch == second.epoch
    assert await market.balance(customer) == balance
    await assert_intact(market)


async def test_an_event_twice_in_one_batch_is_posted_once(market: Market, customer: Customer) -> None:
    grant = await market.ask(customer, 1_000_000)
    event = market.event(customer, grant.grant_id)
    receipt = await market.ingest(event, event, event)
    assert (receipt.posted, receipt.repeated) == (1, 2)
    await assert_intact(market)


async def test_overlapping_batches_at_once_are_posted_once(market: Market, make_customer: MakeCustomer) -> None:
    customers = [await make_customer() for _ in range(4)]
    grants = [await market.ask(customer, 1_000_000) for customer in customers]
    events = [
        market.event(customers[number % 4], grants[number % 4].grant_id, counts=Counts(number, 0, 1))
        for number in range(80)
    ]
    dice = random.Random(3)  # noqa: S311 -- a test's dice, the same each time
    batches = [dice.sample(events, 50) for _ in range(9)] + [events]
    receipts = await asyncio.gather(*(market.ingest(*batch) for batch in batches))
    assert sum(receipt.posted for receipt in receipts) == 80
    assert sum(receipt.repeated for receipt in receipts) == 9 * 50
    left = sum([(await market.balance(customer)).available_nano for customer in customers])
    assert 4 * 10_000_000_000 - left == sum(event.amount_nano for event in events)
    await assert_intact(market)


async def test_an_empty_batch_answers_with_the_epoch(market: Market) -> None:
    receipt = await market.ingest()
    assert receipt.epoch == str(await market.scalar("SELECT epoch FROM instance"))
    assert (receipt.posted, receipt.repeated, receipt.quarantined) == (0, 0, 0)


async def test_free_events_are_kept_and_move_no_money(market: Market, customer: Customer) -> None:
    grant = await market.ask(customer, 1_000_000)
    receipt = await market.ingest(
        market.event(customer, grant.grant_id, counts=Counts(0, 0, 0)),
        market.event(customer, grant.grant_id, counts=Counts(50, 0, 0), outcome=Outcome.FAILED),
    )
    assert receipt.posted == 2
    assert await market.scalar("SELECT count(*) FROM ledger_transaction WHERE kind = 'usage'") == 0
    assert (await market.balance(customer)).available_nano == 10_000_000_000
    await assert_intact(market)


async def test_a_batch_and_tenant_make_one_transaction_and_one_message(
    market: Market, make_customer: MakeCustomer
) -> None:
    customers = [await make_customer(), await make_customer()]
    grants = [await market.ask(customer, 1_000_000) for customer in customers]
    await market.ingest(*(market.event(customers[n % 2], grants[n % 2].grant_id) for n in range(10)))
    assert await market.scalar("SELECT count(*) FROM ledger_transaction WHERE kind = 'usage'") == 2
    statement = "SELECT count(*) FROM outbox WHERE topic = 'usage.posted' AND payload ->> 'tenant_id' = :tenant"
    for customer in customers:
        assert await market.scalar(statement, tenant=str(customer.tenant_id)) == 1


async def test_a_batch_that_fails_posts_nothing(market: Market, customer: Customer) -> None:
    grant = await market.ask(customer, 1_000_000)
    event = market.event(customer, grant.grant_id)
    async with market.database.operator() as session:
        await session.execute(text("SELECT tenant_id FROM budget FOR UPDATE"))
        task = asyncio.create_task(market.ingest(event))
        await asyncio.sleep(0.2)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert await market.scalar("SELECT count(*) FROM usage_event") == 0
    assert (await market.ingest(event)).posted == 1


async def test_events_are_listed_newest_first_with_a_stable_cursor(market: Market, customer: Customer) -> None:
    grant = await market.ask(customer, 1_000_000)
    events = [market.event(customer, grant.grant_id, ttft_ms=n) for n in range(7)]
    await market.ingest(*events[3:], *events[:3])
    wanted = sorted((event.request_id for event in events), reverse=True)
    async with market.database.tenant(customer.scope) as session:
        page = await list_events(session, customer.scope, limit=4)
        rest = await list_events(session, customer.scope, limit=4, before=page[-1].request_id)  # type: ignore[arg-type]
    assert [event.request_id for event in (*page, *rest)] == wanted
    first = page[0]
    assert (first.model, first.region, first.currency, first.outcome) == ("tiny-chat", "fr-par", "EUR", "completed")
    assert (first.counts, first.amount_nano) == (events[0].counts, events[0].amount_nano)
    assert (first.key_id, first.started_at, first.finished_at) == (customer.key_id, NOW, NOW)
    assert first.price_version_id == market.prices["fr-par"]


async def test_the_summary_is_the_sum_of_the_events(market: Market, customer: Customer) -> None:
    grant = await market.ask(customer, 1_000_000)
    german = await market.ask(customer, 1_000_000, region="de-fra")
    here = [market.event(customer, grant.grant_id) for _ in range(3)]
    there = market.event(customer, german.grant_id, price_version=market.prices["de-fra"])
    await market.ingest(*here)
    await market.ingest(there, region="de-fra")
    async with market.database.tenant(customer.scope) as session:
        now = (await session.execute(text("SELECT now()"))).scalar_one()
        sums = await summarise(session, customer.scope, since=now, until=now.replace(year=2100, day=1))
        assert (
            await summarise(session, customer.scope, since=NOW.replace(year=2000), until=NOW.replace(year=2001)) == []
        )
    assert [(row.region, row.requests, row.amount_nano) for row in sums] == [
        ("de-fra", 1, there.amount_nano),
        ("fr-par", 3, sum(event.amount_nano for event in here)),
    ]
    assert sums[1].prompt_tokens == sum(event.counts.prompt_tokens for event in here)


async def test_a_tenant_sees_what_it_paid_and_not_what_was_written_off(
    market: Market, make_customer: MakeCustomer
) -> None:
    customer = await make_customer(1_000)
    event = market.event(customer, new_id())
    assert event.amount_nano > 1_000
    await market.ingest(event)
    async with market.database.tenant(customer.scope) as session:
        (listed,) = await list_events(session, customer.scope, limit=10)
    assert listed.amount_nano == 1_000
    balance = await market.balance(customer)
    assert (balance.available_nano, balance.pending_nano) == (0, 0)
    assert await market.scalar("SELECT written_off_nano FROM usage_event") == event.amount_nano - 1_000
    await assert_intact(market)


async def test_usage_of_an_expired_grant_takes_free_funds_and_no_lent_money(
    market: Market, make_customer: MakeCustomer, postgres: PostgresServer, database_urls: DatabaseUrls
) -> None:
    customer = await make_customer(20_000)
    grant = await market.ask(customer, 12_000)
    event = market.event(customer, grant.grant_id)
    connection = await postgres.superuser(database_urls.name)
    await connection.execute("UPDATE budget_grant SET release_at = now() - interval '1 second'")
    await connection.close()
    other = await market.ask(customer, 15_000)
    await market.ingest(event)
    # 5,000 were free; the 15,000 that another gateway holds are untouched, and the rest is the operator's loss.
    balance = await market.balance(customer)
    assert (other.amount_nano, balance.available_nano, balance.pending_nano) == (15_000, 15_000, 15_000)
    assert await market.scalar("SELECT written_off_nano FROM usage_event") == event.amount_nano - 5_000
    await assert_intact(market)


async def test_after_a_restore_unknown_grants_pay_from_free_funds(market: Market, customer: Customer) -> None:
    events = [market.event(customer, new_id()) for _ in range(4)]
    assert (await market.ingest(*events)).posted == 4
    spent = sum(event.amount_nano for event in events)
    assert (await market.balance(customer)).available_nano == 10_000_000_000 - spent
    await assert_intact(market)


async def test_usage_beyond_its_grant_takes_only_free_funds(market: Market, make_customer: MakeCustomer) -> None:
    customer = await make_customer(30_000)
    small = await market.ask(customer, 5_000)
    await market.ask(customer, 20_000)
    event = market.event(customer, small.grant_id)
    await market.ingest(event)
    balance = await market.balance(customer)
    assert balance.pending_nano == 20_000
    assert balance.available_nano == max(30_000 - event.amount_nano, 20_000)
    with pytest.raises(Unavailable):
        await market.ask(customer, 20_000, 20_000)
    await assert_intact(market)
