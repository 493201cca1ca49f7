"""Tables of usage: events, their rollups, and what could not be posted."""

from datetime import date, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, Date, ForeignKey, Index, func, text
from sqlalchemy.orm import Mapped, mapped_column

from chappe_store.base import Base


class UsageEvent(Base):
    """One request's charge, append-only, in monthly partitions by the time inside `request_id`.

    `amount` is the rated price. `granted` of it came out of the grant's pending money and `written_off` is the
    operator's loss; the rest was taken from free funds. The tenant pays `amount - written_off`. `delivered_tokens` and
    `generated_tokens` are the witnesses' completion tokens: what was generated and not charged is waived. `repeats` is
    the charged request under the same Idempotency-Key for whose sake this one is free: its amount is zero.
    """

    __tablename__ = "usage_event"
    __table_args__ = (
        CheckConstraint("outcome IN ('completed', 'disconnected', 'failed')", name="outcome"),
        Index(None, "tenant_id", "request_id"),
        Index(None, "tenant_id", "key_id", "request_id"),
        Index(None, "tenant_id", "posted_at"),
        Index("ix_usage_event_written_off", "tenant_id", "posted_at", postgresql_where=text("written_off_nano > 0")),
        Index(
            "ix_usage_event_not_completed",
            "tenant_id",
            "outcome",
            "request_id",
            postgresql_where=text("outcome <> 'completed'"),
        ),
        Index(
            "ix_usage_event_idempotency",
            "tenant_id",
            "idempotency_digest",
            "request_id",
            postgresql_where=text("idempotency_digest IS NOT NULL"),
        ),
        {"postgresql_partition_by": "RANGE (request_id)"},
    )

    request_id: Mapped[UUID] = mapped_column(primary_key=True)
    tenant_id: Mapped[UUID]
    project_id: Mapped[UUID]
    key_id: Mapped[UUID]
    grant_id: Mapped[UUID]
    region: Mapped[str]
    gateway: Mapped[str]
    listing_id: Mapped[UUID]
    price_version_id: Mapped[UUID]
    outcome: Mapped[str]
    prompt_tokens: Mapped[int]
    cached_tokens: Mapped[int]
    completion_tokens: Mapped[int]
    seconds: Mapped[int] = mapped_column(server_default=text("0"))
    images: Mapped[int] = mapped_column(server_default=text("0"))
    amount_nano: Mapped[int]
    granted_nano: Mapped[int]
    written_off_nano: Mapped[int]
    hold_nano: Mapped[int]
    started_at: Mapped[datetime]
    finished_at: Mapped[datetime]
    ttft_ms: Mapped[int | None]
    delivered_tokens: Mapped[int | None]
    generated_tokens: Mapped[int | None]
    settled_by: Mapped[str] = mapped_column(server_default="gateway")
    transaction_id: Mapped[UUID | None]
    posted_at: Mapped[datetime] = mapped_column(server_default=func.now())
    idempotency_digest: Mapped[bytes | None]
    repeats: Mapped[UUID | None]


class _Sums:
    """What every rollup adds up. The tenant paid `amount - written_off`."""

    requests: Mapped[int]
    prompt_tokens: Mapped[int]
    cached_tokens: Mapped[int]
    completion_tokens: Mapped[int]
    amount_nano: Mapped[int]
    written_off_nano: Mapped[int]


class UsageHour(_Sums, Base):
    """Sums of events by the hour in which they were posted, in the database's time."""

    __tablename__ = "usage_hour"
    __table_args__ = (Index(None, "hour"),)

    tenant_id: Mapped[UUID] = mapped_column(primary_key=True)
    hour: Mapped[datetime] = mapped_column(primary_key=True)
    project_id: Mapped[UUID] = mapped_column(primary_key=True)
    key_id: Mapped[UUID] = mapped_column(primary_key=True)
    listing_id: Mapped[UUID] = mapped_column(primary_key=True)
    region: Mapped[str] = mapped_column(primary_key=True)


class UsageMinute(_Sums, Base):
    """Sums by the minute in which usage was posted, whatever the key. A trigger on the hours keeps it, for usage of
    now alone."""

    __tablename__ = "usage_minute"
    __table_args__ = (Index(None, "minute"),)

    tenant_id: Mapped[UUID] = mapped_column(primary_key=True)
    minute: Mapped[datetime] = mapped_column(primary_key=True)
    listing_id: Mapped[UUID] = mapped_column(primary_key=True)
    region: Mapped[str] = mapped_column(primary_key=True)


