"""Tables of closed months."""

from datetime import date, datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, Date, ForeignKey, ForeignKeyConstraint, func
from sqlalchemy.orm import Mapped, mapped_column

from chappe_store.base import Base


class MonthCutOff(Base):
    """A tenant's month that is closed: usage is posted into it no more. `used_nano` is what the tenant paid for usage
    in it, less what was given back."""

    __tablename__ = "month_cut_off"

    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("tenant.id"), primary_key=True)
    month: Mapped[date] = mapped_column(Date, primary_key=True)
    used_nano: Mapped[int]
    cut_at: Mapped[datetime] = mapped_column(server_default=func.now())


class CutOffEntry(Base):
    """What a term did in a month: `amount_nano` to the tenant's funds, a fee is negative; none has no transaction.
    `base_nano` is what it was reckoned from."""

    __tablename__ = "cut_off_entry"
    __table_args__ = (
        ForeignKeyConstraint(["tenant_id", "month"], ["month_cut_off.tenant_id", "month_cut_off.month"]),
        CheckConstraint("(transaction_id IS NULL) = (amount_nano = 0)", name="transaction"),
    )

    tenant_id: Mapped[UUID] = mapped_column(primary_key=True)
    month: Mapped[date] = mapped_column(Date, primary_key=True)
    term_id: Mapped[UUID] = mapped_column(ForeignKey("contract_term.id"), primary_key=True)
    base_nano: Mapped[int]
    amount_nano: Mapped[int]
    transaction_id: Mapped[UUID | None]
