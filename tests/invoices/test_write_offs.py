"""Giving up what an invoice asks for: once, by the invoice alone, with its tax or without, until it is taken back."""

import pytest

from chappe_billing.dunning.service import dun
from chappe_billing.funds.service import Movement, move_funds, reverse
from chappe_billing.invoices.service import Settled, settle_invoice, take_back_write_off, write_off_invoice
from chappe_billing.ledger.postings import Rail, TransactionKind
from chappe_kernel.errors import Conflict, Invalid
from tests.invoices.conftest import CENT, EURO, MakeBuyer, Office


async def test_nothing_is_given_up_twice_by_funds_and_by_the_invoice(office: Office, buyer: MakeBuyer) -> None:
    customer = await buyer(credit_nano=1000 * EURO)
    await office.use(customer, times=10)
    (issued,) = await office.issue(customer)
    unbilled = await office.use(customer)

    async def move(amount_nano: int, reference: str) -> None:
        asked = Movement(
            kind=TransactionKind.WRITE_OFF, amount_nano=amount_nano, reference=reference, reason="insolvent"
        )
        async with office.database.operator() as session:
            await move_funds(session, customer.tenant_id, asked)

    for too_much in (252 * CENT, unbilled):
        with pytest.raises(Invalid, match="beside its invoices"):
            await move(too_much, "case 1")
    await move(unbilled - 1, "case 1")
    async with office.database.operator() as session:
        await write_off_invoice(session, issued.id, reference="case 2", reason="insolvent")
    assert await office.available(customer) == 0
    with pytest.raises(Invalid, match="beside its invoices"):
        await move(1, "case 3")
    await office.verify()


async def test_the_tax_of_what_is_given_up_is_owed_until_it_is_taken_back(office: Office, buyer: MakeBuyer) -> None:
    customer = await buyer(credit_nano=1000 * EURO)
    await office.use(customer, times=10)
    (issued,) = await office.issue(customer)

    async def give_up(amount_nano: int | None, reference: str, *, reclaims_tax: bool) -> Settled:
        async with office.database.operator() as session:
            return await write_off_invoice(
                session,
                issued.id,
                amount_nano=amount_nano,
                reference=reference,
                reason="insolvent",
                reclaims_tax=reclaims_tax,
            )

    await give_up(52 * CENT, "gross", reclaims_tax=False)
    assert (await office.booked("write_off"), await office.booked("vat_payable")) == (-52 * CENT, 42 * CENT)
    rest = await give_up(None, "net", reclaims_tax=True)
    # Of 2.00 with a sixth of it tax.
    tax = 42 * CENT * 200 // 252
    assert (rest.settled_nano, rest.open_nano) == (200 * CENT, 0)
    assert await office.booked("vat_payable") == 42 * CENT - tax
    assert await office.booked("write_off") == -252 * CENT + tax
    again = await give_up(None, "net", reclaims_tax=True)
    assert again.repeated and again.transactions == rest.transactions
    with pytest.raises(Conflict) as other:
        await give_up(None, "net", reclaims_tax=False)
    assert other.value.code == "reference_taken"
    await office.verify()


async def test_a_write_off_is_taken_back_when_the_money_comes_after_all(office: Office, buyer: MakeBuyer) -> None:
    customer = await buyer(credit_nano=1000 * EURO)
    await office.use(customer, times=10)
    (issued,) = await office.issue(customer)
    async with office.database.operator() as session:
        lost = await write_off_invoice(session, issued.id, reference="loss", reason="insolvent", reclaims_tax=True)
    (transaction,) = lost.transactions
    assert await office.open() == []
    async with office.database.operator() as session:
        with pytest.raises(Invalid, match="not reversed"):
            await reverse(session, customer.tenant_id, transaction, reference="behind its back", reason="wrong")
    moved = []
    for _ in range(2):
        async with office.database.operator() as session:
            moved.append(await take_back_write_off(session, transaction, reference="paid", reason="it paid"))
    assert [one.repeated for one in moved if one is not None] == [False, True]
    async with office.database.operator() as session:
        with pytest.raises(Conflict) as twice:
            await take_back_write_off(session, transaction, reference="again", reason="it paid")
    assert twice.value.code == "already_reversed"
    assert [one.open_nano for one in await office.open()] == [252 * CENT]
    assert (await office.booked("write_off"), await office.booked("vat_payable")) == (0, 42 * CENT)
    async with office.database.operator() as session:
        await settle_invoice(session, issued.id, amount_nano=252 * CENT, reference="bank", rail=Rail.BANK_TRANSFER)
    assert await office.open() == [] and await office.available(customer) == 1
    await office.verify()


async def test_a_grant_that_has_expired_keeps_nobody_from_paying_or_dunning(office: Office, buyer: MakeBuyer) -> None:
    """What it left unexplained is for the gateways' role to free, not for the operator's."""
    customer = await buyer(credit_nano=1000 * EURO)
    await office.use(customer, times=10)
    (issued,) = await office.issue(customer)
    await office.market.ask(customer, EURO)
    connection = await office.server.superuser(office.urls.name)
    try:
        await connection.execute(
            "UPDATE budget_grant SET admit_until = now() - interval '3 hours', settle_by = now() - interval '2 hours', "
            "release_at = now() - interval '1 hour'"
        )
    finally:
        await connection.close()
    async with office.database.operator() as session:
        await settle_invoice(session, issued.id, amount_nano=CENT, reference="bank", rail=Rail.BANK_TRANSFER)
        await dun(session, customer.tenant_id)
        await write_off_invoice(session, issued.id, reference="loss", reason="insolvent")
    assert await office.open() == []
    await office.verify()
