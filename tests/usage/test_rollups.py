"""Minutes, days, months and keys' spending follow the hours, whatever changes these."""

import pytest

from chappe_billing.audit.service import verify_ledger
from tests.billing.conftest import Customer, Market
from tests.conftest import DatabaseUrls, PostgresServer

ROLLUPS = ("usage_minute", "usage_hour", "usage_day", "usage_month")


async def totals(market: Market) -> set[tuple[int, ...]]:
    """Of every rollup: all the same, or they differ."""
    found = set()
    for table in ROLLUPS:
        statement = (
            "SELECT ARRAY[sum(requests), sum(prompt_tokens), sum(cached_tokens), sum(completion_tokens), "
            f"sum(amount_nano), sum(written_off_nano)] FROM {table}"
        )
        found.add(tuple(map(int, await market.scalar(statement))))
    return found


async def test_every_rollup_sums_to_the_same(market: Market, customer: Customer) -> None:
    for _ in range(3):
        await market.ingest(*(market.event(customer, customer.key_id) for _ in range(5)))
    (found,) = await totals(market)
    assert found[:2] == (15, 1500)
    assert await market.scalar("SELECT sum(paid_nano) FROM usage_spending") == found[4]
    async with market.database.audit() as session:
        assert await verify_ledger(session) is None


async def test_a_statement_on_many_hours_is_followed_row_by_row(
    market: Market, customer: Customer, postgres: PostgresServer, database_urls: DatabaseUrls
) -> None:
    await market.ingest(market.event(customer, customer.key_id))
    connection = await postgres.superuser(database_urls.name)
    await connection.execute(
        "INSERT INTO usage_hour SELECT tenant_id, hour - make_interval(days => n), project_id, key_id, listing_id, "
        "region, n, 2, 3, 4, 5, 1 FROM usage_hour, generate_series(1, 90) n"
    )
    await connection.execute("UPDATE usage_hour SET requests = requests + 7, amount_nano = amount_nano + 1")
    differ = await connection.fetchval(
        "SELECT count(*) FROM (SELECT sum(requests) r, sum(amount_nano) a, count(*) n FROM usage_hour) h, "
        "(SELECT sum(requests) r, sum(amount_nano) a, count(*) n FROM usage_day) d, "
        "(SELECT sum(requests) r, sum(amount_nano) a FROM usage_month) m, "
        "(SELECT sum(paid_nano) p FROM usage_spending) s, "
        "(SELECT sum(amount_nano - written_off_nano) p FROM usage_hour) p "
        "WHERE (h.r, h.a, h.n) <> (d.r, d.a, d.n) OR (h.r, h.a) <> (m.r, m.a) OR s.p <> p.p"
    )
    assert differ == 0
    # What is added to an hour that is over was not posted now, and belongs to no minute of now.
    assert await connection.fetchval("SELECT sum(requests) FROM usage_minute") == 1 + 7
    await connection.close()


@pytest.mark.parametrize("tampering", ["UPDATE usage_minute SET requests = requests + 1", "DELETE FROM usage_minute"])
async def test_verify_finds_a_minute_that_is_off(
    market: Market, customer: Customer, postgres: PostgresServer, database_urls: DatabaseUrls, tampering: str
) -> None:
    await market.ingest(market.event(customer, customer.key_id))
    connection = await postgres.superuser(database_urls.name)
    await connection.execute(tampering)
    await connection.close()
    async with market.database.audit() as session:
        difference = await verify_ledger(session)
    assert difference is not None
    assert difference.rule == "a minute's rollup is the sum of the events posted in it"
