"""Money comes into a tenant's funds and goes out of them once for each reference, and no more than there is."""

import asyncio

import pytest

from chappe_billing.credit.service import set_credit_limit
from chappe_billing.ledger.queries import list_transactions
from chappe_kernel.errors import Conflict, InsufficientFunds, Invalid, NotFound
from chappe_kernel.ids import new_id
from tests.billing.conftest import Customer, MakeCustomer, Market
from tests.ledger.conftest import account, assert_intact, available, move, take_back

GIFT = 10_000_000_000
"""What the customer begins with."""


async def test_a_top_up_is_credited_once_for_its_reference(market: Market, customer: Customer) -> None:
    first = await move(market, customer, "top_up", 5_000, "bank 1", rail="bank_transfer")
    again = await move(market, customer, "top_up", 5_000, "bank 1", rail="bank_transfer")
    assert (first.repeated, again.repeated) == (False, True)
    assert again.transaction_id == first.transaction_id
    assert await available(market, customer) == GIFT + 5_000
    assert await account(market, "payment_clearing") == -5_000
    await assert_intact(market)


async def test_a_hundred_top_ups_at_once_with_one_reference_are_one(market: Market, customer: Customer) -> None:
    moved = await asyncio.gather(*(move(market, customer, "top_up", 7, "bank 1") for _ in range(100)))
    assert len({one.transaction_id for one in moved}) == 1
    assert [one.repeated for one in moved].count(False) == 1
    assert await available(market, customer) == GIFT + 7


@pytest.mark.parametrize("changed", ["amount", "kind", "tenant"])
async def test_a_reference_that_stands_for_something_else_is_refused(
    market: Market, customer: Customer, make_customer: MakeCustomer, changed: str
) -> None:
    await move(market, customer, "top_up", 5_000, "bank 1")
    whose = await make_customer() if changed == "tenant" else customer
    kind = "goodwill_credit" if changed == "kind" else "top_up"
    with pytest.raises(Conflict) as refused:
        await move(market, whose, kind, 6_000 if changed == "amount" else 5_000, "bank 1")
    assert refused.value.code == "reference_taken"


async def test_a_refund_pays_out_what_was_paid_in_and_never_a_gift(market: Market, customer: Customer) -> None:
    await move(market, customer, "top_up", 5_000, "bank 1")
    with pytest.raises(Invalid) as refused:
        await move(market, customer, "refund", 5_001, "out 1")
    assert (refused.value.code, refused.value.param) == ("amount_too_large", "amount")
    await move(market, customer, "refund", 3_000, "out 2")
    with pytest.raises(Invalid):
        await move(market, customer, "refund", 2_001, "out 3")
    await move(market, customer, "refund", 2_000, "out 3")
    assert await available(market, customer) == GIFT
    assert await account(market, "payment_clearing") == 0
    await assert_intact(market)


async def test_a_refund_leaves_what_gateways_hold(market: Market, make_customer: MakeCustomer) -> None:
    customer = await make_customer(0)
    await move(market, customer, "top_up", 5_000, "bank 1")
    await market.ask(customer, 4_000)
    with pytest.raises(Invalid):
        await move(market, customer, "refund", 1_001, "out 1")
    await move(market, customer, "refund", 1_000, "out 1")
    await assert_intact(market)


async def test_a_credit_limit_is_not_paid_out(market: Market, make_customer: MakeCustomer) -> None:
    customer = await make_customer(0)
    await move(market, customer, "top_up", 5_000, "bank 1")
    async with market.database.operator() as session:
        await set_credit_limit(session, customer.tenant_id, 1_000_000, "EUR")
    grant = await market.ask(customer, 50_000)
    await market.ingest(market.event(customer, grant.grant_id))
    with pytest.raises(Invalid):
        await move(market, customer, "refund", 1, "out 1")


async def test_a_chargeback_after_the_money_was_spent_is_debt_and_stops_admission(
    market: Market, make_customer: MakeCustomer
) -> None:
    """FAULTS.md, row 29."""
    customer = await make_customer(0)
    payment = await move(market, customer, "top_up", 100_000, "card 1", rail="card")
    grant = await market.ask(customer, 60_000)
    event = market.event(customer, grant.grant_id)
    await market.ingest(event)
    before = await statement(market, customer)
    await move(market, customer, "chargeback", 100_000, "cb 1", payment=payment.transaction_id)
    assert await available(market, customer) == -event.amount_nano
    with pytest.raises(InsufficientFunds):
        await market.ask(customer, 1, 0)
    assert (await statement(market, customer))[1:] == before, "history is intact"
    await assert_intact(market)
    # What was held when the bank took the money back is still posted, and is debt too.
    later = market.event(customer, grant.grant_id)
    await market.ingest(later)
    assert await available(market, customer) == -event.amount_nano - later.amount_nano
    await assert_intact(market)


