"""Tables of the feed: what waits, batches, what is in them, and what their consumer said."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, UniqueConstraint, func, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from chappe_store.base import Base


class RatedUsageWaiting(Base):
    """A ledger transaction of a tenant's, or with `is_event` a request that was free of charge, that is in no batch
    yet. Triggers write it in the transaction that posts; closing a batch takes it away in the transaction that closes.
    """

    __tablename__ = "rated_usage_waiting"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    is_event: Mapped[bool]


class RatedUsageBatch(Base):
    """A closed batch, for ever as it is. Its content follows from its entries; `digest` is the SHA-256 of that.

    `totals` are its own sums by kind and currency, `running` those of all batches up to it by currency. `chain` is the
    digest of its manifest, which holds `previous`, the chain of the batch before.
    """

    __tablename__ = "rated_usage_batch"
    __table_args__ = (
        CheckConstraint(
            "sequence >= 1 AND (sequence = 1) = (previous IS NULL) AND (sequence > 1 OR records_before = 0)",
            name="numbered",
        ),
        CheckConstraint("records >= 1 AND records_before >= 0 AND size_bytes >= 1", name="records"),
        CheckConstraint("length(digest) = 32 AND length(chain) = 32 AND length(previous) = 32", name="digests"),
        UniqueConstraint("records_before"),
        UniqueConstraint("chain"),
    )

    sequence: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    epoch: Mapped[UUID]
    format: Mapped[int]
    closed_at: Mapped[datetime] = mapped_column(server_default=func.now())
    records: Mapped[int]
    records_before: Mapped[int]
    size_bytes: Mapped[int]
    digest: Mapped[bytes]
    totals: Mapped[list[Any]] = mapped_column(JSONB)
    running: Mapped[list[Any]] = mapped_column(JSONB)
    previous: Mapped[bytes | None] = mapped_column(ForeignKey("rated_usage_batch.chain"))
    chain: Mapped[bytes]


class RatedUsageEntry(Base):
    """A ledger transaction, or a request that was free of charge, and where it is in the feed.

    `amount_nano` is what it charges the tenant; what it gives is negative. A usage transaction is a record for each of
    its requests, anything else is one.
    """

    __tablename__ = "rated_usage_entry"
    __table_args__ = (
        CheckConstraint("num_nonnulls(transaction_id, request_id) = 1", name="subject"),
        CheckConstraint("position >= 0 AND records >= 1", name="records"),
        UniqueConstraint("transaction_id"),
        UniqueConstraint("request_id"),
        Index(None, "tenant_id", "sequence", "position"),
    )

    sequence: Mapped[int] = mapped_column(
        ForeignKey("rated_usage_batch.sequence", deferrable=True, initially="DEFERRED"), primary_key=True
    )
    position: Mapped[int] = mapped_column(primary_key=True)
    tenant_id: Mapped[UUID]
    transaction_id: Mapped[UUID | None]
    request_id: Mapped[UUID | None]
    kind: Mapped[str]
    currency: Mapped[str]
    records: Mapped[int]
    amount_nano: Mapped[int]
    posted_at: Mapped[datetime]


class RatedUsageReceipt(Base):
    """What a consumer said of a batch: that it has it, once; or that it wants it again, and why."""

    __tablename__ = "rated_usage_receipt"
    __table_args__ = (
        CheckConstraint("kind IN ('acknowledged', 'requested')", name="kind"),
        CheckConstraint(
            "(kind = 'requested') = (reason IS NOT NULL) AND length(reason) BETWEEN 1 AND 500", name="reason"
        ),
        Index(
            "uq_rated_usage_receipt_acknowledged",
            "sequence",
            unique=True,
            postgresql_where=text("kind = 'acknowledged'"),
        ),
        Index(None, "sequence"),
        Index("ix_rated_usage_receipt_requested", "created_at", postgresql_where=text("kind = 'requested'")),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    sequence: Mapped[int] = mapped_column(ForeignKey("rated_usage_batch.sequence"))
    kind: Mapped[str]
    reason: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
