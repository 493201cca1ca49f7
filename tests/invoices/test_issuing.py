"""What an invoice says and posts: exactly what was charged, with its tax, once, and covered by what was paid before."""

import asyncio

import pytest

from chappe_billing.invoices.service import settle_invoice, take_back_payment, write_off_invoice
from chappe_billing.ledger.postings import Rail, TransactionKind
from chappe_kernel.errors import Conflict, Invalid
from tests.invoices.conftest import CENT, EURO, MakeBuyer, Office


async def test_a_postpaid_customer_owes_what_it_used_and_the_tax(office: Office, buyer: MakeBuyer) -> None:
    customer = await buyer(credit_nano=1000 * EURO)
    await office.use(customer, times=10)
    (invoice,) = await office.contents(customer)
    assert invoice.number.endswith("-000001")
    assert invoice.net_minor == sum(line.net_minor for line in invoice.lines) == 210
    assert (invoice.tax_minor, invoice.gross_minor, invoice.due_minor) == (42, 252, 252)
    assert {line.component: line.quantity for line in invoice.lines} == {"output": 10**7, "input": 10, "request": 10}
    assert await office.funds(customer) == 1, "the gift of a nano: the lines' rounding is its own account's"
    assert await office.available(customer) == 1 - 252 * CENT
    assert [one.open_nano for one in await office.open()] == [252 * CENT]
    assert await office.issue(customer) == [], "nothing is invoiced twice"
    await office.verify()


async def test_gifts_come_first_then_advances_then_what_is_taxed(office: Office, buyer: MakeBuyer) -> None:
    customer = await buyer(50 * CENT)
    await office.pay_in(customer, 100 * CENT, 20 * CENT)
    await office.allow_credit(customer, 1000 * EURO)
    await office.use(customer, times=10)
    (invoice,) = await office.contents(customer)
    assert [allowance.net_minor for allowance in invoice.allowances] == [50]
    assert [line.net_minor for line in invoice.lines if line.component == "advance"] == [-100]
    assert (invoice.net_minor, invoice.tax_minor, invoice.paid_minor) == (60, 12, 0)
    assert await office.funds(customer) == 0
    await office.verify()


async def test_a_deposit_pays_the_invoice_with_its_tax(office: Office, buyer: MakeBuyer) -> None:
    customer = await buyer()
    await office.pay_in(customer, 1000 * CENT)
    await office.use(customer, times=10)
    (invoice,) = await office.contents(customer)
    assert (invoice.gross_minor, invoice.paid_minor, invoice.due_minor, invoice.due_on) == (252, 252, 0, None)
    assert await office.open() == []
    assert await office.available(customer) == 1 + 748 * CENT
    await office.verify()


async def test_an_advance_that_was_charged_back_is_asked_for_with_tax(office: Office, buyer: MakeBuyer) -> None:
    customer = await buyer(credit_nano=1000 * EURO)
    payment = await office.pay_in(customer, 210 * CENT, 42 * CENT)
    await office.use(customer, times=10)
    (first,) = await office.contents(customer)
    assert (first.net_minor, first.gross_minor) == (0, 0)
    await office.take_back(customer, payment, 210 * CENT, 42 * CENT)
    await office.use(customer, times=10)
    (second,) = await office.contents(customer)
    assert (second.net_minor, second.tax_minor) == (420, 84)
    assert await office.funds(customer) == 1
    await office.verify()


async def test_what_comes_to_nothing_waits(office: Office, buyer: MakeBuyer) -> None:
    customer = await buyer(credit_nano=EURO)
    await office.use(customer, 10)
    assert await office.issue(customer) == []
    await office.use(customer)
    (invoice,) = await office.contents(customer)
    assert {line.component: line.quantity for line in invoice.lines}["output"] == 1_000_010
    await office.verify()


async def test_a_preview_is_the_invoice(office: Office, buyer: MakeBuyer) -> None:
    customer = await buyer(30 * CENT, credit_nano=EURO)
    await office.use(customer, times=3)
    (shown,) = (await office.preview(customer)).contents()
    (issued,) = await office.contents(customer)
    assert shown.lines == issued.lines
    assert (shown.net_minor, shown.taxes, shown.due_minor) == (issued.net_minor, issued.taxes, issued.due_minor)
    assert (await office.preview(customer)).invoices == ()


