"""Tables of tax: rates, an entity's choices, the operator's rulings, and what registers say of VAT numbers."""

from datetime import date, datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, Date, ForeignKey, Index, false, func, text
from sqlalchemy.orm import Mapped, mapped_column

from chappe_store.base import Base


class VatRate(Base):
    """The standard rate of `country` (ISO 3166-1) from `starts_on` until its next row. Of two rows for one day the
    later one counts. Append-only."""

    __tablename__ = "vat_rate"
    __table_args__ = (
        CheckConstraint("country ~ '^[A-Z]{2}$'", name="country"),
        CheckConstraint("rate_bp BETWEEN 0 AND 5000", name="rate_bp"),
        CheckConstraint("length(source) BETWEEN 1 AND 200", name="source"),
        Index("ix_vat_rate_country_starts_on", "country", "starts_on", "id"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    country: Mapped[str]
    starts_on: Mapped[date] = mapped_column(Date)
    rate_bp: Mapped[int]
    source: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class VatRateWithdrawal(Base):
    """A rate that was taken back before it began. Append-only."""

    __tablename__ = "vat_rate_withdrawal"

    rate_id: Mapped[UUID] = mapped_column(ForeignKey("vat_rate.id"), primary_key=True)
    withdrawn_at: Mapped[datetime] = mapped_column(server_default=func.now())


class EntityTax(Base):
    """What a legal entity chose. With `one_stop_shop` consumers in other member states pay their own country's rate,
    which it declares through the Union's scheme; without it they pay the seller's (Directive 2006/112, article 59c).
    No row is the same as a row of defaults."""

    __tablename__ = "entity_tax"

    legal_entity_id: Mapped[UUID] = mapped_column(ForeignKey("legal_entity.id"), primary_key=True)
    one_stop_shop: Mapped[bool] = mapped_column(server_default=false())


class TaxRuling(Base):
    """The operator's own word on how a tenant is taxed from a day on, where no rule decides; None as category ends it.
    Append-only."""

    __tablename__ = "tax_ruling"
    __table_args__ = (
        CheckConstraint("category IN ('S', 'AE', 'O')", name="category"),
        CheckConstraint(
            "rate_bp BETWEEN 0 AND 5000 AND (coalesce(category, 'O') = 'S') = (rate_bp > 0)", name="rate_bp"
        ),
        CheckConstraint("length(reason) BETWEEN 1 AND 500", name="reason"),
    )

    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("tenant.id"), primary_key=True)
    id: Mapped[UUID] = mapped_column(primary_key=True)
    starts_on: Mapped[date] = mapped_column(Date)
    category: Mapped[str | None]
    rate_bp: Mapped[int]
    reason: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class VatAnswer(Base):
    """What a register said of a number that a tenant gave, kept as evidence. Append-only: an outage leaves no row.

    `name` and `address` are the register's words, which some member states do not give. `consultation_number` is the
    proof of having asked, given to a requester with a number of its own (`requester`).
    """

    __tablename__ = "vat_answer"
    __table_args__ = (
        CheckConstraint("vat_number ~ '^[A-Z0-9+*]{4,20}$'", name="vat_number"),
        CheckConstraint("outcome IN ('confirmed', 'invalid')", name="outcome"),
        CheckConstraint("source IN ('vies', 'operator')", name="source"),
        CheckConstraint("length(consultation_number) BETWEEN 1 AND 100", name="consultation_number"),
        CheckConstraint("length(name) <= 1000", name="name"),
        CheckConstraint("length(address) <= 2000", name="address"),
    )

    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("tenant.id"), primary_key=True)
    id: Mapped[UUID] = mapped_column(primary_key=True)
    vat_number: Mapped[str]
    outcome: Mapped[str]
    source: Mapped[str]
    requester: Mapped[str | None]
    consultation_number: Mapped[str | None]
    name: Mapped[str | None]
    address: Mapped[str | None]
    checked_at: Mapped[datetime] = mapped_column(server_default=func.now())


class VatCheck(Base):
    """When a tenant's number is asked about next. `attempts` counts those in vain since the last answer."""

    __tablename__ = "vat_check"
    __table_args__ = (
        CheckConstraint("vat_number ~ '^[A-Z0-9+*]{4,20}$'", name="vat_number"),
        CheckConstraint("length(last_error) <= 200", name="last_error"),
        Index("ix_vat_check_due_at", "due_at"),
    )

    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("tenant.id"), primary_key=True)
    vat_number: Mapped[str]
    due_at: Mapped[datetime] = mapped_column(server_default=func.now())
    attempts: Mapped[int] = mapped_column(server_default=text("0"))
    last_error: Mapped[str | None]
    last_tried_at: Mapped[datetime | None]
