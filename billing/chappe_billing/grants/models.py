"""The grant's table."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, Uuid, func, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from chappe_store.base import Base

_ZERO = text("0")


class BudgetGrant(Base):
    """Until `released_at` is set, `amount - returned - posted` of it counts as pending in the tenant's budget, and
    within each of the monthly `budgets` that it was leased for."""

    __tablename__ = "budget_grant"
    __table_args__ = (
        CheckConstraint(
            "least(amount_nano, returned_nano, posted_nano) >= 0 AND returned_nano + posted_nano <= amount_nano",
            name="amounts",
        ),
        Index(
            "ix_budget_grant_open_within",
            "tenant_id",
            postgresql_where=text("released_at IS NULL AND budgets <> '{}'"),
        ),
        Index("ix_budget_grant_open", "tenant_id", "release_at", postgresql_where=text("released_at IS NULL")),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("budget.tenant_id"))
    region: Mapped[str] = mapped_column(ForeignKey("region.name"))
    gateway: Mapped[str]
    budgets: Mapped[list[UUID]] = mapped_column(ARRAY(Uuid()), server_default=text("'{}'"))
    amount_nano: Mapped[int]
    returned_nano: Mapped[int] = mapped_column(server_default=_ZERO)
    posted_nano: Mapped[int] = mapped_column(server_default=_ZERO)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    admit_until: Mapped[datetime]
    settle_by: Mapped[datetime]
    release_at: Mapped[datetime]
    released_at: Mapped[datetime | None]