async def test_an_undecided_tax_issues_nothing(office: Office, buyer: MakeBuyer) -> None:
    customer = await buyer(credit_nano=EURO)
    await office.use(customer)
    await office.change(customer, country=None)
    with pytest.raises(Conflict, match="cannot be told") as raised:
        await office.issue(customer)
    assert raised.value.code == "tax_undecided"
    assert await office.market.scalar("SELECT count(*) FROM invoice_cut") == 0
    await office.change(customer, country="FR")
    assert len(await office.issue(customer)) == 1


async def test_ten_at_once_issue_one(office: Office, buyer: MakeBuyer) -> None:
    customer = await buyer(credit_nano=EURO)
    await office.use(customer)
    found = await asyncio.gather(*(office.issue(customer) for _ in range(10)))
    assert sum(len(issued) for issued in found) == 1
    await office.verify()


async def test_payments_settle_in_parts_once_and_what_is_over_is_kept(office: Office, buyer: MakeBuyer) -> None:
    customer = await buyer(credit_nano=1000 * EURO)
    await office.use(customer, times=10)
    (issued,) = await office.issue(customer)

    async def pay(cents: int, reference: str) -> tuple[int, int, int, bool]:
        async with office.database.operator() as session:
            done = await settle_invoice(
                session, issued.id, amount_nano=cents * CENT, reference=reference, rail=Rail.BANK_TRANSFER
            )
        return done.settled_nano // CENT, done.over_nano // CENT, done.open_nano // CENT, done.repeated

    assert await pay(100, "line 1") == (100, 0, 152, False)
    assert await pay(100, "line 1") == (100, 0, 152, True)
    assert await pay(200, "line 2") == (152, 48, 0, False)
    assert await pay(200, "line 2") == (152, 48, 0, True)
    with pytest.raises(Conflict):
        await pay(99, "line 1")
    assert await office.open() == []
    assert await office.available(customer) == 1 + 48 * CENT
    await office.verify()
    await office.use(customer)
    (next_one,) = await office.contents(customer)
    assert (next_one.gross_minor, next_one.paid_minor) == (25, 25)
    await office.verify()


async def test_a_payment_that_comes_back_opens_the_invoice_again(office: Office, buyer: MakeBuyer) -> None:
    customer = await buyer(credit_nano=1000 * EURO)
    await office.use(customer, times=10)
    (issued,) = await office.issue(customer)
    async with office.database.operator() as session:
        paid = await settle_invoice(
            session, issued.id, amount_nano=300 * CENT, reference="debit", rail=Rail.DIRECT_DEBIT
        )
    for repeated in (False, True):
        async with office.database.operator() as session:
            back = await take_back_payment(
                session, paid.transactions[0], amount_nano=300 * CENT, reference="returned", reason="no funds"
            )
        assert (back.settled_nano, back.over_nano, back.open_nano) == (-252 * CENT, -48 * CENT, 252 * CENT)
        assert back.repeated is repeated
    assert await office.available(customer) == 1 - 252 * CENT
    async with office.database.operator() as session:
        with pytest.raises(Invalid, match="left"):
            await take_back_payment(
                session, paid.transactions[0], amount_nano=1, reference="again", reason="more than there was"
            )
    await office.verify()


async def test_an_invoice_that_nobody_pays_is_given_up(office: Office, buyer: MakeBuyer) -> None:
    customer = await buyer(credit_nano=1000 * EURO)
    await office.use(customer, times=10)
    (issued,) = await office.issue(customer)
    async with office.database.operator() as session:
        with pytest.raises(Invalid, match="open"):
            await write_off_invoice(session, issued.id, amount_nano=253 * CENT, reference="case 1", reason="insolvent")
    async with office.database.operator() as session:
        done = await write_off_invoice(
            session, issued.id, amount_nano=252 * CENT, reference="case 1", reason="insolvent"
        )
    assert (done.open_nano, await office.available(customer)) == (0, 1)
    await office.verify()


async def test_a_goodwill_credit_that_was_given_up_is_not_invoiced(office: Office, buyer: MakeBuyer) -> None:
    customer = await buyer(credit_nano=1000 * EURO)
    used = await office.use(customer, times=10)
    await office.pay_in(customer, used - 1, kind=TransactionKind.WRITE_OFF)
    (invoice,) = await office.contents(customer)
    assert (invoice.net_minor, invoice.due_minor) == (0, 0)
    await office.verify()
