"""SQL of the request log. Every look costs about the same, however many requests there are and whatever is filtered."""

from datetime import datetime
from functools import lru_cache
from typing import Any, NamedTuple
from uuid import UUID

from msgspec import Struct
from sqlalchemy import BindParameter, Executable, bindparam, func, literal_column, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased, load_only

from chappe_billing.prices.models import PriceVersion
from chappe_billing.prices.queries import price_of
from chappe_billing.usage.models import UsageEvent
from chappe_catalogue.listings.models import Listing
from chappe_catalogue.regions.models import Region
from chappe_kernel.ids import RequestId
from chappe_kernel.rating import Counts, Outcome, Price
from chappe_store.literals import spelt_out
from chappe_store.session import TenantScope
from chappe_tenants.api_keys.models import ApiKey
from chappe_tenants.projects.models import Project

SEARCHED = 5_000
"""How many requests one look goes through at most, when no index leads to those that are wanted."""


class LogFilter(Struct, frozen=True):
    """None does not narrow."""

    listing_id: UUID | None = None
    region: str | None = None
    key_id: UUID | None = None
    outcome: Outcome | None = None


class LoggedRequest(Struct, frozen=True):
    """A row of the log. `amount_nano` is what the tenant paid."""

    request_id: UUID
    model: str
    region: str
    key_id: UUID
    key_name: str
    outcome: Outcome
    counts: Counts
    amount_nano: int
    currency: str
    started_at: datetime
    finished_at: datetime
    ttft_ms: int | None

    @property
    def duration_ms(self) -> float:
        """A gateway's wall clock may be set back while a request runs."""
        return max((self.finished_at - self.started_at).total_seconds() * 1000, self.ttft_ms or 0)


class LogLook(Struct, frozen=True):
    """What one look found. `searched_to` is the last request that it went through when it gave up early, else None."""

    requests: list[LoggedRequest]
    searched_to: UUID | None


class RequestRecord(Struct, frozen=True):
    """All that is known of one request. `rated_nano` is its price before anything was written off."""

    request_id: UUID
    model: str
    region: str
    jurisdiction: str
    gateway: str
    key_id: UUID
    key_name: str
    key_prefix: str
    key_revoked: bool
    project_name: str
    outcome: Outcome
    counts: Counts
    currency: str
    rated_nano: int
    written_off_nano: int
    hold_nano: int
    price_version_id: UUID
    price: Price
    price_starts_at: datetime
    price_ends_at: datetime | None
    """When the next version of the price took or takes over, if one was published."""
    started_at: datetime
    finished_at: datetime
    ttft_ms: int | None
    transaction_id: UUID | None
    posted_at: datetime

    @property
    def amount_nano(self) -> int:
        """What the tenant paid."""
        return self.rated_nano - self.written_off_nano


class _Logged(NamedTuple):
    """The columns of `usage_event` that a row of the log needs, by their names."""

    request_id: UUID
    tenant_id: UUID
    key_id: UUID
    listing_id: UUID
    region: str
    outcome: str
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    amount_nano: int
    written_off_nano: int
    started_at: datetime
    finished_at: datetime
    ttft_ms: int | None


_LOGGED = tuple(getattr(UsageEvent, name) for name in _Logged._fields)


async def look(
    session: AsyncSession,
    scope: TenantScope,
    wanted: LogFilter,
    *,
    limit: int,
    after: RequestId | None = None,
    oldest_first: bool = False,
) -> LogLook:
    """At most `limit` requests in the order of their start, beginning behind `after`.

    An index leads to one key's requests and to those that did not complete. For all else it goes through `SEARCHED`
    requests at most, and then says how far it came.
    """
    index, rest = _split(wanted)
    outcome = wanted.outcome if index == "outcome" else None
    matching, last = _statements(_Shape(index, outcome, tuple(rest), after is not None, oldest_first, limit, SEARCHED))
    values = {"tenant_id": scope.tenant_id, "after": after, **rest} | ({"key_id": wanted.key_id} if index else {})
    requests = [_logged(*row) for row in await session.execute(matching, values)]
    if not rest or len(requests) == limit:
        return LogLook(requests, None)
    return LogLook(requests, await session.scalar(last, values))


async def find_request(session: AsyncSession, scope: TenantScope, request_id: RequestId) -> RequestRecord | None:
    """None for one that is unknown, not settled yet, or another tenant's."""
    following = aliased(PriceVersion)
    price_ends_at = (
        select(func.min(following.starts_at))
        .where(
            following.listing_id == PriceVersion.listing_id,
            following.region == PriceVersion.region,
            following.tenant_id.is_not_distinct_from(PriceVersion.tenant_id),
            following.starts_at > PriceVersion.starts_at,
        )
        .scalar_subquery()
    )
    statement = (
        select(UsageEvent, PriceVersion, Listing.name, Region.jurisdiction, ApiKey, Project.name, price_ends_at)
        .options(load_only(ApiKey.name, ApiKey.prefix, ApiKey.revoked_at))
        .join(PriceVersion, PriceVersion.id == UsageEvent.price_version_id)
        .join(Listing, Listing.id == UsageEvent.listing_id)
        .join(Region, Region.name == UsageEvent.region)
        .join(ApiKey, (ApiKey.tenant_id == UsageEvent.tenant_id) & (ApiKey.id == UsageEvent.key_id))
        .join(Project, (Project.tenant_id == UsageEvent.tenant_id) & (Project.id == UsageEvent.project_id))
        .where(UsageEvent.tenant_id == scope.tenant_id, UsageEvent.request_id == request_id)
    )
    row = (await session.execute(statement)).one_or_none()
    return None if row is None else _record(row)


