"""Advance invoices and credit notes: each payment on account and whatever takes it back has one document, and an
invoice is taken back as a whole or by lines, never beyond what it was."""

import asyncio

import pytest

from chappe_billing.advances.service import document_all
from chappe_billing.credit_notes.service import credit
from chappe_billing.invoices.service import settle_invoice
from chappe_billing.invoicing.numbering import Issued
from chappe_billing.ledger.postings import Rail
from chappe_kernel.errors import Conflict, Invalid
from chappe_kernel.ids import InvoiceId
from tests.invoices.conftest import CENT, EURO, MakeBuyer, Office


async def credited(office: Office, invoice_id: InvoiceId, reference: str, *lines: int) -> Issued:
    async with office.database.operator() as session:
        return await credit(session, invoice_id, reference=reference, reason="agreed", lines=lines or None)


async def numbers(office: Office, kind: str) -> list[str]:
    return list(
        await office.market.scalar(
            "SELECT coalesce(array_agg(number ORDER BY number), '{}') FROM invoice WHERE kind = :kind", kind=kind
        )
    )


async def test_each_taxed_top_up_has_one_advance_invoice(office: Office, buyer: MakeBuyer) -> None:
    customer = await buyer()
    await office.pay_in(customer, 100 * CENT, 20 * CENT)
    await office.pay_in(customer, 50 * CENT)
    assert sum(await asyncio.gather(*(document_all(office.database) for _ in range(3)))) == 1
    (number,) = await numbers(office, "advance")
    content = await office.content(number)
    assert (content.net_minor, content.tax_minor, content.paid_minor, content.due_minor) == (100, 20, 120, 0)
    await office.verify()


async def test_what_takes_a_top_up_back_gets_a_credit_note(office: Office, buyer: MakeBuyer) -> None:
    customer = await buyer()
    payment = await office.pay_in(customer, 100 * CENT, 20 * CENT)
    await office.take_back(customer, payment, 25 * CENT, 5 * CENT)
    assert await document_all(office.database) == 2
    assert await document_all(office.database) == 0
    (advance,) = await numbers(office, "advance")
    (note,) = await numbers(office, "credit_note")
    content = await office.content(note)
    assert (content.net_minor, content.tax_minor) == (25, 5)
    assert [one.number for one in content.preceding] == [advance]
    await office.take_back(customer, payment, 75 * CENT, 15 * CENT)
    assert await document_all(office.database) == 1
    await office.verify()


async def test_a_whole_invoice_is_taken_back_with_all_that_covered_it(office: Office, buyer: MakeBuyer) -> None:
    customer = await buyer(50 * CENT)
    await office.pay_in(customer, 100 * CENT, 20 * CENT)
    await office.allow_credit(customer, 1000 * EURO)
    before = await office.available(customer)
    await office.use(customer, times=10)
    (issued,) = await office.issue(customer)
    note = await credited(office, issued.id, "case 1")
    assert await credited(office, issued.id, "case 1") == note
    content = await office.content(note.number)
    assert (content.net_minor, content.tax_minor) == (60, 12)
    assert content.net_minor == sum(line.net_minor for line in content.lines) - content.allowances[0].net_minor
    assert await office.open() == []
    assert await office.available(customer) == before
    with pytest.raises(Conflict, match="nothing is left"):
        await credited(office, issued.id, "case 2")
    await office.verify()
    await office.use(customer, times=10)
    (again,) = await office.contents(customer)
    assert (again.net_minor, again.tax_minor) == (60, 12), "gift and advance are there again"
    await office.verify()


async def test_lines_are_taken_back_once_and_the_rest_later(office: Office, buyer: MakeBuyer) -> None:
    customer = await buyer(credit_nano=1000 * EURO)
    await office.use(customer, times=10)
    (issued,) = await office.issue(customer)
    content = await office.content(issued.number)
    output = 1 + [line.component for line in content.lines].index("output")
    with pytest.raises(Invalid, match="no charge"):
        await credited(office, issued.id, "case 0", 99)
    first = await credited(office, issued.id, "case 1", output)
    assert (await office.content(first.number)).net_minor == 210
    with pytest.raises(Conflict, match=r"credited|nothing is left"):
        await credited(office, issued.id, "case 2", output)
    assert await office.open() == []
    await office.verify()


async def test_what_was_paid_of_it_is_the_payers_again(office: Office, buyer: MakeBuyer) -> None:
    customer = await buyer(credit_nano=1000 * EURO)
    await office.use(customer, times=10)
    (issued,) = await office.issue(customer)
    async with office.database.operator() as session:
        await settle_invoice(session, issued.id, amount_nano=200 * CENT, reference="paid", rail=Rail.CARD)
    await credited(office, issued.id, "case 1")
    assert await office.available(customer) == 1 + 200 * CENT
    await office.use(customer)
    (later,) = await office.contents(customer)
    assert (later.gross_minor, later.paid_minor) == (25, 25)
    await office.verify()


async def test_an_invoice_that_asked_again_for_a_lost_advance_is_taken_back_too(
    office: Office, buyer: MakeBuyer
) -> None:
    customer = await buyer(credit_nano=1000 * EURO)
    payment = await office.pay_in(customer, 100 * CENT, 20 * CENT)
    await office.use(customer, times=10)
    assert [one.net_minor for one in await office.contents(customer)] == [110]
    await office.take_back(customer, payment, 100 * CENT, 20 * CENT)
    await office.use(customer, times=10)
    (issued,) = await office.issue(customer)
    assert (await office.content(issued.number)).net_minor == 310
    await credited(office, issued.id, "case 1")
    await office.verify()
    await office.use(customer, times=10)
    (again,) = await office.contents(customer)
    assert again.net_minor == 310, "it is asked for again"
    await office.verify()
