"""`/exports`: what somebody's own tools need of their usage."""

from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta
from functools import partial
from http import HTTPStatus
from typing import Any

from litestar import Request, Response, get
from litestar.datastructures import State
from litestar.response import Stream

from chappe_billing.exporting.service import Format, Period, export, make_period
from chappe_control.exports import as_file
from chappe_control.pages.languages import N_, translate
from chappe_control.pages.render import page
from chappe_control.permissions import Permission
from chappe_control.state import Given
from chappe_kernel.errors import Invalid
from chappe_store.queries import read_now
from chappe_tenants.sessions.service import MemberVisitor

MemberRequest = Request[Any, MemberVisitor, State]

_LONGEST = 20
# What is wrong with the address, by the parameter that is to blame.
_PROBLEMS = {
    "format": N_("Choose one of the formats."),
    "since": N_("The first day must not be after the last one, and at most 400 days before it."),
    "until": N_("Choose a last day."),
}


@get("/exports", include_in_schema=False, permission=Permission.READ_USAGE)
async def show_exports(request: MemberRequest, services: Given) -> Response[bytes]:
    async with services.database.tenant(request.auth.scope) as session:
        today = (await read_now(session)).astimezone(UTC).date()
    return _form(request, today.replace(day=1).isoformat(), today.isoformat(), Format.CSV, None)


@get("/exports/file", include_in_schema=False, permission=Permission.READ_USAGE)
async def download(request: MemberRequest, services: Given) -> Response[bytes] | Stream:
    scope, asked = request.auth.scope, request.query_params
    try:
        async with services.database.tenant(scope) as session:
            kind, period = read_order(asked, await read_now(session))
    except Invalid as error:
        since, until, chosen = (str(asked.get(name, ""))[:_LONGEST] for name in ("since", "until", "format"))
        problem = _PROBLEMS[error.param or "format"]
        return _form(request, since, until, chosen, translate(request, problem))
    pieces = export(partial(services.database.tenant_snapshot, scope), scope, kind, period)
    return as_file(services.exports, pieces, kind, period)


def read_order(asked: Mapping[str, Any], now: datetime) -> tuple[Format, Period]:
    """Whole days in UTC, both ends included; of today what there is. Raises `Invalid` naming the parameter."""
    try:
        kind = Format(asked.get("format", ""))
    except ValueError:
        raise Invalid("there is no such format", param="format") from None
    since, until = _day(asked, "since"), _day(asked, "until") + timedelta(days=1)
    return kind, make_period(since, min(until, now) if since <= now else until, now)


def _day(asked: Mapping[str, Any], param: str) -> datetime:
    try:
        day = date.fromisoformat(str(asked.get(param, "")))
        # The last day that there is has no tomorrow.
        return datetime.combine(min(day, date(9999, 12, 30)), time(tzinfo=UTC))
    except ValueError:
        raise Invalid("not a day", param=param) from None


def _form(request: MemberRequest, since: str, until: str, chosen: str, problem: str | None) -> Response[bytes]:
    return page(
        request,
        "portal/exports.html",
        status=HTTPStatus.OK if problem is None else HTTPStatus.BAD_REQUEST,
        since=since,
        until=until,
        chosen=chosen,
        problem=problem,
    )
