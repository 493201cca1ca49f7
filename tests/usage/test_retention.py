"""A month is dropped when nobody needs its events; its sums stay verified, and nothing can bring it back."""

import asyncio
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from sqlalchemy import text

from chappe_billing.audit.service import verify_ledger
from chappe_billing.retention.service import Retained, retain
from chappe_kernel.errors import Invalid
from chappe_kernel.ids import new_id
from chappe_kernel.rating import Counts
from chappe_kernel.wire.control import UsageEvent
from tests.billing.conftest import Customer, Market
from tests.conftest import DatabaseUrls, PostgresServer
from tests.usage.test_repeats import id_at

PARTITION = """
    SET timezone = 'UTC';
    DO $$ DECLARE starts timestamptz := date_trunc('month', now()) - interval '3 months';
    BEGIN
        EXECUTE format('CREATE TABLE %I PARTITION OF usage_event FOR VALUES FROM (%L) TO (%L)',
                       to_char(starts, '"usage_event_"YYYY_MM'), first_request_id(starts),
                       first_request_id(starts + interval '1 month'));
        PERFORM prepare_usage_partition(to_char(starts, '"usage_event_"YYYY_MM'));
        EXECUTE format('ALTER TABLE %I OWNER TO chappe_owner', to_char(starts, '"usage_event_"YYYY_MM'));
    END $$
"""
# As if all that is there had been posted three months ago. What waits for the feed stays new.
AGE = """
    SET session_replication_role = replica;
    UPDATE usage_event SET posted_at = posted_at - interval '80 days';
    UPDATE ledger_transaction SET created_at = created_at - interval '80 days' WHERE kind = 'usage';
    UPDATE usage_hour SET hour = hour - interval '80 days';
    UPDATE usage_day SET day = day - 80;
    UPDATE usage_price_day SET day = day - 80;
    UPDATE usage_minute SET minute = minute - interval '80 days';
    UPDATE usage_month SET month = d.month FROM (SELECT date_trunc('month', hour, 'UTC') AS month FROM usage_hour) d;
    UPDATE usage_spending SET month = d.month FROM (SELECT date_trunc('month', hour, 'UTC') AS month FROM usage_hour) d;
"""


def three_months_ago() -> datetime:
    start = datetime.now(UTC).replace(day=1)
    for _ in range(3):
        start = (start - timedelta(days=1)).replace(day=1)
    return start.replace(day=20)


async def sql(postgres: PostgresServer, urls: DatabaseUrls, statement: str) -> None:
    connection = await postgres.superuser(urls.name)
    await connection.execute(statement)
    await connection.close()


@pytest.fixture
async def old(
    market: Market, customer: Customer, postgres: PostgresServer, database_urls: DatabaseUrls
) -> list[UsageEvent]:
    """Six events of three months ago, posted then."""
    await sql(postgres, database_urls, PARTITION)
    grant = await market.ask(customer, 40_000)
    events = [
        market.event(customer, grant.grant_id, request_id=id_at(three_months_ago()), counts=Counts(n, 0, n))
        for n in range(1, 7)
    ]
    assert (await market.ingest(*events)).posted == 6
    await sql(postgres, database_urls, AGE)
    return events


async def drop(market: Market, months: int = 1) -> Retained:
    return await retain(market.database, keep_months=months, keep_minute_days=35)


async def assert_intact(market: Market) -> None:
    async with market.database.audit() as session:
        assert await verify_ledger(session) is None


async def test_a_dropped_month_leaves_its_sums_and_a_ledger_that_verifies(
    market: Market, customer: Customer, old: list[UsageEvent]
) -> None:
    await market.ingest(market.event(customer, new_id()))
    before = await market.balance(customer)
    await assert_intact(market)
    dropped = await drop(market)
    assert (dropped.hindrance, len(dropped.months), dropped.minutes) == (None, 1, 1)
    assert await market.scalar("SELECT count(*) FROM usage_event") == 1
    assert await market.scalar("SELECT amount_nano FROM usage_sealed_month") == sum(one.amount_nano for one in old)
    assert await market.scalar("SELECT sum(requests) FROM usage_hour") == 7
    assert await market.balance(customer) == before
    await assert_intact(market)
    assert (await drop(market)).months == ()


async def test_nothing_brings_a_dropped_month_back(market: Market, customer: Customer, old: list[UsageEvent]) -> None:
    await drop(market)
    late = market.event(customer, new_id(), request_id=id_at(three_months_ago() - timedelta(days=300)))
    receipt = await market.ingest(*old, late, market.event(customer, new_id()))
    assert (receipt.posted, receipt.quarantined) == (1, 7)
    assert await market.scalar("SELECT DISTINCT code FROM usage_quarantine") == "month_dropped"
    await assert_intact(market)


