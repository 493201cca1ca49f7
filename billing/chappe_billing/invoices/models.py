"""Tables of invoices. What was issued never changes: every table but the profiles, counters and runs is append-only."""

from datetime import date, datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, Date, ForeignKey, ForeignKeyConstraint, Index, UniqueConstraint, func, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from chappe_store.base import Base


class Outcome(StrEnum):
    """What a run made of a tenant."""

    WAITING = "waiting"
    ISSUED = "issued"
    NOTHING = "nothing"
    """There was nothing to invoice."""
    LATER = "later"
    """It could not be decided yet, for the reason that stands beside it: the run tries again."""


class SettlementKind(StrEnum):
    """What settles a part of an invoice."""

    PAYMENT = "payment"
    DEPOSIT = "deposit"
    """Untaxed money that the tenant had with us."""
    CREDIT_NOTE = "credit_note"
    WRITE_OFF = "write_off"
    REOPENED = "reopened"
    """A payment or a deposit was taken back: the amount is negative."""
    RECLAIMED = "reclaimed"
    """A write-off was taken back: the amount is negative."""


class BillingProfile(Base):
    """Whom a tenant's invoices go to and what has to stand on them. Who has no row has the defaults.

    `billed_to` is the parent on whose invoice a subsidiary stands; `split_by_project` makes an invoice of each project.
    """

    __tablename__ = "billing_profile"
    __table_args__ = (
        Index("ix_billing_profile_billed_to", "billed_to", postgresql_where=text("billed_to IS NOT NULL")),
    )

    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("tenant.id"), primary_key=True)
    purchase_order: Mapped[str | None]
    buyer_reference: Mapped[str | None]
    invoice_email: Mapped[str | None]
    language: Mapped[str] = mapped_column(server_default=text("'en'"))
    payment_terms_days: Mapped[int] = mapped_column(server_default=text("30"))
    split_by_project: Mapped[bool] = mapped_column(server_default=text("false"))
    billed_to: Mapped[UUID | None] = mapped_column(ForeignKey("tenant.id"))


class InvoiceRun(Base):
    """All invoices of a legal entity for a month. It ends when every tenant is decided about."""

    __tablename__ = "invoice_run"
    __table_args__ = (UniqueConstraint("legal_entity_id", "month"),)

    id: Mapped[UUID] = mapped_column(primary_key=True)
    legal_entity_id: Mapped[UUID] = mapped_column(ForeignKey("legal_entity.id"))
    month: Mapped[date] = mapped_column(Date)
    cut_off_at: Mapped[datetime]
    started_at: Mapped[datetime] = mapped_column(server_default=func.now())
    ended_at: Mapped[datetime | None]


class InvoiceRunTenant(Base):
    """What a run made of a tenant; `outcome` is an `Outcome`, `code` and `detail` say why it is left for later."""

    __tablename__ = "invoice_run_tenant"
    __table_args__ = (
        Index(
            "ix_invoice_run_tenant_open",
            *("run_id", "tenant_id"),
            postgresql_where=text("outcome IN ('waiting', 'later')"),
        ),
        Index(None, "tenant_id"),
    )

    run_id: Mapped[UUID] = mapped_column(ForeignKey("invoice_run.id"), primary_key=True)
    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("tenant.id"), primary_key=True)
    outcome: Mapped[str] = mapped_column(server_default=text("'waiting'"))
    code: Mapped[str | None]
    detail: Mapped[str | None]
    invoices: Mapped[int] = mapped_column(server_default=text("0"))
    decided_at: Mapped[datetime | None]


class InvoiceCounter(Base):
    """The last number that was given in a series. Locked in the transaction that issues, so that none is missing."""

    __tablename__ = "invoice_counter"

    legal_entity_id: Mapped[UUID] = mapped_column(ForeignKey("legal_entity.id"), primary_key=True)
    series: Mapped[str] = mapped_column(primary_key=True)
    last_ordinal: Mapped[int]


class Invoice(Base):
    """An issued document; `kind` is a `DocumentKind`, `content` a `DocumentContent`, amounts are in minor units.

    `source_id` is the transaction that an advance invoice is for, or that a credit note of one follows from.
    `paid_minor` is what was paid when it was issued.
    """

    __tablename__ = "invoice"
    __table_args__ = (
        UniqueConstraint("legal_entity_id", "series", "ordinal"),
        UniqueConstraint("legal_entity_id", "number"),
        UniqueConstraint("tenant_id", "id"),
        UniqueConstraint("source_id"),
        ForeignKeyConstraint(["tenant_id", "legal_entity_id"], ["tenant.id", "tenant.legal_entity_id"]),
        ForeignKeyConstraint(["legal_entity_id", "currency"], ["legal_entity.id", "legal_entity.currency"]),
        Index(None, "tenant_id", "number"),
        Index("ix_invoice_preceding_id", "preceding_id", postgresql_where=text("preceding_id IS NOT NULL")),
        Index("ix_invoice_run_id", "run_id", postgresql_where=text("run_id IS NOT NULL")),
        Index("ix_invoice_due_on", "due_on", postgresql_where=text("due_on IS NOT NULL")),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    kind: Mapped[str]
    legal_entity_id: Mapped[UUID]
    tenant_id: Mapped[UUID]
    currency: Mapped[str]
    minor_digits: Mapped[int]
    series: Mapped[str]
    ordinal: Mapped[int]
    number: Mapped[str]
    issued_on: Mapped[date] = mapped_column(Date)
    due_on: Mapped[date | None] = mapped_column(Date)
    cut_off_at: Mapped[datetime | None]
    period_from: Mapped[date | None] = mapped_column(Date)
    period_to: Mapped[date | None] = mapped_column(Date)
    net_minor: Mapped[int]
    tax_minor: Mapped[int]
    gross_minor: Mapped[int]
    paid_minor: Mapped[int] = mapped_column(server_default=text("0"))
    preceding_id: Mapped[UUID | None] = mapped_column(ForeignKey("invoice.id"))
    source_id: Mapped[UUID | None] = mapped_column(ForeignKey("ledger_transaction.id"))
    project_id: Mapped[UUID | None]
    run_id: Mapped[UUID | None] = mapped_column(ForeignKey("invoice_run.id"))
    reason: Mapped[str | None]
    content: Mapped[dict[str, Any]] = mapped_column(JSONB)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class InvoiceCut(Base):
    """What a tenant owed for all that was posted before `cut_off_at` and not invoiced before: the sum of its
    transactions, without tax."""

    __tablename__ = "invoice_cut"
    __table_args__ = (UniqueConstraint("id", "tenant_id"), Index(None, "tenant_id", "cut_off_at"))

    id: Mapped[UUID] = mapped_column(primary_key=True)
    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("tenant.id"))
    cut_off_at: Mapped[datetime]
    charged_nano: Mapped[int]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class InvoiceTransaction(Base):
    """A ledger transaction that is invoiced: once."""

    __tablename__ = "invoice_transaction"
    __table_args__ = (
        ForeignKeyConstraint(["cut_id", "tenant_id"], ["invoice_cut.id", "invoice_cut.tenant_id"]),
        Index(None, "tenant_id", "transaction_id"),
        Index(None, "cut_id"),
    )

    transaction_id: Mapped[UUID] = mapped_column(ForeignKey("ledger_transaction.id"), primary_key=True)
    tenant_id: Mapped[UUID]
    cut_id: Mapped[UUID]


