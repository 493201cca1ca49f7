"""The tables of dunning: policies, pauses, and the log of every step."""

from datetime import date, datetime
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, Date, ForeignKey, Index, func, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from chappe_store.base import Base


class DunningPolicy(Base):
    """How a legal entity asks for its money, in days. Without a row `rules.DEFAULT_POLICY` holds."""

    __tablename__ = "dunning_policy"
    __table_args__ = (
        CheckConstraint("reminder_days BETWEEN 1 AND 60", name="reminder_days"),
        CheckConstraint("cardinality(notice_days) BETWEEN 1 AND 5", name="notice_days"),
        CheckConstraint("cardinality(retry_days) <= 10", name="retry_days"),
        CheckConstraint("suspend_days BETWEEN 1 AND 365", name="suspend_days"),
        CheckConstraint("grace_days BETWEEN 1 AND 60", name="grace_days"),
    )

    legal_entity_id: Mapped[UUID] = mapped_column(ForeignKey("legal_entity.id"), primary_key=True)
    enabled: Mapped[bool]
    reminder_days: Mapped[int | None]
    notice_days: Mapped[list[int]] = mapped_column(ARRAY(BigInteger))
    retry_days: Mapped[list[int]] = mapped_column(ARRAY(BigInteger))
    suspend_days: Mapped[int | None]
    grace_days: Mapped[int]


class DunningPause(Base):
    """Until when the operator leaves a tenant alone, and why. One is open at a time, at most; `ended_at` is when
    somebody ended it or put another in its place."""

    __tablename__ = "dunning_pause"
    __table_args__ = (
        Index("uq_dunning_pause_open", "tenant_id", unique=True, postgresql_where=text("ended_at IS NULL")),
    )

    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("tenant.id"), primary_key=True)
    id: Mapped[UUID] = mapped_column(primary_key=True)
    reason: Mapped[str]
    until: Mapped[datetime]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    ended_at: Mapped[datetime | None]


class DunningStep(Base):
    """One step about one invoice, with what was open then. Append-only; the key is what makes it happen once."""

    __tablename__ = "dunning_step"
    __table_args__ = (
        CheckConstraint("kind IN ('reminder', 'notice', 'retry', 'suspension')", name="kind"),
        Index("ix_dunning_step_taken_at", "taken_at"),
    )

    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("tenant.id"), primary_key=True)
    invoice_id: Mapped[UUID] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(primary_key=True)
    level: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    open_nano: Mapped[int]
    currency: Mapped[str]
    number: Mapped[str]
    due_on: Mapped[date] = mapped_column(Date)
    taken_at: Mapped[datetime] = mapped_column(server_default=func.now())


class DunningSuspension(Base):
    """A tenant that dunning itself suspended, and when it lifted that. What others suspend has no row here."""

    __tablename__ = "dunning_suspension"
    __table_args__ = (
        Index("uq_dunning_suspension_standing", "tenant_id", unique=True, postgresql_where=text("lifted_at IS NULL")),
    )

    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("tenant.id"), primary_key=True)
    id: Mapped[UUID] = mapped_column(primary_key=True)
    invoice_id: Mapped[UUID]
    suspended_at: Mapped[datetime] = mapped_column(server_default=func.now())
    lifted_at: Mapped[datetime | None]
