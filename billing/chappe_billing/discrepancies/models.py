"""The discrepancy's table."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, Index, UniqueConstraint, func, text
from sqlalchemy.orm import Mapped, mapped_column

from chappe_store.base import Base


class UsageDiscrepancy(Base):
    """Another story about a posted request: what it used, and would have cost, by the other witness.

    The posted event stands. A correction in the tenant's favour is a ledger transaction of its own, which
    `transaction_id` names.
    """

    __tablename__ = "usage_discrepancy"
    __table_args__ = (
        UniqueConstraint("request_id", "digest"),
        CheckConstraint("kind IN ('witnesses_differ', 'later_record')", name="kind"),
        CheckConstraint("outcome IN ('completed', 'disconnected', 'failed')", name="outcome"),
        CheckConstraint(
            "(resolved_at IS NULL) = (reason IS NULL) AND (resolved_at IS NOT NULL OR corrected_nano IS NULL)",
            name="resolution",
        ),
        CheckConstraint(
            "corrected_nano > 0 AND transaction_id IS NOT NULL OR corrected_nano IS NULL AND transaction_id IS NULL",
            name="correction",
        ),
        Index(None, "tenant_id", "request_id"),
        Index("ix_usage_discrepancy_open", "id", postgresql_where=text("resolved_at IS NULL")),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    request_id: Mapped[UUID]
    digest: Mapped[bytes]
    tenant_id: Mapped[UUID]
    region: Mapped[str]
    gateway: Mapped[str]
    kind: Mapped[str]
    outcome: Mapped[str]
    prompt_tokens: Mapped[int]
    cached_tokens: Mapped[int]
    completion_tokens: Mapped[int]
    amount_nano: Mapped[int]
    opened_at: Mapped[datetime] = mapped_column(server_default=func.now())
    resolved_at: Mapped[datetime | None]
    reason: Mapped[str | None]
    corrected_nano: Mapped[int | None]
    transaction_id: Mapped[UUID | None]
