"""The table of contract terms."""

from datetime import date, datetime
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, Date, ForeignKey, func, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from chappe_store.base import Base

_NONE = text("'{}'")


class ContractTerm(Base):
    """What a tenant agreed to for whole months (their first days, both included); without a last one it goes on.

    `amount_nano` is what is paid at least: each month under a minimum, in all of its months under a commitment. A
    volume discount has tiers instead: of what was used from `tier_from_nano` on, so many basis points are given back.
    """

    __tablename__ = "contract_term"
    __table_args__ = (
        CheckConstraint("kind IN ('volume_discount', 'minimum', 'commitment')", name="kind"),
        CheckConstraint("amount_nano BETWEEN 1 AND 1000000000000000000", name="amount_nano"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("tenant.id"), index=True)
    kind: Mapped[str]
    first_month: Mapped[date] = mapped_column(Date)
    last_month: Mapped[date | None] = mapped_column(Date)
    amount_nano: Mapped[int | None]
    tier_from_nano: Mapped[list[int]] = mapped_column(ARRAY(BigInteger), server_default=_NONE)
    tier_basis_points: Mapped[list[int]] = mapped_column(ARRAY(BigInteger), server_default=_NONE)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
