"""What an operator's prices, months, feed and retention write, cut off at each of its statements."""

from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias

import asyncpg
import pytest
from sqlalchemy import text

from chappe_billing.audit.service import verify_ledger
from chappe_billing.contract_terms.reckoning import TermKind, Tier
from chappe_billing.contract_terms.service import agree_term
from chappe_billing.cut_off.service import cut_off_month
from chappe_billing.feed.service import close_batch
from chappe_billing.price_corrections import queries as corrections
from chappe_billing.price_corrections.service import WITHIN, correct_tenant
from chappe_billing.prices.service import withdraw_price
from chappe_billing.retention import service as retention
from chappe_kernel.errors import Conflict
from chappe_kernel.rating import Counts, Price
from tests.billing.conftest import Customer, MakeCustomer, Market
from tests.conftest import DatabaseUrls, PostgresServer
from tests.money.crashing import (
    Case,
    Prepared,
    assert_a_cut_leaves_all_or_nothing,
    assert_a_lost_answer_leaves_all_done,
    is_found,
)
from tests.money.cut import Cut
from tests.prices.conftest import Operator
from tests.prices.test_reverting import BAD, use
from tests.usage.test_repeats import id_at
from tests.usage.test_retention import AGE, PARTITION, three_months_ago

Connection: TypeAlias = "asyncpg.Connection[Any]"


@pytest.fixture
def operator(market: Market, database_urls: DatabaseUrls, postgres: PostgresServer) -> Operator:
    return Operator(market, database_urls, postgres)


async def publishing(operator: Operator, customer: Customer, superuser: Connection) -> Case:
    """A list price, and the version of each tenant whose discount follows it."""
    await operator.discount(customer.tenant_id, 5000)

    async def act(there: Market) -> None:
        await Operator(there, operator.urls, operator.server).list_price(BAD)

    async def done() -> bool:
        statement = "SELECT count(*) FROM price_version WHERE output_nano_per_token IN (2100, 1050)"
        return await is_found(superuser, 2, statement)

    return Case(act, done, touches=("INSERT INTO price_version", "COMMIT"))


async def withdrawing(operator: Operator, customer: Customer, superuser: Connection) -> Case:
    """A scheduled list price, with what follows it."""
    await operator.discount(customer.tenant_id, 5000)
    scheduled = await operator.list_price(BAD, datetime.now(UTC) + timedelta(days=1))

    async def act(there: Market) -> None:
        async with there.database.operator() as session:
            await withdraw_price(session, scheduled, reason="a digit too many")

    async def done() -> bool:
        return await is_found(superuser, 2, "SELECT count(*) FROM price_withdrawal")

    return Case(act, done, repeated=Conflict, touches=("INSERT INTO price_withdrawal", "COMMIT"))


async def reverting(operator: Operator, customer: Customer, superuser: Connection) -> Case:
    await operator.discount(customer.tenant_id, 5000)
    bad = await operator.list_price(BAD)

    async def act(there: Market) -> None:
        await Operator(there, operator.urls, operator.server).revert(bad)

    async def done() -> bool:
        return await is_found(superuser, 1, "SELECT count(*) FROM price_version WHERE reverts_id = $1", bad)

    return Case(act, done, repeated=Conflict, touches=("INSERT INTO price_version", "COMMIT"))


async def giving_back(operator: Operator, customer: Customer, superuser: Connection) -> Case:
    """What was paid too much under two prices that were reverted, by one who had a part of it back already."""
    worse = Price(900, 900, 9000, 9)
    versions = []
    for price in (BAD, worse):
        versions.append(await operator.list_price(price))
        await use(operator.market, customer, versions[-1], price, times=2)
        await operator.revert(versions[-1])

    async def act(there: Market) -> None:
        async with there.database.operator() as session:
            wrong = await corrections.find_wrong(session, WITHIN)
            await correct_tenant(session, customer.tenant_id, wrong)

    await act(operator.market)
    await use(operator.market, customer, versions[-1], worse)
    await use(operator.market, customer, operator.market.prices["fr-par"], Price(60, 15, 210, 7))

    async def done() -> bool:
        return await is_found(superuser, 3, "SELECT count(*) FROM price_correction")

    return Case(
        act,
        done,
        touches=("INSERT INTO ledger_entry", "INSERT INTO price_correction", "INSERT INTO outbox", "UPDATE budget"),
    )


