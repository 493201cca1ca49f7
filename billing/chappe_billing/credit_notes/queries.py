"""SQL of credit notes. As the operator, with the budgets of the invoice's tenants locked."""

from uuid import UUID

import msgspec
from sqlalchemy import BigInteger, cast, func, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_billing.credit_notes.planning import Amounts
from chappe_billing.documents.content import DocumentContent
from chappe_billing.invoices.models import Invoice, InvoiceFunding, InvoicePart


async def read_content(session: AsyncSession, invoice_id: UUID) -> DocumentContent:
    found = (await session.execute(select(Invoice.content).where(Invoice.id == invoice_id))).scalar_one()
    return msgspec.convert(found, DocumentContent)


async def read_notes(session: AsyncSession, invoice_id: UUID) -> list[DocumentContent]:
    """What took an invoice back so far, the oldest first."""
    statement = select(Invoice.content).where(Invoice.preceding_id == invoice_id).order_by(Invoice.id)
    return msgspec.convert(list(await session.scalars(statement)), list[DocumentContent])


async def find_note(session: AsyncSession, transaction_id: UUID) -> tuple[UUID, str, UUID | None] | None:
    """The credit note that a transaction was posted for: its id, number and the invoice that it takes back."""
    statement = (
        select(Invoice.id, Invoice.number, Invoice.preceding_id)
        .join(InvoicePart, InvoicePart.invoice_id == Invoice.id)
        .where(InvoicePart.transaction_id == transaction_id)
    )
    row = (await session.execute(statement)).one_or_none()
    return None if row is None else (row.id, row.number, row.preceding_id)


async def read_rest(session: AsyncSession, invoice_id: UUID) -> dict[UUID, Amounts]:
    """What is left of each tenant's part after all credit notes."""
    names = Amounts.__struct_fields__
    whole = await session.execute(
        select(InvoicePart.tenant_id, *(getattr(InvoicePart, name) for name in names)).where(
            InvoicePart.invoice_id == invoice_id
        )
    )
    credited = await session.execute(
        select(
            InvoicePart.tenant_id,
            *(cast(func.sum(getattr(InvoicePart, name)), BigInteger) for name in names),
        )
        .join(Invoice, Invoice.id == InvoicePart.invoice_id)
        .where(Invoice.preceding_id == invoice_id)
        .group_by(InvoicePart.tenant_id)
    )
    taken = {tenant_id: Amounts(*amounts) for tenant_id, *amounts in credited}
    rest = {tenant_id: Amounts(*amounts) for tenant_id, *amounts in whole}
    return {
        tenant_id: amounts.less(taken[tenant_id]) if tenant_id in taken else amounts
        for tenant_id, amounts in sorted(rest.items())
    }


async def read_used(session: AsyncSession, invoice_id: UUID, tenant_id: UUID) -> list[tuple[UUID, int]]:
    """What an invoice and its credit notes together use of each of a tenant's fundings, in the order of use."""
    statement = (
        select(InvoiceFunding.funding_id, cast(func.sum(InvoiceFunding.amount_nano), BigInteger))
        .join(Invoice, Invoice.id == InvoiceFunding.invoice_id)
        .where(or_(Invoice.id == invoice_id, Invoice.preceding_id == invoice_id), InvoiceFunding.tenant_id == tenant_id)
        .group_by(InvoiceFunding.funding_id)
        .order_by(InvoiceFunding.funding_id)
    )
    return [(funding_id, amount) for funding_id, amount in await session.execute(statement)]
