"""SQL of monthly budgets."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from msgspec import Struct
from sqlalchemy import func, select, text
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_billing.grants.models import BudgetGrant
from chappe_billing.spending.models import BudgetAlert, UsageSpending
from chappe_billing.spending.within import Spending
from chappe_catalogue.listings.models import Listing
from chappe_kernel.ids import TenantId


class ReachedAlert(Struct, frozen=True):
    """A threshold that was reached this month."""

    quota_id: UUID
    percent: int
    budget_nano: int
    spent_nano: int
    reached_at: datetime


_THIS_MONTH = func.date_trunc("month", func.now(), "UTC")


async def read_spending(session: AsyncSession, tenant_id: TenantId) -> list[Spending]:
    """This month's by key and model: as many rows as the tenant used keys, times models."""
    query = (
        select(UsageSpending.project_id, UsageSpending.key_id, Listing.name, UsageSpending.paid_nano)
        .join(Listing, Listing.id == UsageSpending.listing_id)
        .where(UsageSpending.tenant_id == tenant_id, UsageSpending.month == _THIS_MONTH)
    )
    return [Spending(*row) for row in await session.execute(query)]


async def read_pending(session: AsyncSession, tenant_id: TenantId, quota_ids: Sequence[UUID]) -> dict[UUID, int]:
    """What open grants could still spend, by the budget within which they were leased."""
    open_within = (
        select(
            func.unnest(BudgetGrant.budgets).label("quota_id"),
            (BudgetGrant.amount_nano - BudgetGrant.returned_nano - BudgetGrant.posted_nano).label("rest_nano"),
        )
        .where(
            BudgetGrant.tenant_id == tenant_id,
            BudgetGrant.released_at.is_(None),
            BudgetGrant.budgets != text("'{}'"),
        )
        .subquery()
    )
    query = (
        select(open_within.c.quota_id, func.sum(open_within.c.rest_nano))
        .where(open_within.c.quota_id.in_(quota_ids))
        .group_by(open_within.c.quota_id)
    )
    return {quota_id: int(rest_nano) for quota_id, rest_nano in await session.execute(query)}


async def insert_alerts(session: AsyncSession, rows: Sequence[Mapping[str, Any]]) -> set[tuple[UUID, int]]:
    """Note thresholds of this month; which of them were news, by quota and percent."""
    if not rows:
        return set()
    statement = (
        upsert(BudgetAlert)
        .values([{**row, "month": _THIS_MONTH} for row in rows])
        .on_conflict_do_nothing(index_elements=["tenant_id", "quota_id", "month", "percent", "budget_nano"])
        .returning(BudgetAlert.quota_id, BudgetAlert.percent)
    )
    return {(quota_id, percent) for quota_id, percent in await session.execute(statement)}


async def list_alerts(session: AsyncSession, tenant_id: TenantId) -> list[ReachedAlert]:
    """This month's, the last one first."""
    columns = (getattr(BudgetAlert, name) for name in ReachedAlert.__struct_fields__)
    query = (
        select(*columns)
        .where(BudgetAlert.tenant_id == tenant_id, BudgetAlert.month == _THIS_MONTH)
        .order_by(BudgetAlert.reached_at.desc(), BudgetAlert.percent.desc())
    )
    return [ReachedAlert(*row) for row in await session.execute(query)]
