"""SQL of corrections. As the operator."""

from collections import defaultdict
from collections.abc import Collection
from datetime import timedelta
from uuid import UUID

from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased

from chappe_billing.discrepancies.models import UsageDiscrepancy
from chappe_billing.ledger.models import PublisherShare
from chappe_billing.price_corrections.dues import GivenEarlier, Story, Wrong
from chappe_billing.price_corrections.models import PriceCorrection
from chappe_billing.price_corrections.taking_back import Shared, Taken, Term
from chappe_billing.prices.models import PriceVersion, UsagePriceDay
from chappe_billing.prices.queries import price_of
from chappe_billing.usage.models import UsageEvent
from chappe_kernel.rating import Counts, Outcome, Total, discounted
from chappe_store.arrays import is_among

Under = tuple[UUID, UUID]
"""A tenant, and a version under which it used something."""

_COUNTS = ("prompt_tokens", "cached_tokens", "completion_tokens", "seconds", "images")


async def find_wrong(session: AsyncSession, within: timedelta) -> list[Wrong]:
    """What was reverted so long ago at most, and every discount that followed it meanwhile."""
    wrong, right = aliased(PriceVersion), aliased(PriceVersion)
    statement = (
        select(PriceVersion, right)
        .join(right, right.starts_at > func.now() - within)
        .join(wrong, wrong.id == right.reverts_id)
        .where(
            PriceVersion.listing_id == wrong.listing_id,
            PriceVersion.region == wrong.region,
            (PriceVersion.id == wrong.id)
            | (
                wrong.tenant_id.is_(None)
                & ~wrong.for_batches
                & PriceVersion.discount_basis_points.is_not(None)
                & (PriceVersion.starts_at >= wrong.starts_at)
                & (PriceVersion.starts_at < right.starts_at)
            ),
        )
    )
    found = []
    for version, right_version in await session.execute(statement):
        price = price_of(right_version)
        follows = right_version.tenant_id is None and not right_version.for_batches
        if follows and version.discount_basis_points is not None:
            price = discounted(price, version.discount_basis_points)
        found.append(Wrong(version.id, version.listing_id, version.region, price, right_version.id))
    return found


async def sum_used(
    session: AsyncSession, version_ids: Collection[UUID], tenant_id: UUID | None = None
) -> dict[Under, tuple[Total, int]]:
    """What each tenant, or this one, used under each version, and paid for it."""
    sums = [func.sum(getattr(UsagePriceDay, name)) for name in ("requests", *_COUNTS)]
    paid = func.sum(UsagePriceDay.amount_nano - UsagePriceDay.written_off_nano)
    statement = (
        select(UsagePriceDay.tenant_id, UsagePriceDay.price_version_id, paid, *sums)
        .where(is_among(UsagePriceDay.price_version_id, version_ids))
        .group_by(UsagePriceDay.tenant_id, UsagePriceDay.price_version_id)
    )
    if tenant_id is not None:
        statement = statement.where(UsagePriceDay.tenant_id == tenant_id)
    return {
        (tenant, version_id): (Total(int(requests), Counts(*map(int, counts))), int(paid_nano))
        for tenant, version_id, paid_nano, requests, *counts in await session.execute(statement)
    }


async def sum_given(
    session: AsyncSession, version_ids: Collection[UUID], tenant_id: UUID | None = None
) -> dict[Under, int]:
    """What was given back so far to each tenant, or to this one, by version."""
    statement = (
        select(PriceCorrection.tenant_id, PriceCorrection.price_version_id, func.sum(PriceCorrection.corrected_nano))
        .where(is_among(PriceCorrection.price_version_id, version_ids))
        .group_by(PriceCorrection.tenant_id, PriceCorrection.price_version_id)
    )
    if tenant_id is not None:
        statement = statement.where(PriceCorrection.tenant_id == tenant_id)
    return {(tenant, version_id): int(given) for tenant, version_id, given in await session.execute(statement)}


