"""Payments of invoices: the invoices' own business. Each locks the budgets of all who are on the invoice."""

from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from chappe_billing.invoices.service import settle_invoice, take_back_payment
from chappe_billing.ledger.postings import Rail


async def settle(session: AsyncSession, invoice_id: UUID, *, amount_nano: int, reference: str, rail: Rail) -> UUID:
    """The money came; what was open too little of is the payer's, as a deposit. The transaction, or the first of them
    where an invoice is for several tenants."""
    settled = await settle_invoice(session, invoice_id, amount_nano=amount_nano, reference=reference, rail=rail)
    return settled.transactions[0]


async def unsettle(
    session: AsyncSession, transaction_id: UUID, gross_nano: int, *, reference: str, reason: str
) -> UUID:
    """The bank took a payment back: the invoice is open again."""
    taken = await take_back_payment(session, transaction_id, amount_nano=gross_nano, reference=reference, reason=reason)
    return taken.transactions[0]
