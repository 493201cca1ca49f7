"""Alerts of the calling tenant: which it wants, who hears of them, what was raised, and where its month is going."""

from datetime import datetime
from typing import Annotated, Any

from litestar import Response, get, put
from litestar.params import JSONBody
from msgspec import Meta, Struct
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_billing.alerts import queries, service
from chappe_billing.alerts.forecast import days_left
from chappe_billing.alerts.queries import Settings
from chappe_control.authentication import TenantRequest
from chappe_control.cursors import cut_page, decode_cursor
from chappe_control.etags import ETAG_HEADER, IfMatch, check_match, with_etag
from chappe_control.origins import origin_of
from chappe_control.permissions import Permission
from chappe_control.public import answers
from chappe_control.public.parameters import DEFAULT_LIMIT, Amount, Cursor, Limit
from chappe_control.state import Given
from chappe_kernel.errors import NotFound
from chappe_kernel.ids import ALERT, encode_id
from chappe_kernel.money import format_nano, parse_nano
from chappe_store.session import TenantScope

_TAG = "Alerts"
AskedAmount = Annotated[str, Meta(pattern=r"^[0-9]{1,12}(\.[0-9]{1,9})?$", description="A decimal string.")]


class AlertSettingsBody(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """As a whole: what is left out is the default."""

    muted: Annotated[list[str], Meta(max_length=10, description="Kinds of which no letter shall come.")] = []
    to_members: Annotated[bool, Meta(description="Letters to owners and billing members.")] = True
    emails: Annotated[list[Annotated[str, Meta(max_length=254)]], Meta(max_length=10)] = []
    language: Annotated[str | None, Meta(description="`en`, `fr` or `de`: of addresses that are no member's.")] = None
    low_balance: Annotated[AskedAmount | None, Meta(description="Warn below this, the credit limit included.")] = None
    low_balance_days: Annotated[int, Meta(ge=1, le=90, description="Warn when it lasts for less.")] | None = 7
    forecast_limit: Annotated[AskedAmount | None, Meta(description="Warn when a month is going to cost more.")] = None


class AlertSettingsView(Struct, frozen=True, kw_only=True):
    muted: list[str]
    to_members: bool
    emails: list[str]
    language: str | None
    low_balance: Amount | None
    low_balance_days: int | None
    forecast_limit: Amount | None


class RaisedAlertView(Struct, frozen=True):
    id: Annotated[str, Meta(pattern="^alt_")]
    kind: str
    subject: Annotated[str, Meta(description="What crossed its limit; one alert of it stands at a time.")]
    figures: Annotated[dict[str, Any], Meta(description="As of when it was raised. Amounts are decimal strings.")]
    raised_at: datetime
    recovered_at: datetime | None


class RaisedAlertList(Struct, frozen=True):
    items: list[RaisedAlertView]
    next_cursor: str | None


class ForecastView(Struct, frozen=True):
    """By the last seven days and today, on the rest of the month (UTC)."""

    month: Annotated[str, Meta(pattern="^[0-9]{4}-[0-9]{2}$")]
    spent: Amount
    expected: Annotated[Amount, Meta(description="This month's spending at its end.")]
    days_left: Annotated[int | None, Meta(description="Whole days that funds and credit limit last; null: for ever.")]
    currency: str


@get(
    "/alerts",
    permission=Permission.READ_ALERTS,
    tags=[_TAG],
    summary="List alerts",
    operation_id="list_alerts",
    responses=answers.LIST,
)
async def list_alerts(
    request: TenantRequest, services: Given, limit: Limit = DEFAULT_LIMIT, cursor: Cursor = None
) -> RaisedAlertList:
    """Low balances and forecasts that crossed a limit, newest first. Thresholds of budgets are with the quotas."""
    scope = request.auth.scope
    async with services.database.tenant(scope) as session:
        rows = await queries.list_alerts(session, scope, limit=limit + 1, before=decode_cursor(cursor))
    page, next_cursor = cut_page(rows, limit, lambda row: row.id)
    items = [
        RaisedAlertView(encode_id(ALERT, row.id), row.kind, row.subject, row.figures, row.raised_at, row.recovered_at)
        for row in page
    ]
    return RaisedAlertList(items, next_cursor)


@get(
    "/alerts/forecast",
    permission=Permission.READ_ALERTS,
    tags=[_TAG],
    summary="Read the month's forecast",
    operation_id="get_forecast",
    responses=answers.READ_ONE,
)
async def read_forecast(request: TenantRequest, services: Given) -> ForecastView:
    """Where this month's spending is going if it goes on like the last days."""
    async with services.database.tenant_snapshot(request.auth.scope) as session:
        found = await service.read_finances(session, request.auth.scope)
    if found is None:
        raise NotFound("this tenant has no budget")
    finances, _ = found
    return ForecastView(
        month=f"{finances.forecast.month:%Y-%m}",
        spent=format_nano(finances.forecast.spent_nano),
        expected=format_nano(finances.forecast.expected_nano),
        days_left=days_left(finances.spendable_nano, finances.pace),
        currency=finances.currency,
    )


@get(
    "/alerts/settings",
    permission=Permission.READ_ALERTS,
    tags=[_TAG],
    summary="Read the settings of alerts",
    operation_id="get_alert_settings",
    responses=answers.READ,
    response_headers=[ETAG_HEADER],
)
async def read_settings(request: TenantRequest, services: Given) -> Response[AlertSettingsView]:
    """The defaults, if none were set."""
    async with services.database.tenant(request.auth.scope) as session:
        return with_etag(await _view(session, request.auth.scope))


@put(
    "/alerts/settings",
    permission=Permission.MANAGE_ALERTS,
    tags=[_TAG],
    summary="Set the settings of alerts",
    operation_id="set_alert_settings",
    responses=answers.CHANGE,
    response_headers=[ETAG_HEADER],
)
async def put_settings(
    request: TenantRequest, services: Given, data: JSONBody[AlertSettingsBody], if_match: IfMatch = None
) -> Response[AlertSettingsView]:
    """Letters about overdue invoices and suspensions cannot be muted. Webhooks ask for kinds of their own."""
    scope = request.auth.scope
    async with services.database.tenant(scope, origin_of(request)) as session:
        check_match(request, await _view(session, scope))
        await service.put_settings(session, scope, _settings(data))
        return with_etag(await _view(session, scope))


def _settings(data: AlertSettingsBody) -> Settings:
    return Settings(
        muted=tuple(data.muted),
        to_members=data.to_members,
        emails=tuple(data.emails),
        language=data.language,
        low_balance_nano=None if data.low_balance is None else parse_nano(data.low_balance),
        low_balance_days=data.low_balance_days,
        forecast_limit_nano=None if data.forecast_limit is None else parse_nano(data.forecast_limit),
    )


async def _view(session: AsyncSession, scope: TenantScope) -> AlertSettingsView:
    found = await service.get_settings(session, scope)
    return AlertSettingsView(
        muted=list(found.muted),
        to_members=found.to_members,
        emails=list(found.emails),
        language=found.language,
        low_balance=None if found.low_balance_nano is None else format_nano(found.low_balance_nano),
        low_balance_days=found.low_balance_days,
        forecast_limit=None if found.forecast_limit_nano is None else format_nano(found.forecast_limit_nano),
    )