class UsageDay(_Sums, Base):
    """Sums of hours by day (UTC), whatever the key. A trigger on the hours keeps it: it never differs from them."""

    __tablename__ = "usage_day"

    tenant_id: Mapped[UUID] = mapped_column(primary_key=True)
    day: Mapped[date] = mapped_column(Date, primary_key=True)
    listing_id: Mapped[UUID] = mapped_column(primary_key=True)
    region: Mapped[str] = mapped_column(primary_key=True)


class UsageMonth(_Sums, Base):
    """Sums of a tenant's hours by month (UTC). A trigger on the hours keeps it: it never differs from them."""

    __tablename__ = "usage_month"

    month: Mapped[datetime] = mapped_column(primary_key=True)
    tenant_id: Mapped[UUID] = mapped_column(primary_key=True)


class UsageKept(Base):
    """One row: from where on usage is all there. Events of before `first_request_id` were dropped with their month, and
    none comes in any more; minutes before `first_minute` were dropped too, or never kept."""

    __tablename__ = "usage_kept"
    __table_args__ = (CheckConstraint("singleton", name="singleton"),)

    singleton: Mapped[bool] = mapped_column(primary_key=True, server_default=text("true"))
    first_request_id: Mapped[UUID] = mapped_column(server_default=text("'00000000-0000-0000-0000-000000000000'"))
    first_minute: Mapped[datetime]


class SealedMonth(_Sums, Base):
    """What a month's events summed to when they were dropped."""

    __tablename__ = "usage_sealed_month"

    month: Mapped[date] = mapped_column(Date, primary_key=True)
    sealed_at: Mapped[datetime] = mapped_column(server_default=func.now())


class SealedHour(_Sums, Base):
    """The part of an hour's rollup that dropped events had."""

    __tablename__ = "usage_sealed_hour"

    tenant_id: Mapped[UUID] = mapped_column(primary_key=True)
    month: Mapped[date] = mapped_column(ForeignKey("usage_sealed_month.month"), primary_key=True)
    hour: Mapped[datetime] = mapped_column(primary_key=True)
    project_id: Mapped[UUID] = mapped_column(primary_key=True)
    key_id: Mapped[UUID] = mapped_column(primary_key=True)
    listing_id: Mapped[UUID] = mapped_column(primary_key=True)
    region: Mapped[str] = mapped_column(primary_key=True)


class SealedPosting(Base):
    """The part of a ledger transaction that dropped events had, by listing."""

    __tablename__ = "usage_sealed_posting"

    transaction_id: Mapped[UUID] = mapped_column(primary_key=True)
    month: Mapped[date] = mapped_column(ForeignKey("usage_sealed_month.month"), primary_key=True)
    listing_id: Mapped[UUID] = mapped_column(primary_key=True)
    region: Mapped[str] = mapped_column(primary_key=True)
    tenant_id: Mapped[UUID]
    amount_nano: Mapped[int]
    written_off_nano: Mapped[int]


class SealedPriceDay(_Sums, Base):
    """The part of a day's chargeable usage of a project under a price version that dropped events had."""

    __tablename__ = "usage_sealed_price_day"

    tenant_id: Mapped[UUID] = mapped_column(primary_key=True)
    month: Mapped[date] = mapped_column(ForeignKey("usage_sealed_month.month"), primary_key=True)
    day: Mapped[date] = mapped_column(Date, primary_key=True)
    project_id: Mapped[UUID] = mapped_column(primary_key=True)
    price_version_id: Mapped[UUID] = mapped_column(primary_key=True)
    seconds: Mapped[int]
    images: Mapped[int]


class SealedGrant(Base):
    """What dropped events took from a grant."""

    __tablename__ = "usage_sealed_grant"

    grant_id: Mapped[UUID] = mapped_column(primary_key=True)
    month: Mapped[date] = mapped_column(ForeignKey("usage_sealed_month.month"), primary_key=True)
    tenant_id: Mapped[UUID]
    granted_nano: Mapped[int]


class QuarantinedUsage(Base):
    """An event that could not be posted, with the reason's code. Ids, counts and times only.

    The digest tells contradicting versions of one event apart. What the event says of its tenant is unverified,
    so no tenant ever sees these rows.
    """

    __tablename__ = "usage_quarantine"

    request_id: Mapped[UUID] = mapped_column(primary_key=True)
    digest: Mapped[bytes] = mapped_column(primary_key=True)
    code: Mapped[str]
    region: Mapped[str]
    gateway: Mapped[str]
    tenant_id: Mapped[UUID]
    event: Mapped[dict[str, Any]]
    received_at: Mapped[datetime] = mapped_column(server_default=func.now())
