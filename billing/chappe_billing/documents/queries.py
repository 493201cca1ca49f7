"""SQL of invoices' documents."""

from collections.abc import Sequence
from datetime import date
from typing import Any
from uuid import UUID

from msgspec import Struct
from sqlalchemy import delete, func, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_billing.documents.models import DocumentRefusal, InvoiceDocument, Paper
from chappe_billing.invoices.models import Invoice


class Unrendered(Struct, frozen=True):
    """An issued invoice that has no documents yet. `content` is its `DocumentContent` as it was kept."""

    invoice_id: UUID
    tenant_id: UUID
    content: dict[str, Any]


class Kept(Struct, frozen=True):
    """A document, and what it was made of."""

    invoice_id: UUID
    number: str
    kind: str
    renderer: str
    is_intact: bool
    sha256: bytes
    content: dict[str, Any]


_UNRENDERED = text(
    """
    SELECT i.id AS invoice_id, i.tenant_id, i.content FROM invoice i
    WHERE NOT EXISTS (SELECT FROM invoice_document d WHERE d.invoice_id = i.id)
        AND NOT EXISTS (SELECT FROM document_refusal r WHERE r.invoice_id = i.id AND r.renderer = :renderer)
    ORDER BY i.id LIMIT :limit
    """
)


async def list_unrendered(session: AsyncSession, renderer: str, *, limit: int) -> list[Unrendered]:
    """Across tenants, the oldest first. Those that this renderer's rules refused are not asked for again."""
    found = await session.execute(_UNRENDERED, {"renderer": renderer, "limit": limit})
    return [Unrendered(**row) for row in found.mappings()]


async def insert_documents(
    session: AsyncSession, of: Unrendered, papers: dict[Paper, bytes], *, renderer: str, keep_until: date
) -> bool:
    """False, and nothing kept, when another process was first."""
    rows = [
        {
            "tenant_id": of.tenant_id,
            "invoice_id": of.invoice_id,
            "kind": kind,
            "content": content,
            "sha256": func.sha256(content),
            "renderer": renderer,
            "keep_until": keep_until,
        }
        for kind, content in papers.items()
    ]
    statement = insert(InvoiceDocument).values(rows).on_conflict_do_nothing().returning(InvoiceDocument.kind)
    kept = (await session.scalars(statement)).all()
    await session.execute(delete(DocumentRefusal).where(DocumentRefusal.invoice_id == of.invoice_id))
    return len(kept) == len(rows)


async def put_refusal(session: AsyncSession, invoice_id: UUID, renderer: str, findings: Sequence[str]) -> None:
    statement = insert(DocumentRefusal).values(invoice_id=invoice_id, renderer=renderer, findings=list(findings))
    await session.execute(
        statement.on_conflict_do_update(
            index_elements=["invoice_id"],
            set_={
                "renderer": statement.excluded.renderer,
                "findings": statement.excluded.findings,
                "refused_at": func.now(),
            },
        )
    )


async def forget_refusal(session: AsyncSession, invoice_id: UUID) -> bool:
    """So that it is tried again. False when there was none."""
    statement = delete(DocumentRefusal).where(DocumentRefusal.invoice_id == invoice_id)
    return await session.scalar(statement.returning(DocumentRefusal.invoice_id)) is not None


async def list_refusals(session: AsyncSession, *, limit: int) -> Sequence[Any]:
    """Rows of (DocumentRefusal, the invoice's number, its tenant), the newest first."""
    query = (
        select(DocumentRefusal, Invoice.number, Invoice.tenant_id)
        .join(Invoice, Invoice.id == DocumentRefusal.invoice_id)
        .order_by(DocumentRefusal.refused_at.desc())
        .limit(limit)
    )
    return (await session.execute(query)).all()


async def read_document(
    session: AsyncSession, invoice_id: UUID, kind: Paper, *, tenant_id: UUID | None = None
) -> bytes | None:
    """With a tenant its own alone."""
    query = select(InvoiceDocument.content).where(
        InvoiceDocument.invoice_id == invoice_id, InvoiceDocument.kind == kind
    )
    if tenant_id is not None:
        query = query.where(InvoiceDocument.tenant_id == tenant_id)
    found: bytes | None = await session.scalar(query)
    return found


async def has_documents(session: AsyncSession, invoice_id: UUID) -> bool:
    """Whether they are made; of another tenant's invoice a tenant's own role sees none."""
    query = select(InvoiceDocument.kind).where(InvoiceDocument.invoice_id == invoice_id).limit(1)
    return await session.scalar(query) is not None


async def read_number(session: AsyncSession, invoice_id: UUID, *, tenant_id: UUID | None = None) -> str | None:
    """The invoice's number; None when there is no such invoice, or it is another tenant's."""
    query = select(Invoice.number).where(Invoice.id == invoice_id)
    if tenant_id is not None:
        query = query.where(Invoice.tenant_id == tenant_id)
    found: str | None = await session.scalar(query)
    return found


async def list_kept(session: AsyncSession, *, after: tuple[UUID, str] | None, limit: int) -> list[Kept]:
    """Across tenants, in the order of invoice and kind, from the one after `after` on."""
    query = (
        select(
            InvoiceDocument.invoice_id,
            Invoice.number,
            InvoiceDocument.kind,
            InvoiceDocument.renderer,
            (func.sha256(InvoiceDocument.content) == InvoiceDocument.sha256).label("is_intact"),
            InvoiceDocument.sha256,
            Invoice.content,
        )
        .join(Invoice, Invoice.id == InvoiceDocument.invoice_id)
        .order_by(InvoiceDocument.invoice_id, InvoiceDocument.kind)
        .limit(limit)
    )
    if after is not None:
        query = query.where(
            (InvoiceDocument.invoice_id > after[0])
            | ((InvoiceDocument.invoice_id == after[0]) & (InvoiceDocument.kind > after[1]))
        )
    return [Kept(**row) for row in (await session.execute(query)).mappings()]


async def delete_over(session: AsyncSession) -> int:
    """What need not be kept any more, by the database's date. How many documents that were."""
    statement = delete(InvoiceDocument).where(InvoiceDocument.keep_until <= func.current_date())
    return len((await session.scalars(statement.returning(InvoiceDocument.invoice_id))).all())
