"""A tenant gets its welcome credit once."""

import asyncio

import pytest

from chappe_billing.audit.service import verify_ledger
from chappe_billing.credit.service import give_welcome_credit
from chappe_kernel.errors import Conflict, Invalid, NotFound
from tests.billing.conftest import Customer, MakeCustomer, Market


async def give(market: Market, customer: Customer, amount_nano: int, currency: str = "EUR") -> None:
    async with market.database.operator() as session:
        await give_welcome_credit(session, customer.tenant_id, amount_nano, currency)


async def test_the_credit_is_available_to_the_nano(market: Market, make_customer: MakeCustomer) -> None:
    customer = await make_customer(10_000_000_001)
    balance = await market.balance(customer)
    assert (balance.currency, balance.available_nano, balance.pending_nano) == ("EUR", 10_000_000_001, 0)


async def test_a_repeat_gives_nothing_more(market: Market, customer: Customer) -> None:
    before = await market.balance(customer)
    await asyncio.gather(*(give(market, customer, 5) for _ in range(6)))
    assert await market.balance(customer) == before
    async with market.database.audit() as session:
        assert await verify_ledger(session) is None


async def test_a_credit_of_nothing_opens_an_empty_budget(market: Market, make_customer: MakeCustomer) -> None:
    customer = await make_customer(0)
    assert (await market.balance(customer)).available_nano == 0


async def test_another_currency_is_refused(market: Market, customer: Customer) -> None:
    with pytest.raises(Conflict):
        await give(market, customer, 5, "USD")


async def test_a_negative_credit_is_refused(market: Market, customer: Customer) -> None:
    with pytest.raises(Invalid):
        await give(market, customer, -5)


async def test_a_tenant_without_a_budget_has_no_balance(market: Market, make_customer: MakeCustomer) -> None:
    customer = await make_customer()
    stranger = Customer(customer.project_id, customer.project_id, customer.key_id)  # type: ignore[arg-type]  # any UUID
    with pytest.raises(NotFound):
        await market.balance(stranger)
