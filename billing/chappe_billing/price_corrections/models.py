"""The table of corrections."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, func
from sqlalchemy.orm import Mapped, mapped_column

from chappe_store.base import Base


class PriceCorrection(Base):
    """Money given back to a tenant for what it used under a wrong version, in a ledger transaction of its own.

    By then it had paid `paid_nano` under the version, and would have paid `right_nano`. Usage that comes in later is
    given back by a further row: what is due is always the difference, less what all rows gave.
    """

    __tablename__ = "price_correction"
    __table_args__ = (
        Index(None, "tenant_id", "price_version_id"),
        CheckConstraint("corrected_nano BETWEEN 1 AND 1000000000000000000", name="corrected_nano"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("tenant.id"))
    price_version_id: Mapped[UUID] = mapped_column(ForeignKey("price_version.id"))
    reverted_by: Mapped[UUID] = mapped_column(ForeignKey("price_version.id"))
    paid_nano: Mapped[int]
    right_nano: Mapped[int]
    corrected_nano: Mapped[int]
    transaction_id: Mapped[UUID] = mapped_column(unique=True)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
