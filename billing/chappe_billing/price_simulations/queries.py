"""SQL of simulations."""

from collections.abc import Collection
from datetime import date, timedelta
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_billing.cut_off.months import next_month
from chappe_billing.price_simulations.reckoning import Used
from chappe_billing.prices.models import PriceVersion, UsagePriceDay
from chappe_kernel.rating import Counts, Total
from chappe_store.arrays import is_among
from chappe_store.queries import read_now

_COUNTS = ("prompt_tokens", "cached_tokens", "completion_tokens", "seconds", "images")


async def sum_month(
    session: AsyncSession, month: date, listing_ids: Collection[UUID], tenant_id: UUID | None = None
) -> list[Used]:
    """What was posted in this month (UTC) of these listings, by tenant and kind of price."""
    is_own = PriceVersion.tenant_id.is_not(None)
    groups = (
        UsagePriceDay.tenant_id,
        PriceVersion.listing_id,
        PriceVersion.region,
        is_own,
        PriceVersion.discount_basis_points,
    )
    sums = [func.sum(getattr(UsagePriceDay, name)) for name in ("requests", *_COUNTS, "amount_nano")]
    statement = (
        select(*groups, *sums)
        .join(PriceVersion, PriceVersion.id == UsagePriceDay.price_version_id)
        .where(
            UsagePriceDay.day >= month,
            UsagePriceDay.day < next_month(month),
            is_among(PriceVersion.listing_id, listing_ids),
        )
        .group_by(*groups)
    )
    if tenant_id is not None:
        statement = statement.where(UsagePriceDay.tenant_id == tenant_id)
    found = []
    for tenant, listing_id, region, own, basis_points, requests, *counts, amount_nano in await session.execute(
        statement
    ):
        total = Total(int(requests), Counts(*map(int, counts)))
        found.append(Used(tenant, listing_id, region, own, basis_points, total, int(amount_nano)))
    return found


async def last_month(session: AsyncSession) -> date:
    """The first day of the last whole month, in the database's time (UTC)."""
    before = (await read_now(session)).date().replace(day=1) - timedelta(days=1)
    return before.replace(day=1)
