"""Payments of invoices: the invoices' own business. Each locks the budgets of all who are on the invoice."""

from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from chappe_billing.invoices import queries
from chappe_billing.invoices.service import Settled, settle_invoice, take_back_payment
from chappe_billing.invoices.settling import references
from chappe_billing.ledger.postings import AccountKind, Rail
from chappe_kernel.errors import Invalid, NotFound


async def settle(session: AsyncSession, invoice_id: UUID, *, amount_nano: int, reference: str, rail: Rail) -> Settled:
    """The money came; what was open too little of is the payer's, as a deposit. It is several transactions where an
    invoice is for several tenants."""
    return await settle_invoice(session, invoice_id, amount_nano=amount_nano, reference=reference, rail=rail)


async def unsettle(
    session: AsyncSession, invoice_id: UUID, paid: str, amount_nano: int, *, reference: str, reason: str
) -> UUID:
    """The bank took back so much of the payment that was booked as `paid`: the invoice is open again. The transaction,
    or the first of them where the invoice is for several tenants: of those the last was settled last, and opens first.
    Raises `NotFound`, and `Invalid` for more than is left of the payment."""
    head = await queries.find_head(session, invoice_id)
    if head is None:
        raise NotFound("no such invoice")
    parts = len(await queries.list_part_tenants(session, invoice_id)) + 1
    clearing = AccountKind.PAYMENT_CLEARING
    booked = await queries.find_by_references(session, head.legal_entity_id, references(paid, parts), clearing)
    names = iter(references(reference, parts))
    made: list[UUID] = []
    for one in reversed(booked):
        taken = min(amount_nano, -await queries.sum_left(session, one.id, clearing))
        if taken > 0:
            name = next(names)
            back = await take_back_payment(session, one.id, amount_nano=taken, reference=name, reason=reason)
            made += back.transactions
            amount_nano -= taken
    if amount_nano or not made:
        raise Invalid("so much of the payment is not left", code="amount_too_large", param="amount")
    return made[0]
