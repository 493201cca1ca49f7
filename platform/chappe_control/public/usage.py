"""What the calling tenant used, request by request and in sums."""

from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Annotated

from litestar import get
from litestar.params import QueryParameter
from litestar.response import Stream
from msgspec import Meta, Struct

from chappe_billing.balance.queries import read_balance
from chappe_billing.exporting.service import Format, export, make_period
from chappe_billing.usage import queries
from chappe_billing.usage.queries import ListedEvent
from chappe_control import exports
from chappe_control.authentication import TenantRequest
from chappe_control.cursors import cut_page, decode_cursor
from chappe_control.permissions import Permission
from chappe_control.public import answers
from chappe_control.public.parameters import DEFAULT_LIMIT, Amount, Cursor, Limit
from chappe_control.state import Given
from chappe_kernel.errors import Invalid
from chappe_kernel.ids import KEY, PRICE_VERSION, REQUEST, RequestId, encode_id
from chappe_kernel.money import format_nano
from chappe_kernel.rating import Outcome
from chappe_store.queries import read_now

MAX_SPAN = timedelta(days=400)


class UsageEventView(Struct, frozen=True):
    request_id: Annotated[str, Meta(pattern="^req_", description="As in the answer's `x-request-id`.")]
    region: Annotated[str, Meta(description="Where it ran.")]
    model: str
    key_id: Annotated[str, Meta(pattern="^key_")]
    price_version: Annotated[str, Meta(pattern="^prc_", description="The price under which it was admitted.")]
    prompt_tokens: int
    cached_tokens: Annotated[int, Meta(description="The part of the prompt's tokens that was not computed again.")]
    completion_tokens: int
    amount: Annotated[Amount, Meta(description="What it cost you.")]
    currency: str
    outcome: Outcome
    started_at: datetime
    finished_at: datetime


class UsageEventList(Struct, frozen=True):
    items: list[UsageEventView]
    next_cursor: str | None


class UsageSumView(Struct, frozen=True):
    region: str
    model: str
    requests: int
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    amount: Amount


class UsageSummary(Struct, frozen=True):
    since: Annotated[datetime, Meta(description="Start of the first hour that counts.")]
    until: datetime
    currency: str
    total: Annotated[Amount, Meta(description="The sum of the items' amounts.")]
    items: list[UsageSumView]


Since = Annotated[
    datetime | None,
    QueryParameter(description="From this hour on; by default from the beginning of this month (UTC)."),
]
Until = Annotated[datetime | None, QueryParameter(description="Hours that begin before this; by default up to now.")]


@get(
    "/usage/events",
    permission=Permission.READ_USAGE,
    tags=["Usage"],
    summary="List usage events",
    operation_id="list_usage_events",
    responses=answers.LIST,
)
async def list_events(
    request: TenantRequest, services: Given, limit: Limit = DEFAULT_LIMIT, cursor: Cursor = None
) -> UsageEventList:
    """One event per request, newest first. New events never shift the pages that follow."""
    scope = request.auth.scope
    before = decode_cursor(cursor)
    async with services.database.tenant(scope) as session:
        rows = await queries.list_events(
            session, scope, limit=limit + 1, before=None if before is None else RequestId(before)
        )
    page, next_cursor = cut_page(rows, limit, lambda event: event.request_id)
    return UsageEventList(items=[_show_event(event) for event in page], next_cursor=next_cursor)


@get(
    "/usage/summary",
    permission=Permission.READ_USAGE,
    tags=["Usage"],
    summary="Sum up usage",
    operation_id="summarise_usage",
    responses=answers.LIST,
)
async def summarise(request: TenantRequest, services: Given, since: Since = None, until: Until = None) -> UsageSummary:
    """Sums by region and model, over whole hours, by when usage was settled (UTC)."""
    scope = request.auth.scope
    start, end = _period(since, until, services.clock.now())
    async with services.database.tenant(scope) as session:
        currency = (await read_balance(session, scope)).currency
        sums = await queries.summarise(session, scope, since=start, until=end)
    items = [
        UsageSumView(
            region=found.region,
            model=found.model,
            requests=found.requests,
            prompt_tokens=found.prompt_tokens,
            cached_tokens=found.cached_tokens,
            completion_tokens=found.completion_tokens,
            amount=format_nano(found.amount_nano),
        )
        for found in sums
    ]
    total = format_nano(sum(found.amount_nano for found in sums))
    return UsageSummary(since=start, until=end, currency=currency, total=total, items=items)


@get(
    "/usage/export",
    permission=Permission.READ_USAGE,
    tags=["Usage"],
    summary="Export usage",
    operation_id="export_usage",
    operation_class=exports.ExportOperation,
    responses=exports.EXPORT,
)
async def export_usage(
    request: TenantRequest,
    services: Given,
    kind: exports.Kind = Format.CSV,
    since: exports.Since = None,
    until: exports.Until = None,
) -> Stream:
    """All of it, by when it was settled (UTC), streamed: of a million requests as of one. What is being settled while
    it is read may not be in it yet. An answer that breaks off is incomplete."""
    scope = request.auth.scope
    async with services.database.tenant(scope) as session:
        period = make_period(since, until, await read_now(session))
    pieces = export(partial(services.database.tenant_snapshot, scope), scope, kind, period)
    return exports.as_file(services.exports, pieces, kind, period)


def _period(since: datetime | None, until: datetime | None, now: datetime) -> tuple[datetime, datetime]:
    """Raises `Invalid` for times without zone, a period that ends before it begins, or one that is too long."""
    end = now if until is None else _in_utc(until, "until")
    if since is None:
        start = end.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    else:
        start = _in_utc(since, "since").replace(minute=0, second=0, microsecond=0)
    if start > end:
        raise Invalid("since must not be after until", param="since")
    if end - start > MAX_SPAN:
        raise Invalid(f"a summary spans at most {MAX_SPAN.days} days", param="since")
    return start, end


def _in_utc(instant: datetime, param: str) -> datetime:
    if instant.tzinfo is None:
        raise Invalid(f"{param} needs a time zone, like 2026-11-22T10:00:00Z", param=param)
    try:
        return instant.astimezone(UTC)
    except OverflowError:  # The first or the last day that there is, in a zone where it is another one.
        raise Invalid(f"{param} is out of range", param=param) from None


def _show_event(event: ListedEvent) -> UsageEventView:
    return UsageEventView(
        request_id=encode_id(REQUEST, event.request_id),
        region=event.region,
        model=event.model,
        key_id=encode_id(KEY, event.key_id),
        price_version=encode_id(PRICE_VERSION, event.price_version_id),
        prompt_tokens=event.counts.prompt_tokens,
        cached_tokens=event.counts.cached_tokens,
        completion_tokens=event.counts.completion_tokens,
        amount=format_nano(event.amount_nano),
        currency=event.currency,
        outcome=event.outcome,
        started_at=event.started_at,
        finished_at=event.finished_at,
    )
