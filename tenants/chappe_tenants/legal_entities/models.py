"""The legal entity's table."""

from datetime import datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, UniqueConstraint, func, text
from sqlalchemy.orm import Mapped, mapped_column

from chappe_kernel.ids import LegalEntityId
from chappe_store.base import Base

DEFAULT_LEGAL_ENTITY_ID = LegalEntityId(UUID("00000000-0000-7000-8000-000000000000"))
"""The entity that every instance begins with: of whoever is given no other."""

BY_DEFAULT = text(f"'{DEFAULT_LEGAL_ENTITY_ID}'")
"""For columns, as the database fills them."""


class Payments(StrEnum):
    """How a legal entity collects what its customers owe."""

    STRIPE = "stripe"
    EXTERNAL = "external"
    """By the operator's own billing system, which takes the rated-usage feed: no invoice is made here."""
    NONE = "none"
    """By invoices that people see to. Nothing is sent to any payment service."""


class LegalEntity(Base):
    """A company of the operator's, with books in one currency. Who it is in law may be missing until somebody says it;
    the country is ISO 3166-1. `payments` is a `Payments`."""

    __tablename__ = "legal_entity"
    __table_args__ = (
        UniqueConstraint("id", "currency"),
        CheckConstraint("currency ~ '^[A-Z]{3}$'", name="currency"),
        CheckConstraint("payments IN ('stripe', 'external', 'none')", name="payments"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    currency: Mapped[str]
    address_line_1: Mapped[str | None]
    address_line_2: Mapped[str | None]
    postal_code: Mapped[str | None]
    city: Mapped[str | None]
    country: Mapped[str | None]
    vat_number: Mapped[str | None]
    registration: Mapped[str | None]
    payments: Mapped[str] = mapped_column(server_default=text("'none'"))
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class PaymentsSince(Base):
    """Since when a legal entity collects in a way, until its next row: kept by the database at every change.
    Append-only. The first is as old as time."""

    __tablename__ = "legal_entity_payments"
    __table_args__ = (CheckConstraint("payments IN ('stripe', 'external', 'none')", name="payments"),)

    legal_entity_id: Mapped[UUID] = mapped_column(ForeignKey("legal_entity.id"), primary_key=True)
    since: Mapped[datetime] = mapped_column(primary_key=True)
    payments: Mapped[str]
