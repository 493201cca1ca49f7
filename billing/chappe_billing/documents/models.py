"""Tables of invoices' documents."""

from datetime import date, datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy import CheckConstraint, Date, ForeignKey, ForeignKeyConstraint, Index, Text, func
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from chappe_billing.invoices.models import Invoice
from chappe_store.base import Base


class Paper(StrEnum):
    """The kinds of documents that an invoice has."""

    PDF = "pdf"
    """The letter, PDF/A-3, with the XML inside."""
    XML = "xml"
    """The same XML alone."""


class InvoiceDocument(Base):
    """A document as it was rendered once: never changed, and not deleted before `keep_until`. `kind` is a `Paper`,
    `renderer` who made it: the same one makes the same bytes again."""

    __tablename__ = "invoice_document"
    __table_args__ = (
        ForeignKeyConstraint(["tenant_id", "invoice_id"], [Invoice.tenant_id, Invoice.id]),
        CheckConstraint("kind IN ('pdf', 'xml')", name="kind"),
        CheckConstraint("sha256 = sha256(content)", name="sha256"),
        Index("ix_invoice_document_invoice_id", "invoice_id"),
        Index("ix_invoice_document_keep_until", "keep_until"),
    )

    tenant_id: Mapped[UUID] = mapped_column(primary_key=True)
    invoice_id: Mapped[UUID] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(primary_key=True)
    content: Mapped[bytes]
    sha256: Mapped[bytes]
    renderer: Mapped[str]
    keep_until: Mapped[date] = mapped_column(Date)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class InvoiceLetter(Base):
    """That a document was mailed, and to how many: none where nobody has an address. Append-only; the key is what makes
    it happen once."""

    __tablename__ = "invoice_letter"
    __table_args__ = (
        ForeignKeyConstraint(["tenant_id", "invoice_id"], [Invoice.tenant_id, Invoice.id]),
        CheckConstraint("letters >= 0", name="letters"),
        Index("ix_invoice_letter_invoice_id", "invoice_id"),
    )

    tenant_id: Mapped[UUID] = mapped_column(primary_key=True)
    invoice_id: Mapped[UUID] = mapped_column(primary_key=True)
    letters: Mapped[int]
    mailed_at: Mapped[datetime] = mapped_column(server_default=func.now())


class DocumentRefusal(Base):
    """An issued invoice whose XML broke a rule, so that it has no document: for the operator to see. Tried again by
    another renderer, or when the row is deleted."""

    __tablename__ = "document_refusal"

    invoice_id: Mapped[UUID] = mapped_column(ForeignKey("invoice.id"), primary_key=True)
    renderer: Mapped[str]
    findings: Mapped[list[str]] = mapped_column(ARRAY(Text))
    refused_at: Mapped[datetime] = mapped_column(server_default=func.now())
