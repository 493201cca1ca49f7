"""The tables of alerts."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, Text, func, text, true
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from chappe_store.base import Base

_STANDING = text("recovered_at IS NULL")


class AlertSettings(Base):
    """Which alerts a tenant wants, at which amounts, and who hears of them. Without a row the defaults hold: all of
    them, to owners and billing members. `language` is of addresses that are no member's."""

    __tablename__ = "alert_settings"
    __table_args__ = (
        CheckConstraint("cardinality(emails) <= 10", name="emails"),
        CheckConstraint("low_balance_nano >= 0", name="low_balance_nano"),
        CheckConstraint("low_balance_days BETWEEN 1 AND 90", name="low_balance_days"),
        CheckConstraint("forecast_limit_nano > 0", name="forecast_limit_nano"),
    )

    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("tenant.id"), primary_key=True)
    muted: Mapped[list[str]] = mapped_column(ARRAY(Text), server_default=text("'{}'"))
    to_members: Mapped[bool] = mapped_column(server_default=true())
    emails: Mapped[list[str]] = mapped_column(ARRAY(Text), server_default=text("'{}'"))
    language: Mapped[str | None]
    low_balance_nano: Mapped[int | None]
    low_balance_days: Mapped[int | None] = mapped_column(server_default=text("7"))
    forecast_limit_nano: Mapped[int | None]


class Alert(Base):
    """Something crossed its limit at `raised_at`, and stands until `recovered_at`. Of one kind and subject one stands
    at a time: that is what makes a crossing be told once."""

    __tablename__ = "alert"
    __table_args__ = (
        Index("uq_alert_standing", "tenant_id", "kind", "subject", unique=True, postgresql_where=_STANDING),
    )

    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("tenant.id"), primary_key=True)
    id: Mapped[UUID] = mapped_column(primary_key=True)
    kind: Mapped[str]
    subject: Mapped[str]
    figures: Mapped[dict[str, Any]]
    raised_at: Mapped[datetime] = mapped_column(server_default=func.now())
    recovered_at: Mapped[datetime | None]


class PaymentFailure(Base):
    """A payment that did not come in. It stands until a later one of the same invoice, or of the tenant's without one,
    did."""

    __tablename__ = "payment_failure"
    __table_args__ = (Index("ix_payment_failure_standing", "tenant_id", "invoice_id", postgresql_where=_STANDING),)

    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("tenant.id"), primary_key=True)
    id: Mapped[UUID] = mapped_column(primary_key=True)
    invoice_id: Mapped[UUID | None]
    amount_nano: Mapped[int]
    currency: Mapped[str]
    reason: Mapped[str]
    failed_at: Mapped[datetime] = mapped_column(server_default=func.now())
    recovered_at: Mapped[datetime | None]
