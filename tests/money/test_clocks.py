"""The database's clock decides periods, whatever a gateway's says; and each request is in exactly one month.

Faults 11 and 12 of the design: clocks that are ten minutes off or go back, and streams that run across a month's end.
"""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import asyncpg
import pytest

from chappe_billing.grants.service import return_grant
from tests.billing.conftest import TERMS, Customer, Market
from tests.money import moved_clock
from tests.money.moved_clock import id_at
from tests.money.sums import assert_whole

TEN_MINUTES = timedelta(minutes=10)


def month_end() -> datetime:
    now = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return (now.replace(day=1) + timedelta(days=32)).replace(day=1)


class Clock:
    """The database's, and what a test asks of it."""

    def __init__(self, superuser: "asyncpg.Connection[Any]", at: datetime) -> None:
        self._superuser = superuser
        self.at = at

    async def set_to(self, at: datetime) -> None:
        self.at = at
        await moved_clock.set_to(self._superuser, at)


@pytest.fixture
async def clock(customer: Customer, superuser: "asyncpg.Connection[Any]") -> AsyncIterator[Clock]:
    """Twenty seconds before a month's end; the prices are in force and the customer has money since long."""
    assert customer.key_id is not None
    made = Clock(superuser, month_end() - timedelta(seconds=20))
    await moved_clock.install(superuser, made.at)
    yield made


@pytest.mark.parametrize("error", [-TEN_MINUTES, TEN_MINUTES])
async def test_a_gateways_wrong_clock_moves_no_usage_into_another_period(
    market: Market, customer: Customer, clock: Clock, superuser: "asyncpg.Connection[Any]", error: timedelta
) -> None:
    grant = await market.ask(customer, 100_000)
    wall = clock.at + error
    event = market.event(
        customer, grant.grant_id, request_id=id_at(wall, 1), started_at=wall, finished_at=wall + timedelta(seconds=1)
    )
    assert (await market.ingest(event)).posted == 1
    [row] = await superuser.fetch("SELECT posted_at FROM usage_event")
    assert row["posted_at"] == clock.at
    hour = clock.at.replace(minute=0, second=0, microsecond=0)
    assert await superuser.fetchval("SELECT array_agg(hour) FROM usage_hour") == [hour]
    assert await superuser.fetchval("SELECT array_agg(month) FROM usage_month") == [month_end_before(clock.at)]
    await assert_whole(superuser, market.database)


async def test_an_event_whose_end_lies_before_its_start_is_posted_as_any_other(
    market: Market, customer: Customer, clock: Clock, superuser: "asyncpg.Connection[Any]"
) -> None:
    """Another gateway, whose clock is behind, settled it by the engine's record. Counts decide money, no time does."""
    grant = await market.ask(customer, 100_000)
    event = market.event(customer, grant.grant_id, started_at=clock.at, finished_at=clock.at - TEN_MINUTES)
    assert (await market.ingest(event)).posted == 1
    balance = await market.balance(customer)
    assert balance.available_nano == 10_000_000_000 - event.amount_nano
    await assert_whole(superuser, market.database)


async def test_a_stream_across_the_months_end_is_in_exactly_one_month(
    market: Market, customer: Customer, clock: Clock, superuser: "asyncpg.Connection[Any]"
) -> None:
    before, across = await market.ask(customer, 100_000), await market.ask(customer, 100_000)
    # No grant admits across it, though it may settle after it.
    assert (before.admit_for_s, before.settle_for_s) == (20, TERMS.settle_s)
    first = market.event(customer, before.grant_id, request_id=id_at(clock.at, 1))
    second = market.event(customer, across.grant_id, request_id=id_at(clock.at, 2))
    await market.ingest(first)
    await clock.set_to(month_end() + timedelta(seconds=30))
    # The one that ended before comes again, with the one that ended after.
    receipt = await market.ingest(first, second)
    assert (receipt.posted, receipt.repeated) == (1, 1)
    months = await superuser.fetch("SELECT month, requests, amount_nano FROM usage_month ORDER BY month")
    old, new = month_end_before(month_end() - timedelta(seconds=1)), month_end()
    assert [tuple(row) for row in months] == [(old, 1, first.amount_nano), (new, 1, second.amount_nano)]
    await assert_whole(superuser, market.database)


async def test_an_hour_that_daylight_saving_repeats_is_one_of_universal_time(
    market: Market, customer: Customer, clock: Clock, superuser: "asyncpg.Connection[Any]"
) -> None:
    """02:30 in Paris comes twice on that night: an hour apart, and in two rollups."""
    last_of_october = datetime(clock.at.year + 1, 10, 31, tzinfo=UTC)
    night = last_of_october - timedelta(days=(last_of_october.weekday() + 1) % 7)
    times = (night + timedelta(minutes=30), night + timedelta(minutes=90))
    assert {f"{at.astimezone(ZoneInfo('Europe/Paris')):%H:%M}" for at in times} == {"02:30"}
    for number, at in enumerate(times):
        await clock.set_to(at)
        grant = await market.ask(customer, 100_000)
        await market.ingest(market.event(customer, grant.grant_id, request_id=id_at(at, number)))
    hours = await superuser.fetchval("SELECT array_agg(hour ORDER BY hour) FROM usage_hour")
    assert hours == [at.replace(minute=0) for at in times]
    assert await superuser.fetchval("SELECT array_agg(requests) FROM usage_month") == [2]
    await assert_whole(superuser, market.database)


async def test_a_database_whose_clock_goes_back_frees_no_grant_twice(
    market: Market, customer: Customer, clock: Clock, superuser: "asyncpg.Connection[Any]"
) -> None:
    """It was released by a clock that ran ahead: what comes of it afterwards pays from what is free, if anything is."""
    grant = await market.ask(customer, 9_000_000_000)
    before = clock.at
    await clock.set_to(before + timedelta(seconds=TERMS.release_s + 1))
    other = await market.ask(customer, 10_000_000_000)
    assert other.amount_nano == 10_000_000_000
    await clock.set_to(before)
    async with market.database.ingest() as session:
        await return_grant(session, region="fr-par", grant_id=grant.grant_id, returned_nano=9_000_000_000)
    event = market.event(customer, grant.grant_id)
    await market.ingest(event)
    assert (await market.balance(customer)).pending_nano == 10_000_000_000
    assert await superuser.fetchval("SELECT written_off_nano FROM usage_event") == event.amount_nano
    await assert_whole(superuser, market.database)


def month_end_before(at: datetime) -> datetime:
    return at.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
