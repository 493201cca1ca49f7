"""The table of decisions about quarantined usage."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, ForeignKeyConstraint, func
from sqlalchemy.orm import Mapped, mapped_column

from chappe_store.base import Base


class QuarantineDecision(Base):
    """What somebody decided about an event in quarantine, for good. The event stays as it came. `dismissed`: another
    version of the request is posted.

    `amount_nano` was posted, or written off; `transaction_id` is the ledger's, unless nothing moved.
    """

    __tablename__ = "usage_quarantine_decision"
    __table_args__ = (
        CheckConstraint("decision IN ('accepted', 'corrected', 'written_off', 'dismissed')", name="decision"),
        CheckConstraint("length(reason) BETWEEN 1 AND 500", name="reason"),
        ForeignKeyConstraint(["request_id", "digest"], ["usage_quarantine.request_id", "usage_quarantine.digest"]),
    )

    request_id: Mapped[UUID] = mapped_column(primary_key=True)
    digest: Mapped[bytes] = mapped_column(primary_key=True)
    decision: Mapped[str]
    reason: Mapped[str]
    amount_nano: Mapped[int]
    transaction_id: Mapped[UUID | None] = mapped_column(ForeignKey("ledger_transaction.id"))
    decided_at: Mapped[datetime] = mapped_column(server_default=func.now())
