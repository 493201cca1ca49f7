"""The request log and a request's own page, as their templates need them."""

from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import UUID

from msgspec import Struct
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_billing.ledger.queries import OwnTransaction, find_own_transaction
from chappe_billing.request_log.queries import (
    LogFilter,
    LoggedRequest,
    RequestRecord,
    find_request,
    look,
)
from chappe_catalogue.listings.queries import list_listings
from chappe_catalogue.regions.queries import read_jurisdictions
from chappe_control.cursors import encode_cursor
from chappe_control.portal.requests.log_query import LogQuery
from chappe_kernel.errors import Invalid, NotFound
from chappe_kernel.ids import LedgerTransactionId, RequestId
from chappe_kernel.rating import ChargeLine, breakdown
from chappe_store.session import TenantScope
from chappe_tenants.api_keys.queries import KeyName, list_key_names, read_key_name

_MAX_KEYS_TO_CHOOSE = 200
_MS_PER_S = 1000
_RANDOM_BITS = 80


class Choices(Struct, frozen=True):
    """What the log can be narrowed to."""

    listings: dict[str, UUID]
    regions: list[str]
    keys: Sequence[KeyName]


class LogPage(Struct, frozen=True):
    """`searched_to` is when the oldest request was that a search went through which gave up early; the next page goes
    on from there."""

    requests: Sequence[LoggedRequest]
    next_cursor: str | None
    searched_to: datetime | None


class Timing(Struct, frozen=True):
    """Milliseconds. `first_token_ms` is None for answers without tokens; no part is longer than the whole."""

    total_ms: float
    first_token_ms: int | None

    @property
    def answering_ms(self) -> float:
        return self.total_ms - (self.first_token_ms or 0)

    @property
    def first_token_share(self) -> float:
        """Between 0 and 1."""
        return (self.first_token_ms or 0) / self.total_ms if self.total_ms else 0.0


class RequestPage(Struct, frozen=True):
    record: RequestRecord
    lines: tuple[ChargeLine, ...]
    timing: Timing
    transaction: OwnTransaction | None


async def read_choices(session: AsyncSession, scope: TenantScope, chosen: UUID | None) -> Choices:
    """Models and regions that there are, and the tenant's newest keys with the chosen one."""
    keys = list(await list_key_names(session, scope, limit=_MAX_KEYS_TO_CHOOSE))
    if chosen is not None and all(key.id != chosen for key in keys):
        found = await read_key_name(session, scope, chosen)
        keys += [] if found is None else [found]
    return Choices(
        listings={listing.name: listing.id for listing in await list_listings(session)},
        regions=list(await read_jurisdictions(session)),
        keys=keys,
    )


async def read_page(session: AsyncSession, scope: TenantScope, query: LogQuery, choices: Choices) -> LogPage:
    """Raises `Invalid` naming the filter when nothing of that name exists."""
    found = await look(
        session,
        scope,
        _narrowed(query, choices),
        limit=query.limit + 1,
        after=query.after,
        oldest_first=query.oldest_first,
    )
    shown = found.requests[: query.limit]
    if len(found.requests) > query.limit:
        return LogPage(shown, encode_cursor(shown[-1].request_id), None)
    if found.searched_to is None:
        return LogPage(shown, None, None)
    return LogPage(shown, encode_cursor(found.searched_to), _time_of(found.searched_to))


async def read_request(session: AsyncSession, scope: TenantScope, request_id: RequestId) -> RequestPage:
    """Raises `NotFound`, also for another tenant's."""
    record = await find_request(session, scope, request_id)
    if record is None:
        raise NotFound("no such request")
    transaction = None
    if record.transaction_id is not None:
        transaction = await find_own_transaction(session, scope, LedgerTransactionId(record.transaction_id))
    return RequestPage(
        record=record,
        lines=breakdown(record.price, record.outcome, record.counts),
        timing=timing_of(record.started_at, record.finished_at, record.ttft_ms),
        transaction=transaction,
    )


def timing_of(started_at: datetime, finished_at: datetime, ttft_ms: int | None) -> Timing:
    """A gateway's wall clock may be set back while a request runs; then the whole is what was measured otherwise."""
    total_ms = max((finished_at - started_at).total_seconds() * _MS_PER_S, ttft_ms or 0, 0)
    return Timing(total_ms, ttft_ms)


def _narrowed(query: LogQuery, choices: Choices) -> LogFilter:
    if query.model is not None and query.model not in choices.listings:
        raise Invalid("there is no such model", param="model")
    if query.region is not None and query.region not in choices.regions:
        raise Invalid("there is no such region", param="region")
    if query.key_id is not None and all(key.id != query.key_id for key in choices.keys):
        raise Invalid("there is no such key", param="key")
    return LogFilter(
        listing_id=None if query.model is None else choices.listings[query.model],
        region=query.region,
        key_id=query.key_id,
        outcome=query.outcome,
    )


def _time_of(request_id: UUID) -> datetime:
    """A UUIDv7 begins with Unix milliseconds."""
    return datetime.fromtimestamp((request_id.int >> _RANDOM_BITS) / _MS_PER_S, UTC)