async def test_a_chargeback_names_a_payment_and_takes_no_more_than_it(
    market: Market, customer: Customer, make_customer: MakeCustomer
) -> None:
    payment = await move(market, customer, "top_up", 100, "card 1")
    with pytest.raises(Invalid) as unnamed:
        await move(market, customer, "chargeback", 100, "cb 1")
    assert unnamed.value.param == "payment"
    with pytest.raises(NotFound):
        await move(market, await make_customer(), "chargeback", 100, "cb 1", payment=payment.transaction_id)
    await move(market, customer, "refund", 40, "out 1", payment=payment.transaction_id)
    with pytest.raises(Invalid):
        await move(market, customer, "chargeback", 61, "cb 1", payment=payment.transaction_id)
    await move(market, customer, "chargeback", 60, "cb 1", payment=payment.transaction_id)
    await assert_intact(market)


async def test_only_debt_is_written_off(market: Market, make_customer: MakeCustomer) -> None:
    customer = await make_customer(0)
    payment = await move(market, customer, "top_up", 50_000, "card 1")
    grant = await market.ask(customer, 50_000)
    event = market.event(customer, grant.grant_id)
    await market.ingest(event)
    with pytest.raises(Invalid):
        await move(market, customer, "write_off", 1, "insolvent")
    await move(market, customer, "chargeback", 50_000, "cb 1", payment=payment.transaction_id)
    with pytest.raises(Invalid):
        await move(market, customer, "write_off", event.amount_nano + 1, "insolvent")
    await move(market, customer, "write_off", event.amount_nano, "insolvent")
    assert await available(market, customer) == 0
    assert await account(market, "write_off") == -event.amount_nano
    await assert_intact(market)


async def test_a_reversal_takes_the_whole_back_once(market: Market, customer: Customer) -> None:
    given = await move(market, customer, "goodwill_credit", 500, "ticket 7")
    assert await account(market, "promotional_credit") == -GIFT - 500
    taken = await take_back(market, customer, given.transaction_id)
    assert (await take_back(market, customer, given.transaction_id)).repeated
    with pytest.raises(Conflict) as refused:
        await take_back(market, customer, given.transaction_id, "r-2")
    assert refused.value.code == "already_reversed"
    assert await available(market, customer) == GIFT
    named = await market.scalar("SELECT reverses FROM ledger_transaction WHERE id = :id", id=taken.transaction_id)
    assert named == given.transaction_id
    await assert_intact(market)


async def test_a_reference_reverses_one_transaction(market: Market, customer: Customer) -> None:
    first, second = [await move(market, customer, "goodwill_credit", 500, f"ticket {n}") for n in (1, 2)]
    await take_back(market, customer, first.transaction_id, "r-1")
    with pytest.raises(Conflict):
        await take_back(market, customer, second.transaction_id, "r-1")


async def test_usage_is_not_reversed_as_a_whole(market: Market, customer: Customer) -> None:
    grant = await market.ask(customer, 1_000_000)
    await market.ingest(market.event(customer, grant.grant_id))
    usage = await market.scalar("SELECT id FROM ledger_transaction WHERE kind = 'usage'")
    with pytest.raises(Invalid) as refused:
        await take_back(market, customer, usage)
    assert refused.value.code == "not_reversible"
    with pytest.raises(NotFound):
        await take_back(market, customer, new_id())


async def test_what_needs_a_reason_is_refused_without_one(market: Market, customer: Customer) -> None:
    with pytest.raises(Invalid) as refused:
        await move(market, customer, "goodwill_credit", 500, "ticket 7", reason=None)
    assert refused.value.param == "reason"


@pytest.mark.parametrize("amount_nano", [0, -5, 10**18 + 1])
async def test_an_impossible_amount_is_refused(market: Market, customer: Customer, amount_nano: int) -> None:
    with pytest.raises(Invalid):
        await move(market, customer, "top_up", amount_nano, "bank 1")


async def test_every_movement_is_announced_under_its_own_id(market: Market, customer: Customer) -> None:
    moved = await move(market, customer, "top_up", 5_000, "bank 1")
    payload = await market.scalar("SELECT payload FROM outbox WHERE id = :id", id=moved.transaction_id)
    assert (payload["kind"], payload["amount"], payload["reference"]) == ("top_up", "0.000005000", "bank 1")


async def test_a_statement_sums_to_what_is_available(market: Market, customer: Customer) -> None:
    await move(market, customer, "top_up", 5_000, "bank 1")
    grant = await market.ask(customer, 1_000_000)
    await market.ingest(market.event(customer, grant.grant_id))
    await move(market, customer, "refund", 1_000, "out 1")
    amounts = await statement(market, customer)
    assert len(amounts) == 4
    assert sum(amounts) == await available(market, customer)


async def statement(market: Market, customer: Customer) -> list[int]:
    async with market.database.tenant(customer.scope) as session:
        rows = await list_transactions(session, customer.scope, limit=100)
    return [row.amount_nano for row in rows]
