"""SQL of usage."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from msgspec import Struct
from sqlalchemy import ColumnElement, func, insert, select, text
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_billing.usage.checking import KeyOwner
from chappe_billing.usage.models import QuarantinedUsage, UsageEvent, UsageHour
from chappe_catalogue.listings.models import Listing
from chappe_kernel.ids import RequestId
from chappe_kernel.rating import Counts, Outcome
from chappe_store.arrays import is_among
from chappe_store.session import TenantScope
from chappe_tenants.api_keys.models import ApiKey

_SUMS = ("requests", "prompt_tokens", "cached_tokens", "completion_tokens", "amount_nano", "written_off_nano")
_HOUR_KEY = ("tenant_id", "hour", "project_id", "key_id", "listing_id", "region")


class ListedEvent(Struct, frozen=True):
    """A settled request as its tenant sees it. `amount_nano` is what the tenant paid."""

    request_id: UUID
    region: str
    model: str
    project_id: UUID
    key_id: UUID
    price_version_id: UUID
    outcome: Outcome
    counts: Counts
    amount_nano: int
    currency: str
    started_at: datetime
    finished_at: datetime
    ttft_ms: int | None


class UsageSum(Struct, frozen=True):
    """Usage of one model in one region. `amount_nano` is what the tenant paid."""

    region: str
    model: str
    requests: int
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    amount_nano: int


async def list_events(
    session: AsyncSession, scope: TenantScope, *, limit: int, before: RequestId | None = None
) -> list[ListedEvent]:
    """At most `limit` events, newest first by id; `before` is the last one of the page before."""
    statement = (
        select(UsageEvent, Listing.name, Listing.currency)
        .join(Listing, Listing.id == UsageEvent.listing_id)
        .where(UsageEvent.tenant_id == scope.tenant_id)
        .order_by(UsageEvent.request_id.desc())
        .limit(limit)
    )
    if before is not None:
        statement = statement.where(UsageEvent.request_id < before)
    return [_listed(*row) for row in await session.execute(statement)]


async def summarise(session: AsyncSession, scope: TenantScope, *, since: datetime, until: datetime) -> list[UsageSum]:
    """Sums by region and model over whole hours from `since`'s hour to before `until`, by when usage was posted, in
    the database's time."""
    paid: ColumnElement[int] = UsageHour.amount_nano - UsageHour.written_off_nano
    columns = (
        UsageHour.requests,
        UsageHour.prompt_tokens,
        UsageHour.cached_tokens,
        UsageHour.completion_tokens,
        paid,
    )
    statement = (
        select(UsageHour.region, Listing.name, *(func.sum(column) for column in columns))
        .join(Listing, Listing.id == UsageHour.listing_id)
        .where(
            UsageHour.tenant_id == scope.tenant_id,
            UsageHour.hour >= since.replace(minute=0, second=0, microsecond=0),
            UsageHour.hour < until,
        )
        .group_by(UsageHour.region, Listing.name)
        .order_by(UsageHour.region, Listing.name)
    )
    rows = await session.execute(statement)
    return [UsageSum(region, model, *(int(total) for total in sums)) for region, model, *sums in rows]


async def find_keys(session: AsyncSession, tenant_ids: Collection[UUID], key_ids: Collection[UUID]) -> set[KeyOwner]:
    statement = select(ApiKey.id, ApiKey.project_id, ApiKey.tenant_id).where(
        is_among(ApiKey.tenant_id, tenant_ids), is_among(ApiKey.id, key_ids)
    )
    return {
        KeyOwner(key_id, project_id, tenant_id) for key_id, project_id, tenant_id in await session.execute(statement)
    }


async def find_posted(session: AsyncSession, request_ids: Collection[UUID]) -> dict[UUID, UsageEvent]:
    """Those that are posted already."""
    if not request_ids:
        return {}
    # The bounds, unlike the array, tell the planner which months to look into.
    statement = select(UsageEvent).where(
        is_among(UsageEvent.request_id, request_ids),
        UsageEvent.request_id.between(min(request_ids), max(request_ids)),
    )
    return {event.request_id: event for event in await session.scalars(statement)}


async def insert_events(session: AsyncSession, rows: Sequence[Mapping[str, Any]]) -> None:
    if rows:
        await (await session.connection()).execute(insert(UsageEvent), rows)


async def add_to_hours(session: AsyncSession, rows: Sequence[Mapping[str, Any]]) -> None:
    """Add each row's sums to the hour in which this transaction began. `rows` are distinct but for the hour."""
    if not rows:
        return
    new = upsert(UsageHour).values({"hour": func.date_trunc("hour", func.now())})
    statement = new.on_conflict_do_update(
        index_elements=list(_HOUR_KEY),
        set_={name: getattr(UsageHour, name) + new.excluded[name] for name in _SUMS},
    )
    await (await session.connection()).execute(statement, rows)


async def insert_quarantined(session: AsyncSession, rows: Sequence[Mapping[str, Any]]) -> set[tuple[UUID, bytes]]:
    """Keep what is not kept yet; which ones were new, by request and digest."""
    if not rows:
        return set()
    statement = (
        upsert(QuarantinedUsage)
        .values(rows)
        .on_conflict_do_nothing(index_elements=["request_id", "digest"])
        .returning(QuarantinedUsage.request_id, QuarantinedUsage.digest)
    )
    return {(request_id, digest) for request_id, digest in await session.execute(statement)}


async def ensure_partitions(session: AsyncSession, months_ahead: int) -> int:
    """Make the monthly partitions that are missing; how many those were. As the operator."""
    statement = text("SELECT ensure_usage_partitions(:months)")
    return int((await session.execute(statement, {"months": months_ahead})).scalar_one())


def _listed(event: UsageEvent, model: str, currency: str) -> ListedEvent:
    return ListedEvent(
        request_id=event.request_id,
        region=event.region,
        model=model,
        project_id=event.project_id,
        key_id=event.key_id,
        price_version_id=event.price_version_id,
        outcome=Outcome(event.outcome),
        counts=Counts(event.prompt_tokens, event.cached_tokens, event.completion_tokens),
        amount_nano=event.amount_nano - event.written_off_nano,
        currency=currency,
        started_at=event.started_at,
        finished_at=event.finished_at,
        ttft_ms=event.ttft_ms,
    )