@pytest.mark.parametrize(
    "tampering",
    [
        "UPDATE usage_sealed_hour SET amount_nano = amount_nano - 1",
        "DELETE FROM usage_sealed_hour",
        "UPDATE usage_sealed_posting SET written_off_nano = written_off_nano + 1",
        "DELETE FROM usage_sealed_posting",
        "UPDATE usage_sealed_grant SET granted_nano = granted_nano + 1",
        "UPDATE usage_sealed_price_day SET seconds = seconds + 1",
        "UPDATE usage_sealed_month SET requests = requests + 1",
        "UPDATE usage_hour SET requests = requests + 1",
        "UPDATE budget SET posted_nano = posted_nano - 1",
    ],
)
async def test_verify_finds_what_is_changed_after_the_drop(
    market: Market,
    old: list[UsageEvent],
    postgres: PostgresServer,
    database_urls: DatabaseUrls,
    tampering: str,
) -> None:
    assert old
    assert (await drop(market)).months
    await sql(postgres, database_urls, f"SET session_replication_role = replica; {tampering}")
    async with market.database.audit() as session:
        assert await verify_ledger(session) is not None


HINDRANCES = {
    "minutes": ("UPDATE usage_kept SET first_minute = '-infinity'", 100),
    "discrepancy": (
        (
            "INSERT INTO usage_discrepancy (id, request_id, digest, tenant_id, region, gateway, kind, outcome, "
            "prompt_tokens, cached_tokens, completion_tokens, amount_nano) SELECT uuidv7(), request_id, '', tenant_id, "
            "region, gateway, 'later_record', outcome, 0, 0, 0, 0 FROM usage_event LIMIT 1"
        ),
        35,
    ),
    "feed": ("INSERT INTO rated_usage_waiting VALUES (first_request_id(now() - interval '2 days'), true)", 35),
}


@pytest.mark.parametrize("hindrance", HINDRANCES)
async def test_a_month_stays_while_somebody_needs_it(
    market: Market, old: list[UsageEvent], postgres: PostgresServer, database_urls: DatabaseUrls, hindrance: str
) -> None:
    statement, days = HINDRANCES[hindrance]
    await sql(postgres, database_urls, f"SET session_replication_role = replica; {statement}")
    kept = await retain(market.database, keep_months=1, keep_minute_days=days)
    assert (kept.months, kept.hindrance is not None) == ((), True)
    assert await market.scalar("SELECT count(*) FROM usage_event") == len(old)


async def test_a_ledger_that_does_not_verify_loses_nothing(
    market: Market, old: list[UsageEvent], postgres: PostgresServer, database_urls: DatabaseUrls
) -> None:
    await sql(postgres, database_urls, "UPDATE usage_hour SET requests = requests + 1")
    kept = await drop(market)
    assert kept.months == ()
    assert kept.hindrance is not None
    assert await market.scalar("SELECT count(*) FROM usage_event") == len(old)


async def test_months_that_are_to_be_kept_are(market: Market, old: list[UsageEvent]) -> None:
    for months in (0, 3, 12):
        assert (await drop(market, months)).months == ()
    assert await market.scalar("SELECT count(*) FROM usage_event") == len(old)
    with pytest.raises(Invalid):
        await drop(market, -1)


async def test_two_at_once_drop_a_month_once(market: Market, old: list[UsageEvent]) -> None:
    assert old
    found = await asyncio.gather(drop(market), drop(market))
    assert sum(len(one.months) for one in found) == 1
    await assert_intact(market)


async def test_who_posts_at_this_moment_is_waited_for(market: Market, old: list[UsageEvent]) -> None:
    async with market.database.ingest() as session:
        await session.execute(text("SELECT first_request_id FROM usage_kept"))
        task = asyncio.create_task(drop(market))
        done, _ = await asyncio.wait([task], timeout=0.5)
        assert not done
    assert len((await task).months) == 1
    assert (await market.ingest(old[0])).quarantined == 1


async def test_no_role_drops_what_is_not_sealed(market: Market, old: list[UsageEvent]) -> None:
    month = three_months_ago().date().replace(day=1)
    with pytest.raises(Exception, match="is not sealed"):
        async with market.database.operator() as session:
            await session.execute(text("SELECT drop_usage_partition(:month)"), {"month": month})
    for role in (market.database.ingest(),):
        with pytest.raises(Exception, match="permission denied"):
            async with role as session:
                await session.execute(text("SELECT drop_usage_partition(:month)"), {"month": month})
    assert await market.scalar("SELECT count(*) FROM usage_event") == len(old)


def test_ids_of_a_time_are_of_that_time() -> None:
    moment = datetime(2026, 8, 20, tzinfo=UTC)
    assert UUID(int=int(moment.timestamp() * 1000) << 80) <= id_at(moment) < id_at(moment + timedelta(milliseconds=2))