class InvoicePart(Base):
    """What a document says of one tenant: its own part, and each subsidiary's on a group's. One cut may be on several
    invoices, one for each project.

    `charged_nano` and `rounding_nano` together are `lines_minor`; `gifts_minor` and `advances_minor` are deducted from
    it, `net_minor` is left and is taxed. `transaction_id` is what was posted for it. On a credit note all are what is
    taken back.
    """

    __tablename__ = "invoice_part"
    __table_args__ = (
        ForeignKeyConstraint(["cut_id", "tenant_id"], ["invoice_cut.id", "invoice_cut.tenant_id"]),
        UniqueConstraint("transaction_id"),
        Index(None, "tenant_id"),
        Index(None, "cut_id"),
    )

    invoice_id: Mapped[UUID] = mapped_column(ForeignKey("invoice.id"), primary_key=True)
    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("tenant.id"), primary_key=True)
    cut_id: Mapped[UUID | None]
    transaction_id: Mapped[UUID | None] = mapped_column(ForeignKey("ledger_transaction.id"))
    charged_nano: Mapped[int]
    rounding_nano: Mapped[int]
    lines_minor: Mapped[int]
    gifts_minor: Mapped[int]
    advances_minor: Mapped[int]
    net_minor: Mapped[int]
    tax_minor: Mapped[int]
    gross_minor: Mapped[int]


class InvoiceFunding(Base):
    """How much of a funding (a gift, an advance, a deposit) covered a document's part; negative when a credit note gave
    it back, or when more of it had been used than is left after it was taken back."""

    __tablename__ = "invoice_funding"
    __table_args__ = (
        ForeignKeyConstraint(["invoice_id", "tenant_id"], ["invoice_part.invoice_id", "invoice_part.tenant_id"]),
        CheckConstraint("amount_nano <> 0", name="amount_nano"),
        Index(None, "tenant_id"),
        Index(None, "funding_id"),
        Index(None, "invoice_id"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    funding_id: Mapped[UUID] = mapped_column(ForeignKey("ledger_transaction.id"))
    invoice_id: Mapped[UUID]
    tenant_id: Mapped[UUID]
    amount_nano: Mapped[int]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class InvoiceOpen(Base):
    """What is open of an invoice: its gross amount less all that settled it. Triggers keep it: it never differs from
    them, and what is settled is not looked at when those are wanted of which anything is open."""

    __tablename__ = "invoice_open"
    __table_args__ = (
        Index("ix_invoice_open_invoice_id", "invoice_id", postgresql_where=text("open_nano > 0")),
        Index("ix_invoice_open_tenant_id", "tenant_id", "due_on", postgresql_where=text("open_nano > 0")),
        Index("ix_invoice_open_due_on", "due_on", "tenant_id", postgresql_where=text("open_nano > 0")),
    )

    invoice_id: Mapped[UUID] = mapped_column(ForeignKey("invoice.id"), primary_key=True)
    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("tenant.id"))
    due_on: Mapped[date | None] = mapped_column(Date)
    open_nano: Mapped[int]


class InvoiceSettlement(Base):
    """What settled how much of an invoice's part; `kind` is a `SettlementKind`. What is open of a part is its gross
    amount less all of these."""

    __tablename__ = "invoice_settlement"
    __table_args__ = (
        ForeignKeyConstraint(["invoice_id", "tenant_id"], ["invoice_part.invoice_id", "invoice_part.tenant_id"]),
        UniqueConstraint(
            *("transaction_id", "invoice_id", "tenant_id"), name="uq_invoice_settlement_transaction_id_invoice_id"
        ),
        Index(None, "invoice_id", "tenant_id"),
        Index(None, "tenant_id"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    invoice_id: Mapped[UUID]
    tenant_id: Mapped[UUID]
    transaction_id: Mapped[UUID] = mapped_column(ForeignKey("ledger_transaction.id"))
    kind: Mapped[str]
    amount_nano: Mapped[int]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