async def closing_a_month(operator: Operator, customer: Customer, superuser: Connection) -> Case:
    """With a discount by volume, a minimum and the last month of a commitment."""
    market = operator.market
    this_month = (await superuser.fetchval("SELECT (now() AT TIME ZONE 'UTC')::date")).replace(day=1)
    async with market.database.operator() as session:
        terms: list[tuple[TermKind, dict[str, Any]]] = [
            (TermKind.VOLUME_DISCOUNT, {"tiers": [Tier(0, 0), Tier(10_000, 1000)]}),
            (TermKind.MINIMUM, {"amount_nano": 1_000_000}),
            (TermKind.COMMITMENT, {"amount_nano": 5_000_000, "last_month": this_month}),
        ]
        for kind, values in terms:
            await agree_term(session, customer.scope, kind=kind, first_month=this_month, **values)
    grant = await market.ask(customer, 10_000_000)
    await market.ingest(*[market.event(customer, grant.grant_id) for _ in range(9)])
    await operator.move_history(months=1)
    month = (this_month - timedelta(days=1)).replace(day=1)

    async def act(there: Market) -> None:
        async with there.database.operator() as session:
            await cut_off_month(session, customer.tenant_id, month)

    async def done() -> bool:
        return await is_found(superuser, 3, "SELECT count(*) FROM cut_off_entry WHERE transaction_id IS NOT NULL")

    return Case(act, done, touches=("INSERT INTO ledger_entry", "month_cut_off", "cut_off_entry", "outbox", "COMMIT"))


async def closing_a_batch(operator: Operator, customer: Customer, superuser: Connection) -> Case:
    market = operator.market
    grant = await market.ask(customer, 10_000_000)
    await market.ingest(*[market.event(customer, grant.grant_id) for _ in range(9)])
    async with market.database.operator() as session:
        await close_batch(session, max_records=1)
    await market.ingest(*[market.event(customer, grant.grant_id) for _ in range(9)])

    async def act(there: Market) -> None:
        async with there.database.operator() as session:
            await close_batch(session)

    async def done() -> bool:
        waiting = await superuser.fetchval("SELECT count(*) FROM rated_usage_waiting")
        said = await superuser.fetchval("SELECT sum(records) FROM rated_usage_batch")
        return bool(waiting == 0 and said == 1 + 18)

    return Case(act, done, touches=("rated_usage_entry", "INSERT INTO rated_usage_batch", "DELETE FROM", "COMMIT"))


async def retaining(operator: Operator, customer: Customer, superuser: Connection) -> Case:
    """Minutes and a month are dropped: a number of transactions, each of which goes on where another was cut off."""
    market = operator.market
    await superuser.execute(PARTITION)
    grant = await market.ask(customer, 400_000)
    old = [
        market.event(customer, grant.grant_id, request_id=id_at(three_months_ago()), counts=Counts(n, 0, n))
        for n in range(1, 7)
    ]
    await market.ingest(*old)
    await superuser.execute(AGE + "; SET session_replication_role = DEFAULT")
    await market.ingest(market.event(customer, grant.grant_id))
    spent = sum(event.amount_nano for event in old)

    async def verified(_: object) -> None:
        """The whole ledger, statement after statement that only reads: no reason to be cut off before each."""

    async def act(there: Market) -> None:
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(retention, "verify_ledger", verified)
            await retention.retain(there.database, keep_months=1, keep_minute_days=35)

    async def done() -> bool:
        kept = await superuser.fetchval("SELECT count(*) FROM usage_event")
        return bool(kept == 1 and await is_found(superuser, spent, "SELECT sum(amount_nano) FROM usage_sealed_month"))

    async def check(_: Connection, there: Market) -> None:
        async with there.database.audit() as session:
            assert await verify_ledger(session) is None

    return Case(
        act,
        done,
        touches=("LOCK TABLE usage_kept", "INSERT INTO usage_sealed_month", "drop_usage_partition"),
        transactions=5,
        check=check,
    )


CASES = (publishing, withdrawing, reverting, giving_back, closing_a_month, closing_a_batch, retaining)


@pytest.fixture(params=CASES, ids=lambda prepare: prepare.__name__)
async def prepared(
    request: pytest.FixtureRequest,
    operator: Operator,
    cut_market: Market,
    make_customer: MakeCustomer,
    superuser: Connection,
) -> Prepared:
    case = await request.param(operator, await make_customer(), superuser)
    # What a fresh connection asks of the server is not among the statements.
    async with cut_market.database.ingest() as session:
        await session.execute(text("SELECT 1"))
    return Prepared(case, cut_market)


async def test_a_cut_before_any_statement_leaves_all_or_nothing_of_a_transaction(
    prepared: Prepared, market: Market, cut: Cut, superuser: Connection
) -> None:
    await assert_a_cut_leaves_all_or_nothing(prepared, market, cut, superuser)


async def test_a_lost_answer_to_the_commit_leaves_all_of_it_done_once(
    prepared: Prepared, market: Market, cut: Cut, superuser: Connection
) -> None:
    await assert_a_lost_answer_leaves_all_done(prepared, market, cut, superuser)
