"""`/console/tax/rates`: what rate holds when, scheduling the next, and taking back one that has not begun."""

from collections.abc import Mapping
from datetime import date, timedelta
from functools import partial
from http import HTTPStatus
from typing import Any, Final

from litestar import Response, get, post
from litestar.params import FromPath
from litestar.response import Redirect
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_billing.funds.once import clean_reason
from chappe_billing.tax import queries, service
from chappe_billing.tax.schemas import RateView, day_of_rate, show_rate
from chappe_control.console.prices.entry import basis_points_of
from chappe_control.console.prices.once import ONCE, call_of_form, new_token
from chappe_control.console.rendering import ConsoleRequest, console_page
from chappe_control.console.tax.rates import spans_of
from chappe_control.idempotency import service as idempotency
from chappe_control.origins import origin_of
from chappe_control.pages.flash import flash
from chappe_control.pages.forms import Form, read_fields
from chappe_control.pages.languages import N_, translate
from chappe_control.pages.organisation_forms import collated, country_name, country_options
from chappe_control.permissions import Permission
from chappe_control.state import Given, Services
from chappe_kernel.errors import Conflict, Invalid
from chappe_store.queries import read_now

# The framework's type wants the number itself.
_SEE_OTHER: Final = 303
_HOME: Final = "/console/tax/rates"
_FIELDS: Final = ("country", "rate", "starts_on", "source", ONCE)
_PROBLEMS: Final = {
    "country": N_("Choose a country."),
    "rate": N_("A rate is over 0 and at most 50 per cent."),
    "starts_on": N_("Choose tomorrow or a later day."),
    "source": N_("Say where it is written, in at most 200 characters of one line."),
    "rate_in_use": N_("An invoice is issued for that day or a later one."),
    "rate_in_force": N_("This rate has begun. Schedule the next one."),
}
_FIELD_OF: Final = {"rate_bp": "rate", "reason": "source"}
_LONGEST_SOURCE: Final = 200


@get("/tax/rates", permission=Permission.SEE_LEGAL_ENTITIES)
async def show_rates(request: ConsoleRequest, services: Given) -> Response[bytes]:
    return await _page(request, services, Form())


@post("/tax/rates", permission=Permission.MANAGE_TAX)
async def schedule(request: ConsoleRequest, services: Given) -> Response[Any]:
    """Sent twice, it is scheduled once."""
    typed = await read_fields(request, *_FIELDS)
    call = call_of_form(request, typed)
    try:
        async with services.database.operator(origin_of(request)) as session:
            await idempotency.once(session, request.auth.user_id, call, RateView, partial(_schedule, session, typed))
    except (Invalid, Conflict) as error:
        field = _FIELD_OF.get(error.param or "", error.param or "")
        if field not in _PROBLEMS:
            raise
        text = translate(request, _PROBLEMS.get(error.code, _PROBLEMS[field]))
        status = HTTPStatus.CONFLICT if isinstance(error, Conflict) else HTTPStatus.BAD_REQUEST
        return await _page(request, services, Form(typed, {field: text}), status)
    return _back(request, N_("The rate is scheduled, and holds from its day on."))


@post("/tax/rates/{country:str}/{starts_on:str}/withdrawal", permission=Permission.MANAGE_TAX)
async def withdraw(
    request: ConsoleRequest, services: Given, country: FromPath[str], starts_on: FromPath[str]
) -> Response[Any]:
    """The rate before it holds on."""
    try:
        async with services.database.operator(origin_of(request)) as session:
            await service.withdraw_rate(session, country=country, starts_on=day_of_rate(starts_on))
    except Conflict as error:
        return _back(request, _PROBLEMS[error.code], "red")
    return _back(request, N_("The rate is taken back: the one before it holds on."))


async def _schedule(session: AsyncSession, typed: Mapping[str, str]) -> RateView:
    rate_bp = basis_points_of(typed["rate"])
    if rate_bp is None:
        raise Invalid("not a percentage", param="rate")
    source = clean_reason(typed["source"], param="source")
    if len(source) > _LONGEST_SOURCE:
        raise Invalid("too long", param="source")
    rate = await service.schedule_rate(
        session, country=typed["country"], starts_on=_day(typed["starts_on"]), rate_bp=rate_bp, source=source
    )
    return show_rate(rate)


def _day(text: str) -> date:
    """Raises `Invalid`."""
    try:
        return date.fromisoformat(text.strip())
    except ValueError:
        raise Invalid("no day", param="starts_on") from None


async def _page(
    request: ConsoleRequest, services: Services, form: Form, status: HTTPStatus = HTTPStatus.OK
) -> Response[bytes]:
    async with services.database.audit() as session:
        now = await read_now(session)
        spans = spans_of(await queries.list_rates(session))
    today = now.date()
    return console_page(
        request,
        "console/tax_rates.html",
        status=status,
        now=now,
        today=today,
        tomorrow=today + timedelta(days=1),
        scheduled=sorted(
            (one for one in spans if one.rate.starts_on > today), key=lambda one: (one.rate.starts_on, one.rate.country)
        ),
        # By what they are called, as in forms; of one country from the newest.
        spans=sorted(spans, key=lambda one: collated(country_name(request, one.rate.country))),
        country_name=lambda code: country_name(request, code),
        countries=country_options(request),
        form=form,
        once=new_token(),
    )


def _back(request: ConsoleRequest, text: str, colour: str = "green") -> Response[Any]:
    response = Redirect(_HOME, status_code=_SEE_OTHER)
    flash(response, translate(request, text), colour)
    return response
