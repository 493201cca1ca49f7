"""SQL of mailing documents: which were not mailed yet, and what a letter says of one. As the operator."""

from collections.abc import Sequence
from datetime import date, datetime, timedelta
from typing import Final
from uuid import UUID

import msgspec
from msgspec import Struct
from sqlalchemy import select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_billing.documents.content import DocumentKind
from chappe_billing.documents.models import InvoiceDocument, InvoiceLetter, Paper

MAILED_WITHIN: Final = timedelta(days=14)
"""What was issued longer ago is not news: who sets a mail server up is not to send a year's invoices."""


class MailedDocument(Struct, frozen=True):
    """What a letter says of an issued document. `open_nano` is of an invoice alone."""

    kind: DocumentKind
    number: str
    currency: str
    issued_on: date
    due_on: date | None
    gross_nano: int
    open_nano: int


_UNMAILED = text(
    """
    SELECT i.tenant_id, i.id FROM invoice i
    WHERE i.id > first_request_id(now() - CAST(:within AS interval))
      AND EXISTS (SELECT FROM invoice_document d WHERE d.invoice_id = i.id)
      AND NOT EXISTS (SELECT FROM invoice_letter l WHERE l.invoice_id = i.id)
    ORDER BY i.id LIMIT :limit
    """
)


async def list_unmailed(session: AsyncSession, *, limit: int) -> Sequence[tuple[UUID, UUID]]:
    """Across tenants, the oldest first: tenant and document."""
    found = await session.execute(_UNMAILED, {"within": MAILED_WITHIN, "limit": limit})
    return [(tenant_id, invoice_id) for tenant_id, invoice_id in found]


async def note_mailed(session: AsyncSession, tenant_id: UUID, invoice_id: UUID, *, letters: int) -> bool:
    """False, and nothing noted, when another process was first."""
    statement = insert(InvoiceLetter).values(tenant_id=tenant_id, invoice_id=invoice_id, letters=letters)
    made = await session.scalar(statement.on_conflict_do_nothing().returning(InvoiceLetter.invoice_id))
    return made is not None


async def find_mailed_at(session: AsyncSession, invoice_id: UUID) -> datetime | None:
    """When letters about it were ordered; None when nobody was there to get one. As a tenant its own."""
    statement = select(InvoiceLetter.mailed_at).where(InvoiceLetter.invoice_id == invoice_id, InvoiceLetter.letters > 0)
    found: datetime | None = await session.scalar(statement)
    return found


_MAILED = text(
    """
    SELECT i.kind, i.number, i.currency, i.issued_on, i.due_on, (i.gross_minor * m.nano)::bigint AS gross_nano,
           greatest(0, i.gross_minor * m.nano - coalesce(
               (SELECT sum(s.amount_nano) FROM invoice_settlement s WHERE s.invoice_id = i.id), 0
           ))::bigint AS open_nano
    FROM invoice i, LATERAL (SELECT (10 ^ (9 - i.minor_digits))::numeric AS nano) m
    WHERE i.id = :id
    """
)


async def find_mailed(session: AsyncSession, invoice_id: UUID) -> MailedDocument | None:
    row = (await session.execute(_MAILED, {"id": invoice_id})).mappings().one_or_none()
    return None if row is None else msgspec.convert(dict(row), MailedDocument)


async def read_papers(session: AsyncSession, invoice_id: UUID) -> dict[Paper, bytes]:
    """The kept bytes, of those that are kept."""
    statement = select(InvoiceDocument.kind, InvoiceDocument.content).where(InvoiceDocument.invoice_id == invoice_id)
    return {Paper(kind): content for kind, content in await session.execute(statement)}
