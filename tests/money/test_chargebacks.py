"""A bank takes a payment back after it was spent: debt, admission stops, history stays. Fault 29 of the design."""

from typing import Any

import asyncpg
import pytest

from chappe_billing.funds.service import Movement, move_funds
from chappe_billing.grants.service import return_grant
from chappe_billing.ledger.postings import TransactionKind
from chappe_kernel.errors import InsufficientFunds
from tests.billing.conftest import Customer, MakeCustomer, Market
from tests.money.sums import assert_whole

PAID_IN = 30_000
HISTORY = "SELECT * FROM ledger_entry WHERE transaction_id = ANY($1) ORDER BY transaction_id, line"


async def move(market: Market, customer: Customer, **asked: Any) -> Any:
    async with market.database.operator() as session:
        return (
            await move_funds(session, customer.tenant_id, Movement(reason="the bank said so", **asked))
        ).transaction_id


@pytest.fixture
async def spender(market: Market, make_customer: MakeCustomer) -> Customer:
    return await make_customer(0)


async def test_debt_stops_admission_until_it_is_paid_and_history_stays(
    market: Market, spender: Customer, superuser: "asyncpg.Connection[Any]"
) -> None:
    payment = await move(market, spender, kind=TransactionKind.TOP_UP, amount_nano=PAID_IN, reference="in")
    grant = await market.ask(spender, PAID_IN)
    spent = market.event(spender, grant.grant_id)
    await market.ingest(spent)
    before = [row["id"] for row in await superuser.fetch("SELECT id FROM ledger_transaction")]
    history = await superuser.fetch(HISTORY, before)
    taken = {"kind": TransactionKind.CHARGEBACK, "amount_nano": PAID_IN, "reference": "back", "payment": payment}
    first = await move(market, spender, **taken)
    assert await move(market, spender, **taken) == first
    # What runs goes on and is charged, out of what was lent before.
    running = market.event(spender, grant.grant_id)
    await market.ingest(running)
    async with market.database.ingest() as session:
        await return_grant(session, region="fr-par", grant_id=grant.grant_id, returned_nano=PAID_IN)
    debt = spent.amount_nano + running.amount_nano
    balance = await market.balance(spender)
    assert (balance.available_nano, balance.pending_nano) == (-debt, 0)
    assert await superuser.fetchval("SELECT sum(written_off_nano)::bigint FROM usage_event") == 0
    for minimum in (0, 1):
        with pytest.raises(InsufficientFunds):
            await market.ask(spender, 1, minimum)
    assert await superuser.fetch(HISTORY, before) == history
    await move(market, spender, kind=TransactionKind.TOP_UP, amount_nano=debt, reference="the debt")
    with pytest.raises(InsufficientFunds):
        await market.ask(spender, 1)
    await move(market, spender, kind=TransactionKind.TOP_UP, amount_nano=5_000, reference="more")
    assert (await market.ask(spender, PAID_IN)).amount_nano == 5_000
    await assert_whole(superuser, market.database)


async def test_usage_that_arrives_in_debt_is_written_off_and_deepens_it_no_further(
    market: Market, spender: Customer, superuser: "asyncpg.Connection[Any]"
) -> None:
    """Its grant is over: nothing was set aside for it, and nothing is free."""
    payment = await move(market, spender, kind=TransactionKind.TOP_UP, amount_nano=PAID_IN, reference="in")
    grant = await market.ask(spender, PAID_IN)
    spent = market.event(spender, grant.grant_id)
    await market.ingest(spent)
    await superuser.execute("UPDATE budget_grant SET release_at = now()")
    await move(market, spender, kind=TransactionKind.CHARGEBACK, amount_nano=PAID_IN, reference="back", payment=payment)
    late = market.event(spender, grant.grant_id)
    await market.ingest(late)
    assert (await market.balance(spender)).available_nano == -spent.amount_nano
    assert await superuser.fetchval("SELECT sum(written_off_nano)::bigint FROM usage_event") == late.amount_nano
    await assert_whole(superuser, market.database)
