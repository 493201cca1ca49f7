"""SQL of usage."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from msgspec import Struct
from sqlalchemy import ColumnElement, LargeBinary, any_, bindparam, func, select, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_billing.usage.checking import KeyOwner
from chappe_billing.usage.lines import READ_LINES
from chappe_billing.usage.models import QuarantinedUsage, UsageEvent, UsageHour
from chappe_billing.usage.repeating import Charged
from chappe_catalogue.listings.models import Listing
from chappe_kernel.ids import RequestId
from chappe_kernel.rating import Counts, Outcome
from chappe_store.arrays import is_among
from chappe_store.session import TenantScope

# What many events share goes once for all of them, and is read by position: a join would be planned without knowing how
# many they are.
_INSERT_EVENTS = text(
    f"""
    WITH posted AS (
        INSERT INTO usage_event (
            request_id, tenant_id, project_id, key_id, grant_id, region, gateway, listing_id, price_version_id,
            transaction_id, outcome, settled_by, prompt_tokens, cached_tokens, completion_tokens, seconds, images,
            amount_nano, granted_nano, written_off_nano, hold_nano, started_at, finished_at, ttft_ms,
            delivered_tokens, generated_tokens, idempotency_digest, repeats
        )
        SELECT l.request_id, (CAST(:tenant_id AS uuid[]))[l.standing], (CAST(:project_id AS uuid[]))[l.standing],
               (CAST(:key_id AS uuid[]))[l.standing], (CAST(:grant_id AS uuid[]))[l.standing], :region, :gateway,
               (CAST(:listing_id AS uuid[]))[l.standing], (CAST(:price_version_id AS uuid[]))[l.standing],
               (CAST(:transaction_id AS uuid[]))[l.standing], (CAST(:outcome AS text[]))[l.standing],
               (CAST(:settled_by AS text[]))[l.standing], l.prompt_tokens, l.cached_tokens, l.completion_tokens,
               l.seconds, l.images, l.amount_nano, l.granted_nano, l.written_off_nano, l.hold_nano, l.started,
               l.finished, l.ttft_ms, l.delivered_tokens, l.generated_tokens, l.idempotency_digest, l.repeats
        FROM ({READ_LINES} OFFSET 0) l
        RETURNING tenant_id, project_id, key_id, listing_id, prompt_tokens, cached_tokens, completion_tokens,
                  amount_nano, written_off_nano
    )
    INSERT INTO usage_hour AS h (
        tenant_id, hour, project_id, key_id, listing_id, region, requests, prompt_tokens, cached_tokens,
        completion_tokens, amount_nano, written_off_nano
    )
    SELECT tenant_id, date_trunc('hour', now(), 'UTC'), project_id, key_id, listing_id, :region, count(*),
           sum(prompt_tokens), sum(cached_tokens), sum(completion_tokens), sum(amount_nano), sum(written_off_nano)
    FROM posted GROUP BY tenant_id, project_id, key_id, listing_id
    ON CONFLICT (tenant_id, hour, project_id, key_id, listing_id, region) DO UPDATE SET
        requests = h.requests + excluded.requests,
        prompt_tokens = h.prompt_tokens + excluded.prompt_tokens,
        cached_tokens = h.cached_tokens + excluded.cached_tokens,
        completion_tokens = h.completion_tokens + excluded.completion_tokens,
        amount_nano = h.amount_nano + excluded.amount_nano,
        written_off_nano = h.written_off_nano + excluded.written_off_nano
    """  # noqa: S608  # of our own
)


# The bounds, unlike the array, tell the planner which months to look into.
_READ_NAMED = text(
    """
    SELECT now(), (SELECT first_request_id FROM usage_kept),
           ARRAY(
               SELECT ROW (id, project_id, tenant_id) FROM api_key
               WHERE tenant_id = ANY (CAST(:tenant_ids AS uuid[])) AND id = ANY (CAST(:key_ids AS uuid[]))
           ),
           ARRAY(
               SELECT ROW (id, tenant_id, region, CASE WHEN released_at IS NULL
                           THEN amount_nano - returned_nano - posted_nano ELSE 0 END)
               FROM budget_grant WHERE id = ANY (CAST(:grant_ids AS uuid[]))
           ),
           ARRAY(
               SELECT request_id FROM usage_event
               WHERE request_id = ANY (CAST(:request_ids AS uuid[]))
                 AND request_id BETWEEN CAST(:first AS uuid) AND CAST(:last AS uuid)
           )
    """
)


class NamedGrant(Struct, frozen=True):
    """A grant that events pay from. `rest_nano` is what it could still spend: nothing once it is released."""

    id: UUID
    tenant_id: UUID
    region: str
    rest_nano: int


class Named(Struct, frozen=True):
    """What the database knows of what a batch names."""

    now: datetime
    first_request_id: UUID
    keys: set[KeyOwner]
    grants: list[NamedGrant]
    posted: list[UUID]


class Standing(NamedTuple):
    """What many events of a batch have in common."""

    tenant_id: UUID
    project_id: UUID
    key_id: UUID
    grant_id: UUID
    listing_id: UUID
    price_version_id: UUID
    transaction_id: UUID | None
    outcome: str
    settled_by: str


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


async def read_named(
    session: AsyncSession,
    *,
    tenant_ids: Sequence[UUID],
    key_ids: Sequence[UUID],
    grant_ids: Sequence[UUID],
    request_ids: Sequence[UUID],
) -> Named:
    """What the database knows of what a batch names, in one look. `request_ids` ascend. Under the tenants' locks."""
    values = {
        "tenant_ids": tenant_ids,
        "key_ids": key_ids,
        "grant_ids": grant_ids,
        "request_ids": request_ids,
        "first": request_ids[0] if request_ids else None,
        "last": request_ids[-1] if request_ids else None,
    }
    now, first, keys, grants, posted = (await session.execute(_READ_NAMED, values)).one()
    return Named(
        now=now,
        first_request_id=first,
        keys={KeyOwner(*key) for key in keys},
        grants=[NamedGrant(*grant) for grant in grants],
        posted=posted,
    )


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


async def find_charged(
    session: AsyncSession, tenant_ids: Collection[UUID], digests: Collection[bytes], first: UUID, last: UUID
) -> list[Charged]:
    """Charged requests under one of these Idempotency-Keys' digests, whose ids are between `first` and `last`."""
    columns = (getattr(UsageEvent, name) for name in Charged.__struct_fields__)
    statement = select(*columns).where(
        is_among(UsageEvent.tenant_id, tenant_ids),
        UsageEvent.idempotency_digest == any_(bindparam(None, list(digests), ARRAY(LargeBinary()))),
        UsageEvent.request_id.between(first, last),
        UsageEvent.repeats.is_(None),
        UsageEvent.amount_nano > 0,
    )
    return [Charged(*row) for row in await session.execute(statement)]


async def insert_events(
    session: AsyncSession, region: str, gateway: str, standings: Sequence[Standing], lines: Sequence[bytes]
) -> None:
    """Insert events, and add them to the hour in which this transaction began: one statement for all of them."""
    if lines:
        shared = zip(*standings, strict=True)
        values = dict(zip(Standing._fields, map(list, shared), strict=True))
        await session.execute(
            _INSERT_EVENTS, {"region": region, "gateway": gateway, "lines": b"".join(lines), **values}
        )


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
