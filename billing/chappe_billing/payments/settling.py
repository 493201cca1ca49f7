"""Payments of invoices: the invoices' own business, by their port."""

from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from chappe_billing.ledger.postings import Rail
from chappe_billing.payments.models import Payment
from chappe_kernel.errors import Conflict


async def settle(session: AsyncSession, invoice_id: UUID, *, amount_nano: int, reference: str, rail: Rail) -> UUID:
    raise Conflict("no invoice is collected", code="no_such_invoice")


async def unsettle(session: AsyncSession, payment: Payment, gross_nano: int, *, reference: str) -> UUID:
    raise Conflict("no invoice is collected", code="no_such_invoice")
