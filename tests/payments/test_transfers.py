"""What a transfer brings is settled when it arrives, to the cent: a part settles a part, and more is credit."""

from itertools import count

import pytest

from chappe_billing.dunning.service import read_book
from chappe_billing.payments.calling import LEASE
from chappe_billing.payments.models import Method
from chappe_control.payments.office import PaymentOffice
from chappe_kernel.money import NANO_PER_UNIT
from tests.invoices.conftest import CENT
from tests.money.cut import BROKEN, Cut
from tests.payments.collecting import GROSS_MINOR, GROSS_NANO, Collector
from tests.payments.test_withdrawing import requests, settle, transfer, withdraw


async def hear_often(collector: Collector) -> None:
    """In its order, and the other, and again."""
    bodies = await collector.world.events()
    for body in [*bodies[::-1], *bodies]:
        await collector.world.hear(body)


async def test_a_part_settles_a_part_and_the_rest_is_dunned(collector: Collector) -> None:
    customer, invoice_id = await collector.invoiced()
    await collector.collect()
    for came, left in ((1, 251), (99, 152)):
        await transfer(collector, customer, came)
        await hear_often(collector)
        assert (await collector.open_nano(invoice_id), await collector.states()) == (left * CENT, ["open"])
        assert await withdraw(collector) == 0, "Stripe waits for just what is open"
    async with collector.world.database.audit() as session:
        [owed] = (await read_book(session, limit=10)).entries
    assert owed.open_nano == 152 * CENT
    assert await collector.told() == []
    await transfer(collector, customer, 152)
    await hear_often(collector)
    assert (await collector.open_nano(invoice_id), await collector.states()) == (0, ["succeeded"])
    assert await collector.world.sql("SELECT reason FROM payment_quarantine") == []
    assert await collector.world.sql("SELECT DISTINCT rail FROM ledger_transaction WHERE kind = 'payment'") == [
        ("bank_transfer",)
    ]
    assert await collector.world.sql("SELECT count(*), sum(amount_nano) FROM invoice_settlement") == [(3, GROSS_NANO)]
    await collector.verify()


async def test_more_than_is_open_is_credit_and_is_told(collector: Collector) -> None:
    customer, invoice_id = await collector.invoiced()
    await collector.collect()
    await transfer(collector, customer, GROSS_MINOR + 1)
    await hear_often(collector)
    assert (await collector.open_nano(invoice_id), await collector.states()) == (0, ["succeeded"])
    assert await collector.office.funds(customer) == 1 + CENT
    credited = await collector.world.sql("SELECT payload ->> 'credited' FROM outbox WHERE payload ? 'credited'")
    assert credited == [("0.010000000",)]
    await collector.verify()


async def test_credit_that_lies_at_stripe_is_counted_once(collector: Collector) -> None:
    """The next invoice has it deducted, and Stripe, which takes it first, is asked for that much more."""
    customer, _ = await collector.invoiced()
    await collector.collect()
    await transfer(collector, customer, GROSS_MINOR + 52)
    await hear_often(collector)
    second = await collector.invoice(customer)
    assert await collector.open_nano(second) == GROSS_NANO - 52 * CENT
    await collector.collect()
    assert await requests(collector) == [("paid", GROSS_MINOR), ("open", GROSS_MINOR)]
    assert await withdraw(collector) == 0
    await hear_often(collector)
    assert await withdraw(collector) == 0
    assert await collector.open_nano(second) == GROSS_NANO - 52 * CENT
    await transfer(collector, customer, GROSS_MINOR - 52)
    await hear_often(collector)
    assert await collector.open_nano(second) == 0
    assert await collector.states() == ["succeeded", "succeeded"]
    assert await collector.world.sql("SELECT sum(net_minor), sum(counted_minor) FROM payment_cash") == [
        (0, 2 * GROSS_MINOR)
    ]
    await collector.verify()


