"""Streams of what was used, in bounded memory and short transactions."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from uuid import UUID

from msgspec import Struct
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_billing.exporting import csv_text, focus, queries
from chappe_billing.exporting import requests as by_request
from chappe_kernel.errors import Invalid
from chappe_kernel.ids import TenantId
from chappe_store.session import Database, TenantScope

MAX_SPAN = timedelta(days=400)
_PAGE = 1_000
_FIRST = UUID(int=0)

Opens = Callable[[], AbstractAsyncContextManager[AsyncSession]]
"""A short read-only transaction as whoever exports."""


class Format(StrEnum):
    CSV = "csv"
    JSON_LINES = "jsonl"
    FOCUS = "focus"

    @property
    def media_type(self) -> str:
        return "application/x-ndjson" if self is Format.JSON_LINES else "text/csv"

    @property
    def suffix(self) -> str:
        return "jsonl" if self is Format.JSON_LINES else "csv"


class Period(Struct, frozen=True):
    """From `since` to before `until`, by when usage was posted, in the database's time."""

    since: datetime
    until: datetime


def make_period(since: datetime | None, until: datetime | None, now: datetime) -> Period:
    """By default this month up to now. Raises `Invalid` for times without zone, an end before the beginning, or more
    than 400 days."""
    end = now if until is None else _in_utc(until, "until")
    start = end.replace(day=1, hour=0, minute=0, second=0, microsecond=0) if since is None else _in_utc(since, "since")
    if start > end:
        raise Invalid("since must not be after until", param="since")
    if end - start > MAX_SPAN:
        raise Invalid(f"an export spans at most {MAX_SPAN.days} days", param="since")
    return Period(start, end)


async def export(opens: Opens, scope: TenantScope, kind: Format, period: Period) -> AsyncIterator[bytes]:
    """One tenant's usage in pieces, the header first. Each event comes once; what is being posted at this very moment
    may not come yet, if `until` is now."""
    yield _header(kind)
    async for piece in _pieces(opens, scope, kind, period):
        yield piece


async def export_all(database: Database, kind: Format, period: Period) -> AsyncIterator[bytes]:
    """Every tenant's, tenant after tenant. As the operator."""
    yield _header(kind)
    last: UUID | None = None
    while True:
        async with database.audit() as session:
            tenants = await queries.list_tenants(session, last, _PAGE)
        for tenant_id in tenants:
            async for piece in _pieces(database.audit, TenantScope(TenantId(tenant_id)), kind, period):
                yield piece
        if len(tenants) < _PAGE:
            return
        last = tenants[-1]


def _pieces(opens: Opens, scope: TenantScope, kind: Format, period: Period) -> AsyncIterator[bytes]:
    return _charges(opens, scope, period) if kind is Format.FOCUS else _requests(opens, scope, kind, period)


def _header(kind: Format) -> bytes:
    match kind:
        case Format.CSV:
            return csv_text.lines_of([by_request.COLUMNS])
        case Format.FOCUS:
            return focus.header()
        case Format.JSON_LINES:
            return b""


async def _requests(opens: Opens, scope: TenantScope, kind: Format, period: Period) -> AsyncIterator[bytes]:
    encode = by_request.as_csv if kind is Format.CSV else by_request.as_json_lines
    after_at, after_id = period.since, _FIRST
    while True:
        async with opens() as session:
            rows = await queries.read_events(
                session, scope, after_at=after_at, after_id=after_id, until=period.until, limit=_PAGE
            )
        if rows:
            yield encode(map(by_request.request_line, rows))
            after_at, after_id = rows[-1].posted_at, rows[-1].request_id
        if len(rows) < _PAGE:
            return


async def _charges(opens: Opens, scope: TenantScope, period: Period) -> AsyncIterator[bytes]:
    async with opens() as session:
        account = await queries.read_account(session, scope)
        first = period.since.replace(minute=0, second=0, microsecond=0)
        hours = await queries.list_hours(session, scope, since=first, until=period.until)
        others = await queries.read_other_charges(
            session, scope, list(focus.OTHER_CHARGES), since=period.since, until=period.until
        )
    for hour in hours:
        since, until = max(hour, period.since), min(hour + timedelta(hours=1), period.until)
        async with opens() as session:
            groups = await queries.read_groups(session, scope, since=since, until=until)
        yield focus.lines_of(row for group in groups for row in focus.rows_of_group(account, hour, group))
    if others:
        yield focus.lines_of(focus.row_of_charge(account, charge) for charge in others)


def _in_utc(instant: datetime, param: str) -> datetime:
    if instant.tzinfo is None:
        raise Invalid(f"{param} needs a time zone, like 2026-11-22T10:00:00Z", param=param)
    try:
        return instant.astimezone(UTC)
    except OverflowError:  # The first or the last day that there is, in a zone where it is another one.
        raise Invalid(f"{param} is out of range", param=param) from None
