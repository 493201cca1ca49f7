"""A grant lends what is free, once, and gives back exactly what was not spent."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text

from chappe_billing.grants.service import ask_grant, return_grant
from chappe_billing.grants.terms import GrantTerms, grant_times
from chappe_kernel.errors import Conflict, InsufficientFunds, Invalid, NotFound, Unavailable
from chappe_kernel.ids import GrantId, new_id
from chappe_kernel.wire.control import AskGrant, Grant
from tests.billing.conftest import TERMS, Customer, MakeCustomer, Market
from tests.conftest import DatabaseUrls, PostgresServer


async def give_back(market: Market, grant: Grant, returned_nano: int, region: str = "fr-par") -> None:
    async with market.database.ingest() as session:
        await return_grant(session, region=region, grant_id=grant.grant_id, returned_nano=returned_nano)


async def pending(market: Market, customer: Customer) -> int:
    return (await market.balance(customer)).pending_nano


async def test_a_grant_is_pending_and_changes_no_balance(market: Market, customer: Customer) -> None:
    grant = await market.ask(customer, 50_000_000)
    balance = await market.balance(customer)
    assert (grant.amount_nano, balance.pending_nano) == (50_000_000, 50_000_000)
    assert balance.available_nano == 10_000_000_000
    assert (grant.admit_for_s, grant.settle_for_s, grant.release_for_s) == (30, 180, 200)


async def test_the_last_money_is_lent_though_it_is_less_than_wanted(
    market: Market, make_customer: MakeCustomer
) -> None:
    customer = await make_customer(100)
    assert (await market.ask(customer, 1000, 100)).amount_nano == 100


async def test_lent_money_that_may_come_back_is_no_refusal_for_good(
    market: Market, make_customer: MakeCustomer
) -> None:
    customer = await make_customer(100)
    await market.ask(customer, 90)
    with pytest.raises(Unavailable) as raised:
        await market.ask(customer, 50, 11)
    assert raised.value.code == "budget_unavailable"
    with pytest.raises(InsufficientFunds):
        await market.ask(customer, 101, 101)
    assert (await market.ask(customer, 50, 10)).amount_nano == 10


async def test_spent_money_is_a_refusal_for_good(market: Market, make_customer: MakeCustomer) -> None:
    customer = await make_customer(5_000)
    grant = await market.ask(customer, 5_000)
    event = market.event(customer, grant.grant_id, hold_nano=50_000)
    assert event.amount_nano > 5_000
    await market.ingest(event)
    with pytest.raises(InsufficientFunds):
        await market.ask(customer, 1)


async def test_asking_again_with_the_same_id_returns_the_same_grant(market: Market, customer: Customer) -> None:
    grant = await market.ask(customer, 500)
    repeat = await market.ask(customer, 900, grant_id=grant.grant_id)
    assert repeat.amount_nano == 500
    assert repeat.admit_for_s <= grant.admit_for_s
    assert await pending(market, customer) == 500


async def test_the_id_of_anothers_grant_is_a_conflict(market: Market, make_customer: MakeCustomer) -> None:
    customer, other = await make_customer(), await make_customer()
    grant = await market.ask(customer, 500)
    for asker, region, gateway in (
        (other, "fr-par", "gw-1"),
        (customer, "de-fra", "gw-1"),
        (customer, "fr-par", "gw-2"),
    ):
        with pytest.raises(Conflict):
            await market.ask(asker, 500, grant_id=grant.grant_id, region=region, gateway=gateway)
    assert await pending(market, other) == 0
    assert await pending(market, customer) == 500


@pytest.mark.parametrize(("wanted", "minimum"), [(1, 2), (-1, -1), (5, -1), (10**19, 1)])
async def test_an_ask_that_makes_no_sense_is_refused(
    market: Market, customer: Customer, wanted: int, minimum: int
) -> None:
    with pytest.raises(Invalid):
        await market.ask(customer, wanted, minimum)


@pytest.mark.parametrize("name", ["", "x" * 101, "a\x00b", "a\nb"])
async def test_a_gateway_needs_a_proper_name(market: Market, customer: Customer, name: str) -> None:
    with pytest.raises(Invalid):
        await market.ask(customer, 5, gateway=name)
    with pytest.raises(Invalid):
        await market.ingest(gateway=name)


async def test_an_unknown_tenant_is_not_found(market: Market, customer: Customer) -> None:
    with pytest.raises(NotFound):
        await market.ask(customer, 5, tenant_id=new_id())


async def test_returns_are_cumulative_and_never_go_back(market: Market, customer: Customer) -> None:
    grant = await market.ask(customer, 1000)
    for returned, left in ((100, 900), (100, 900), (50, 900), (400, 600), (5000, 0), (400, 0)):
        await give_back(market, grant, returned)
        assert await pending(market, customer) == left


async def test_spent_money_cannot_be_returned(market: Market, customer: Customer) -> None:
    grant = await market.ask(customer, 100_000)
    event = market.event(customer, grant.grant_id)
    await market.ingest(event)
    await give_back(market, grant, 100_000)
    assert await pending(market, customer) == 0
    assert (await market.balance(customer)).available_nano == 10_000_000_000 - event.amount_nano
    assert await market.scalar("SELECT returned_nano FROM budget_grant") == 100_000 - event.amount_nano


async def test_a_return_that_overtakes_its_events_frees_nothing_twice(
    market: Market, make_customer: MakeCustomer
) -> None:
    customer = await make_customer(20_000)
    grant = await market.ask(customer, 20_000)
    event = market.event(customer, grant.grant_id)
    await give_back(market, grant, 20_000)
    await market.ingest(event)
    balance = await market.balance(customer)
    assert (balance.available_nano, balance.pending_nano) == (20_000 - event.amount_nano, 0)


async def test_only_the_own_region_returns_a_grant(market: Market, customer: Customer) -> None:
    grant = await market.ask(customer, 1000)
    with pytest.raises(NotFound):
        await give_back(market, grant, 10, region="de-fra")
    with pytest.raises(Invalid):
        await give_back(market, grant, -10)
    async with market.database.ingest() as session:
        with pytest.raises(NotFound):
            await return_grant(session, region="fr-par", grant_id=GrantId(new_id()), returned_nano=1)


async def expire(postgres: PostgresServer, urls: DatabaseUrls, grant: Grant) -> None:
    """As if the grant had been asked for longer ago than it lives."""
    connection = await postgres.superuser(urls.name)
    try:
        await connection.execute(
            "UPDATE budget_grant SET created_at = created_at - interval '1 hour', "
            "admit_until = admit_until - interval '1 hour', settle_by = settle_by - interval '1 hour', "
            "release_at = release_at - interval '1 hour' WHERE id = $1",
            grant.grant_id,
        )
    finally:
        await connection.close()


async def test_expiry_frees_what_is_unexplained(
    market: Market, make_customer: MakeCustomer, postgres: PostgresServer, database_urls: DatabaseUrls
) -> None:
    customer = await make_customer(20_000)
    grant = await market.ask(customer, 20_000)
    event = market.event(customer, grant.grant_id)
    await market.ingest(event)
    with pytest.raises(Unavailable):
        await market.ask(customer, 1)
    await expire(postgres, database_urls, grant)
    assert await pending(market, customer) == 0
    rest = 20_000 - event.amount_nano
    assert (await market.ask(customer, 20_000)).amount_nano == rest
    assert await pending(market, customer) == rest
    await give_back(market, grant, 20_000)
    assert await pending(market, customer) == rest


async def test_a_grant_that_has_not_reached_its_release_frees_nothing(
    market: Market, make_customer: MakeCustomer
) -> None:
    customer = await make_customer(20_000)
    await market.ask(customer, 20_000)
    with pytest.raises(Unavailable):
        await market.ask(customer, 1)


async def test_debt_stops_admission_and_keeps_history(
    market: Market, make_customer: MakeCustomer, postgres: PostgresServer, database_urls: DatabaseUrls
) -> None:
    customer = await make_customer(20_000)
    grant = await market.ask(customer, 20_000)
    async with market.database.operator() as session:
        await session.execute(
            text("UPDATE budget SET funds_nano = funds_nano - 15000 WHERE tenant_id = :t"), {"t": customer.tenant_id}
        )
    event = market.event(customer, grant.grant_id)
    receipt = await market.ingest(event)
    assert receipt.posted == 1
    assert (await market.balance(customer)).available_nano == 5_000 - event.amount_nano < 0
    await expire(postgres, database_urls, grant)
    for minimum in (0, 1):
        with pytest.raises(InsufficientFunds):
            await market.ask(customer, 1, minimum)


async def test_a_credit_limit_is_spendable_and_no_balance(market: Market, make_customer: MakeCustomer) -> None:
    customer = await make_customer(0)
    async with market.database.operator() as session:
        await session.execute(
            text("UPDATE budget SET credit_limit_nano = 300 WHERE tenant_id = :t"), {"t": customer.tenant_id}
        )
    assert (await market.ask(customer, 1000)).amount_nano == 300
    balance = await market.balance(customer)
    assert (balance.available_nano, balance.credit_limit_nano) == (0, 300)


@given(st.datetimes(datetime(2025, 1, 1), datetime(2031, 1, 1), timezones=st.just(UTC)))  # noqa: DTZ001 -- the bounds
def test_no_grant_admits_across_a_months_end(now: datetime) -> None:
    times = grant_times(now, TERMS)
    assert now < times.admit_until <= now + timedelta(seconds=TERMS.admit_s)
    last_admitted = times.admit_until - timedelta(microseconds=1)
    assert (last_admitted.year, last_admitted.month) == (now.year, now.month)
    assert times.release_at - now == timedelta(seconds=TERMS.release_s)


@pytest.mark.parametrize("terms", [(0, 1, 1), (2, 1, 3), (1, 3, 2)])
def test_terms_are_in_order(terms: tuple[float, float, float]) -> None:
    with pytest.raises(Invalid):
        GrantTerms(*terms)


def test_postpaid_terms_only_ever_lengthen_and_keep_their_order() -> None:
    terms = GrantTerms(30, 180, 200, postpaid_admit_s=3600)
    assert terms.of(postpaid=False) == GrantTerms(30, 180, 200)
    assert terms.of(postpaid=True) == GrantTerms(3600, 3750, 3770)
    assert GrantTerms(30, 180, 200, postpaid_admit_s=10).of(postpaid=True) == GrantTerms(30, 180, 200)
    with pytest.raises(Invalid):
        GrantTerms(30, 180, 200, postpaid_admit_s=24 * 3600 + 1)


@pytest.mark.parametrize(("has_contract", "limit_nano", "admit_s"), [(True, 300, 900), (False, 300, 30), (True, 0, 30)])
async def test_postpaid_is_who_has_a_contract_and_a_credit_limit(
    market: Market, make_customer: MakeCustomer, has_contract: bool, limit_nano: int, admit_s: float
) -> None:
    customer = await make_customer(1000)
    async with market.database.operator() as session:
        await session.execute(
            text("UPDATE budget SET credit_limit_nano = :limit WHERE tenant_id = :t"),
            {"t": customer.tenant_id, "limit": limit_nano},
        )
    ask = AskGrant(new_id(), customer.tenant_id, "gw-1", 100, 1)
    terms = GrantTerms(30, 180, 200, postpaid_admit_s=900)
    async with market.database.ingest() as session:
        lent = await ask_grant(session, region="fr-par", ask=ask, terms=terms, has_contract=has_contract)
    # A month's end may be nearer.
    assert lent.admit_for_s <= admit_s
    assert lent.settle_for_s == admit_s + 150