async def given_earlier(
    session: AsyncSession, tenant_id: UUID, wrong: Collection[Wrong]
) -> dict[UUID, list[GivenEarlier]]:
    """What discrepancies gave back before the revert, by version. Later ones were reckoned at the right price."""
    right = aliased(PriceVersion)
    statement = (
        select(UsageDiscrepancy, UsageEvent, right.id)
        .join(UsageEvent, UsageEvent.request_id == UsageDiscrepancy.request_id)
        .join(right, is_among(right.id, {one.reverted_by for one in wrong}))
        .where(
            UsageDiscrepancy.tenant_id == tenant_id,
            UsageDiscrepancy.corrected_nano.is_not(None),
            UsageDiscrepancy.resolved_at < right.created_at,
            is_among(UsageEvent.price_version_id, {one.version_id for one in wrong}),
        )
    )
    pairs = {(one.version_id, one.reverted_by) for one in wrong}
    found = defaultdict(list)
    for discrepancy, event, reverted_by in await session.execute(statement):
        if (event.price_version_id, reverted_by) in pairs:
            posted = Story(Outcome(event.outcome), Counts(*(getattr(event, name) for name in _COUNTS)))
            counts = Counts(discrepancy.prompt_tokens, discrepancy.cached_tokens, discrepancy.completion_tokens)
            other = Story(Outcome(discrepancy.outcome), counts)
            found[event.price_version_id].append(GivenEarlier(discrepancy.corrected_nano or 0, posted, other))
    return dict(found)


async def read_shared(session: AsyncSession, tenant_id: UUID, wrong: Wrong) -> list[Shared]:
    """What publishers got of the tenant's usage of the listing in the region, on days when it used the version.

    Where it used others on the same day, the transaction's events say which part of it is the version's. Of a month
    whose events were dropped the day's sums say it.
    """
    values = {"tenant": tenant_id, "listing": wrong.listing_id, "region": wrong.region, "version": wrong.version_id}
    return [
        Shared(Term(publisher_id, share_bp), int(base), int(share), int(part), int(whole))
        for publisher_id, share_bp, part, whole, base, share in await session.execute(_SHARED, values)
    ]


_SHARED = text(
    """
    WITH days AS (
        SELECT d.day, sum(d.amount_nano - d.written_off_nano) FILTER (WHERE d.price_version_id = :version) AS part,
               sum(d.amount_nano - d.written_off_nano) AS whole
        FROM usage_price_day d JOIN price_version v ON v.id = d.price_version_id
        WHERE d.tenant_id = :tenant AND v.listing_id = :listing AND v.region = :region
        GROUP BY d.day HAVING sum(d.amount_nano - d.written_off_nano) FILTER (WHERE d.price_version_id = :version) > 0
    ), shared AS (
        SELECT s.publisher_id, s.share_bp, s.base_nano, s.share_nano,
               CASE WHEN d.part = d.whole THEN 1 ELSE coalesce(e.part, d.part) END AS part,
               CASE WHEN d.part = d.whole THEN 1 ELSE coalesce(e.whole, d.whole) END AS whole
        FROM days d
        JOIN ledger_transaction t ON t.tenant_id = :tenant AND t.kind = 'usage'
            AND t.created_at >= d.day::timestamp AT TIME ZONE 'UTC'
            AND t.created_at < (d.day + 1)::timestamp AT TIME ZONE 'UTC'
        JOIN publisher_share s ON s.transaction_id = t.id AND s.listing_id = :listing AND s.region = :region
        LEFT JOIN LATERAL (
            SELECT coalesce(sum(u.amount_nano - u.written_off_nano)
                            FILTER (WHERE u.price_version_id = :version), 0) AS part,
                   nullif(sum(u.amount_nano - u.written_off_nano), 0) AS whole
            FROM usage_event u
            WHERE u.tenant_id = :tenant AND u.posted_at = t.created_at AND u.transaction_id = t.id
              AND u.listing_id = :listing AND u.region = :region
            HAVING sum(u.amount_nano - u.written_off_nano) > 0
        ) e ON d.part <> d.whole
    )
    SELECT publisher_id, share_bp, part, whole, sum(base_nano), sum(share_nano)
    FROM shared WHERE part > 0 GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4
    """
)


async def read_shares_taken(session: AsyncSession, tenant_id: UUID, version_id: UUID) -> dict[Term, Taken]:
    """What corrections of this version took back from publishers so far, by term."""
    columns = (PublisherShare.publisher_id, PublisherShare.share_bp)
    statement = (
        select(*columns, func.sum(-PublisherShare.base_nano), func.sum(-PublisherShare.share_nano))
        .join(PriceCorrection, PriceCorrection.transaction_id == PublisherShare.transaction_id)
        .where(PriceCorrection.tenant_id == tenant_id, PriceCorrection.price_version_id == version_id)
        .group_by(*columns)
    )
    return {
        Term(publisher_id, share_bp): Taken(int(base), int(share))
        for publisher_id, share_bp, base, share in await session.execute(statement)
    }


async def insert_correction(session: AsyncSession, correction: PriceCorrection) -> None:
    session.add(correction)
    await session.flush()
