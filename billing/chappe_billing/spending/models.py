"""The tables behind monthly budgets."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import ForeignKey, func
from sqlalchemy.orm import Mapped, mapped_column

from chappe_store.base import Base


class UsageSpending(Base):
    """What a key paid for a listing in a month (UTC), by when it was posted. A trigger on the hours keeps it: it never
    differs from them."""

    __tablename__ = "usage_spending"

    tenant_id: Mapped[UUID] = mapped_column(primary_key=True)
    month: Mapped[datetime] = mapped_column(primary_key=True)
    project_id: Mapped[UUID] = mapped_column(primary_key=True)
    key_id: Mapped[UUID] = mapped_column(primary_key=True)
    listing_id: Mapped[UUID] = mapped_column(primary_key=True)
    paid_nano: Mapped[int]


class BudgetAlert(Base):
    """A threshold of a monthly budget was reached, with what was spent by then. `quota_id` may be a plan's."""

    __tablename__ = "budget_alert"

    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("tenant.id"), primary_key=True)
    quota_id: Mapped[UUID] = mapped_column(primary_key=True)
    month: Mapped[datetime] = mapped_column(primary_key=True)
    percent: Mapped[int] = mapped_column(primary_key=True)
    budget_nano: Mapped[int] = mapped_column(primary_key=True)
    spent_nano: Mapped[int]
    reached_at: Mapped[datetime] = mapped_column(server_default=func.now())