def _split(wanted: LogFilter) -> tuple[str | None, dict[str, Any]]:
    """The column that an index leads to, and the columns that must then be looked at, with what they must be."""
    named = {
        "listing_id": wanted.listing_id,
        "region": wanted.region,
        "key_id": wanted.key_id,
        "outcome": None if wanted.outcome is None else wanted.outcome.value,
    }
    rest = {name: value for name, value in named.items() if value is not None}
    for index, leads in (("outcome", wanted.outcome is not Outcome.COMPLETED), ("key_id", True)):
        if index in rest and leads:
            del rest[index]
            return index, rest
    return None, rest


class _Shape(Struct, frozen=True):
    """What stands in the statements themselves; all else are parameters."""

    index: str | None
    outcome: Outcome | None
    """The one that the index leads to."""
    rest: tuple[str, ...]
    goes_on: bool
    oldest_first: bool
    limit: int
    searched: int


# To build a statement takes longer than to run it, and a page is fetched every three seconds.
@lru_cache(maxsize=256)
def _statements(shape: _Shape) -> tuple[Executable, Executable]:
    """What finds the requests, and what says which is the last one that such a search goes through."""
    searched = select(*_LOGGED).where(UsageEvent.tenant_id == bindparam("tenant_id"))
    if shape.outcome is not None:
        # Spelt out: with a parameter the planner could not tell that the partial index applies.
        searched = searched.where(UsageEvent.outcome == literal_column(f"'{shape.outcome.value}'"))
    elif shape.index == "key_id":
        searched = searched.where(UsageEvent.key_id == bindparam("key_id"))
    if shape.goes_on:
        place: BindParameter[UUID] = bindparam("after")
        searched = searched.where(
            UsageEvent.request_id > place if shape.oldest_first else UsageEvent.request_id < place
        )
    searched = searched.order_by(_by_time(UsageEvent.request_id, oldest_first=shape.oldest_first))
    searched = searched.limit(spelt_out(shape.searched))
    passed = searched.subquery()
    matching = select(passed).where(*(passed.c[name] == bindparam(name) for name in shape.rest))
    # Names are looked up for what is shown, not for all that is gone through.
    shown = (
        matching.order_by(_by_time(passed.c.request_id, oldest_first=shape.oldest_first))
        .limit(spelt_out(shape.limit))
        .subquery()
    )
    statement = (
        select(Listing.name, Listing.currency, ApiKey.name, *shown.c)
        .join(Listing, Listing.id == shown.c.listing_id)
        .join(ApiKey, (ApiKey.tenant_id == shown.c.tenant_id) & (ApiKey.id == shown.c.key_id))
        .order_by(_by_time(shown.c.request_id, oldest_first=shape.oldest_first))
    )
    last = searched.with_only_columns(UsageEvent.request_id).offset(spelt_out(shape.searched - 1)).limit(spelt_out(1))
    return statement, last


def _by_time(column: Any, *, oldest_first: bool) -> Any:
    return column.asc() if oldest_first else column.desc()


def _logged(model: str, currency: str, key_name: str, *columns: Any) -> LoggedRequest:
    event = _Logged(*columns)
    return LoggedRequest(
        request_id=event.request_id,
        model=model,
        region=event.region,
        key_id=event.key_id,
        key_name=key_name,
        outcome=Outcome(event.outcome),
        counts=Counts(event.prompt_tokens, event.cached_tokens, event.completion_tokens),
        amount_nano=event.amount_nano - event.written_off_nano,
        currency=currency,
        started_at=event.started_at,
        finished_at=event.finished_at,
        ttft_ms=event.ttft_ms,
    )


def _record(row: Any) -> RequestRecord:
    """Of the columns that `find_request` selects."""
    event, version, model, jurisdiction, key, project_name, price_ends_at = row
    return RequestRecord(
        request_id=event.request_id,
        model=model,
        region=event.region,
        jurisdiction=jurisdiction,
        gateway=event.gateway,
        key_id=event.key_id,
        key_name=key.name,
        key_prefix=key.prefix,
        key_revoked=key.revoked_at is not None,
        project_name=project_name,
        outcome=Outcome(event.outcome),
        counts=Counts(event.prompt_tokens, event.cached_tokens, event.completion_tokens),
        currency=version.currency,
        rated_nano=event.amount_nano,
        written_off_nano=event.written_off_nano,
        hold_nano=event.hold_nano,
        price_version_id=version.id,
        price=price_of(version),
        price_starts_at=version.starts_at,
        price_ends_at=price_ends_at,
        started_at=event.started_at,
        finished_at=event.finished_at,
        ttft_ms=event.ttft_ms,
        transaction_id=event.transaction_id,
        posted_at=event.posted_at,
    )