async def test_a_part_of_what_is_withdrawn_stays_the_payers(collector: Collector) -> None:
    """A part came, then the rest another way, and more: Stripe gives its part back, and the next invoice takes it."""
    customer, invoice_id = await collector.invoiced()
    await collector.collect()
    await transfer(collector, customer, 100)
    await hear_often(collector)
    await settle(collector, invoice_id, amount_nano=100 * CENT)
    assert await withdraw(collector) == 1
    await hear_often(collector)
    assert await collector.collect() == 1
    assert await requests(collector) == [("void", GROSS_MINOR), ("open", 152)]
    await hear_often(collector)
    assert await collector.open_nano(invoice_id) == 52 * CENT
    await transfer(collector, customer, 52)
    await hear_often(collector)
    assert (await collector.open_nano(invoice_id), await collector.states()) == (0, ["expired", "succeeded"])
    assert await collector.office.funds(customer) == 1
    await collector.verify()


@pytest.mark.parametrize("order", ["ours", "other"])
async def test_one_transfer_pays_two_invoices(collector: Collector, order: str) -> None:
    """Also when Stripe heard of them in the other order, and so puts the money elsewhere than we do."""
    customer, first = await collector.invoiced()
    if order == "other":
        await collector.world.stripe.switch("fault", path="/v1/invoices", do="500", times=1)
    await collector.collect()
    second = await collector.invoice(customer)
    await collector.collect()
    collector.world.clock.advance(LEASE.total_seconds())
    await collector.world.work()
    await transfer(collector, customer, GROSS_MINOR + 100)
    await hear_often(collector)
    assert (await collector.open_nano(first), await collector.open_nano(second)) == (0, GROSS_NANO - 100 * CENT)
    await transfer(collector, customer, GROSS_MINOR - 100)
    await hear_often(collector)
    assert (await collector.open_nano(second), await collector.states()) == (0, ["succeeded", "succeeded"])
    await collector.verify()


async def test_a_top_up_is_posted_when_it_is_whole_and_its_rest_is_credit(collector: Collector) -> None:
    """Its tax is due on what was asked for; what came beyond that is a deposit."""
    customer = await collector.make_buyer()
    page = await collector.world.begin(customer.scope, 10, Method.BANK_TRANSFER)
    await collector.world.stripe.submit(page, type="customer_balance")
    await transfer(collector, customer, 1000)
    await hear_often(collector)
    assert await collector.office.funds(customer) == 1
    await transfer(collector, customer, 250)
    await hear_often(collector)
    assert await collector.office.funds(customer) == 1 + 10 * NANO_PER_UNIT + 50 * CENT
    assert await collector.states() == ["succeeded"]
    await collector.verify()


async def test_a_transfer_in_another_currency_is_nobodys_credit(collector: Collector) -> None:
    customer, invoice_id = await collector.invoiced()
    await collector.collect()
    sent = await collector.world.customer(customer.scope)
    await collector.world.stripe.switch("transfer", customer=sent, amount=GROSS_MINOR, currency="usd")
    await hear_often(collector)
    assert await collector.open_nano(invoice_id) == GROSS_NANO
    assert await collector.world.sql("SELECT reason, currency, amount_minor FROM payment_quarantine") == [
        ("wrong_currency", "USD", GROSS_MINOR)
    ]
    await collector.verify()


async def test_a_transfer_that_is_cut_anywhere_settles_once(
    collector: Collector, crashing: PaymentOffice, cut: Cut
) -> None:
    customer, invoice_id = await collector.invoiced()
    await collector.collect()
    await transfer(collector, customer, 100)
    [body] = [one for one in await collector.world.events() if b'"type":"funded"' in one]
    for number in count():
        cut.arm(before=number)
        try:
            await crashing.hear(body, collector.world.sign(body))
        except BROKEN:
            assert await collector.open_nano(invoice_id) == GROSS_NANO
        else:
            break
    assert number > 10, "it was cut before many statements"
    await hear_often(collector)
    assert await collector.open_nano(invoice_id) == GROSS_NANO - 100 * CENT
    await collector.verify()
