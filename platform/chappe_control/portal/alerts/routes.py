"""`/alerts`: the forecast, what stands, and who hears of it."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

from litestar import Request, Response, get, post
from litestar.datastructures import State
from litestar.response import Redirect

from chappe_billing.alerts import queries, service
from chappe_billing.alerts.crossing import months_spending
from chappe_billing.alerts.forecast import days_left
from chappe_billing.alerts.kinds import AlertKind
from chappe_billing.alerts.queries import Settings
from chappe_billing.alerts.service import MUTABLE
from chappe_billing.spending import queries as spending
from chappe_control.origins import origin_of
from chappe_control.pages.flash import flash
from chappe_control.pages.forms import Form, read_fields
from chappe_control.pages.languages import LANGUAGES, N_, translate
from chappe_control.pages.render import page
from chappe_control.permissions import Permission
from chappe_control.portal.webhooks.texts import KINDS
from chappe_control.state import Given, Services
from chappe_kernel.errors import Invalid
from chappe_kernel.ids import QUOTA, encode_id
from chappe_kernel.money import format_nano, parse_nano
from chappe_tenants.sessions.service import MemberVisitor

MemberRequest = Request[Any, MemberVisitor, State]

# The framework's type wants the number itself.
_SEE_OTHER: Final = 303
_SHOWN: Final = 20
_FIELDS: Final = ("low_balance", "low_balance_days", "forecast_limit", "emails", "language", "to_members")
_PROBLEMS: Final = {
    "low_balance": N_("An amount such as 50 or 50.50, or nothing."),
    "low_balance_days": N_("A whole number of days from 1 to 90, or nothing."),
    "forecast_limit": N_("An amount such as 500 or 500.50, or nothing."),
    "emails": N_("Up to ten e-mail addresses, one on each line."),
    "language": N_("Choose one of the languages."),
}


@get("/alerts", include_in_schema=False, permission=Permission.READ_ALERTS)
async def show_alerts(request: MemberRequest, services: Given) -> Response[bytes]:
    return await _page(request, services)


@post("/alerts", include_in_schema=False, permission=Permission.MANAGE_ALERTS)
async def change_alerts(request: MemberRequest, services: Given) -> Response[Any]:
    posted = await read_fields(request, *_FIELDS)
    told = (await request.form()).getall("told", [])
    scope = request.auth.scope
    try:
        settings = _read(posted, {one for one in told if isinstance(one, str)})
        async with services.database.tenant(scope, origin_of(request)) as session:
            await service.put_settings(session, scope, settings)
    except Invalid as error:
        field = error.param if error.param in _PROBLEMS else "emails"
        form = Form(posted, {field: translate(request, _PROBLEMS[field])})
        return await _page(request, services, form=form, status=HTTPStatus.BAD_REQUEST)
    response = Redirect("/alerts", status_code=_SEE_OTHER)
    flash(response, translate(request, N_("The alerts are set.")), "green")
    return response


async def _page(
    request: MemberRequest, services: Services, *, form: Form | None = None, status: HTTPStatus = HTTPStatus.OK
) -> Response[bytes]:
    scope = request.auth.scope
    async with services.database.tenant_snapshot(scope) as session:
        settings = await service.get_settings(session, scope)
        found = await service.read_finances(session, scope)
        limits = await service.read_limits(session, scope, settings)
        reached = await spending.list_alerts(session, scope.tenant_id)
        alerts = await queries.list_alerts(session, scope, limit=_SHOWN)
    finances, days = found if found is not None else (None, {})
    return page(
        request,
        "portal/alerts.html",
        status=status,
        finances=finances,
        left=None if finances is None else days_left(finances.spendable_nano, finances.pace),
        days=[] if finances is None else months_spending(finances.forecast.month, days),
        lowest_limit=min(
            [*limits.budgets.values(), *([limits.forecast_nano] if limits.forecast_nano else [])], default=None
        ),
        reached=[(encode_id(QUOTA, one.quota_id), one) for one in reached],
        alerts=alerts,
        settings=settings,
        mutable=MUTABLE,
        kinds=KINDS,
        letter_languages=LANGUAGES,
        forecast_kind=AlertKind.FORECAST,
        form=form or Form(_filled(settings)),
    )


def _read(posted: Mapping[str, str], told: set[str]) -> Settings:
    """Raises `Invalid` naming the field."""
    days = posted["low_balance_days"].strip()
    if days and not (days.isascii() and days.isdigit() and len(days) <= 2):  # noqa: PLR2004 -- up to 90
        raise Invalid("no number of days", param="low_balance_days")
    return Settings(
        muted=tuple(kind for kind in MUTABLE if kind not in told),
        to_members=bool(posted["to_members"]),
        emails=tuple(posted["emails"].replace(",", " ").split()),
        language=posted["language"] or None,
        low_balance_nano=_amount(posted["low_balance"], "low_balance"),
        low_balance_days=int(days) if days else None,
        forecast_limit_nano=_amount(posted["forecast_limit"], "forecast_limit"),
    )


def _amount(text: str, param: str) -> int | None:
    cleaned = text.strip().replace(",", ".")
    try:
        return parse_nano(cleaned) if cleaned else None
    except Invalid as error:
        raise Invalid(error.message, code=error.code, param=param) from None


def _filled(settings: Settings) -> dict[str, str]:
    days = settings.low_balance_days
    return {
        "low_balance": _plain(settings.low_balance_nano),
        "low_balance_days": "" if days is None else str(days),
        "forecast_limit": _plain(settings.forecast_limit_nano),
        "emails": "\n".join(settings.emails),
        "language": settings.language or "",
        "to_members": "on" if settings.to_members else "",
    }


def _plain(nano: int | None) -> str:
    """As somebody would type it."""
    if nano is None:
        return ""
    whole, _, fraction = format_nano(nano).partition(".")
    shortened = fraction.rstrip("0")
    return f"{whole}.{shortened.ljust(2, '0')}" if shortened else whole
