"""The tables of plans and quotas."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import BigInteger, ForeignKey, ForeignKeyConstraint, Index, UniqueConstraint, func, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from chappe_store.base import Base


class Plan(Base):
    """What tenants are sold; `name` is what a tenant's row says, `title` what people read. `id` orders
    them by their age. `share` is how many shares of a busy deployment each tenant of it has."""

    __tablename__ = "plan"

    name: Mapped[str] = mapped_column(primary_key=True)
    id: Mapped[UUID] = mapped_column(unique=True, server_default=func.uuidv7())
    title: Mapped[str]
    share: Mapped[int] = mapped_column(server_default=text("1"))
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class _Values:
    """What a rule may limit; None where it says nothing."""

    requests_per_minute: Mapped[int | None]
    tokens_per_minute: Mapped[int | None]
    concurrent_requests: Mapped[int | None]
    monthly_budget_nano: Mapped[int | None]


class _BudgetKind:
    """What happens near and at the end of a monthly budget."""

    hard_stop: Mapped[bool] = mapped_column(server_default=text("true"))
    alert_percents: Mapped[list[int]] = mapped_column(ARRAY(BigInteger), server_default=text("'{}'"))


class PlanQuota(_Values, _BudgetKind, Base):
    """What a plan says about one model, or about all."""

    __tablename__ = "plan_quota"
    __table_args__ = (UniqueConstraint("plan", "model", postgresql_nulls_not_distinct=True),)

    id: Mapped[UUID] = mapped_column(primary_key=True)
    plan: Mapped[str] = mapped_column(ForeignKey("plan.name", ondelete="CASCADE"))
    model: Mapped[str | None]


class Quota(_Values, _BudgetKind, Base):
    """What a tenant's contract, the tenant itself, a project or a key says about one model, or about all."""

    __tablename__ = "quota"
    __table_args__ = (
        ForeignKeyConstraint(["tenant_id", "project_id"], ["project.tenant_id", "project.id"]),
        ForeignKeyConstraint(["tenant_id", "key_id"], ["api_key.tenant_id", "api_key.id"]),
        UniqueConstraint("tenant_id", "level", "project_id", "key_id", "model", postgresql_nulls_not_distinct=True),
        Index("ix_quota_alerting", "tenant_id", postgresql_where=text("alert_percents <> '{}'")),
    )

    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("tenant.id"), primary_key=True)
    id: Mapped[UUID] = mapped_column(primary_key=True)
    level: Mapped[str]
    project_id: Mapped[UUID | None]
    key_id: Mapped[UUID | None]
    model: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class QuotaRaise(_Values, Base):
    """What the operator allows a tenant beyond plan and contract, until `ends_at`."""

    __tablename__ = "quota_raise"
    __table_args__ = (Index("ix_quota_raise_tenant_id_ends_at", "tenant_id", "ends_at"),)

    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("tenant.id"), primary_key=True)
    id: Mapped[UUID] = mapped_column(primary_key=True)
    model: Mapped[str | None]
    reason: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    ends_at: Mapped[datetime]
