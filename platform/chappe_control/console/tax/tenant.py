"""`/console/tenants/{id}/tax`: how a tenant is taxed, and the operator's rulings about it."""

from collections.abc import Mapping
from datetime import date
from functools import partial
from http import HTTPStatus
from typing import Any, Final

from litestar import Response, get, post
from litestar.params import FromPath
from litestar.response import Redirect
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_billing.funds.once import clean_reason
from chappe_billing.tax import queries, service
from chappe_billing.tax.schemas import RulingView, show_ruling
from chappe_billing.tax.treatment import TaxCategory
from chappe_control.console.prices.entry import basis_points_of
from chappe_control.console.prices.once import ONCE, call_of_form, new_token
from chappe_control.console.rendering import ConsoleRequest, console_page
from chappe_control.console.tax.texts import REASONS
from chappe_control.idempotency import service as idempotency
from chappe_control.operator_api.references import parse_tenant_id
from chappe_control.origins import origin_of
from chappe_control.pages.flash import flash
from chappe_control.pages.forms import Form, read_fields
from chappe_control.pages.languages import N_, translate
from chappe_control.pages.organisation_forms import country_name
from chappe_control.pages.tax_texts import CATEGORIES, NUMBER_STATES, SOURCES
from chappe_control.permissions import Permission
from chappe_control.state import Given, Services
from chappe_kernel.errors import Invalid
from chappe_store.queries import read_now
from chappe_store.session import TenantScope
from chappe_tenants.organisations.service import get_organisation

# The framework's type wants the number itself.
_SEE_OTHER: Final = 303
_SHOWN: Final = 50
_FIELDS: Final = ("category", "rate", "starts_on", "reason", ONCE)
_BY_THE_RULES: Final = "rules"
"""The choice that ends a ruling."""
_PROBLEMS: Final = {
    "category": N_("Choose how it is taxed."),
    "rate": N_("A rate is over 0 and at most 50 per cent where VAT is added, and empty otherwise."),
    "starts_on": N_("Choose today or a later day."),
    "reason": N_("Say why, in at most 500 characters of one line."),
}
_FIELD_OF: Final = {"rate_bp": "rate"}


@get("/tenants/{tenant_id:str}/tax", permission=Permission.SEE_TENANTS)
async def show_tenant_tax(request: ConsoleRequest, services: Given, tenant_id: FromPath[str]) -> Response[bytes]:
    """`?rule=1` opens the form."""
    return await _page(request, services, tenant_id)


@post("/tenants/{tenant_id:str}/tax/rulings", permission=Permission.MANAGE_TAX)
async def rule(request: ConsoleRequest, services: Given, tenant_id: FromPath[str]) -> Response[Any]:
    """Sent twice, it is ruled once."""
    scope = TenantScope(parse_tenant_id(tenant_id))
    typed = await read_fields(request, *_FIELDS)
    call = call_of_form(request, typed)
    try:
        async with services.database.operator(origin_of(request)) as session:
            work = partial(_rule, session, scope, typed)
            await idempotency.once(session, request.auth.user_id, call, RulingView, work)
    except Invalid as error:
        field = _FIELD_OF.get(error.param or "", error.param or "")
        if field not in _PROBLEMS:
            raise
        form = Form(typed, {field: translate(request, _PROBLEMS[field])})
        return await _page(request, services, tenant_id, form=form, status=HTTPStatus.BAD_REQUEST)
    response = Redirect(f"/console/tenants/{tenant_id}/tax", status_code=_SEE_OTHER)
    flash(response, translate(request, N_("The ruling is kept, and holds from its day on.")), "green")
    return response


async def _rule(session: AsyncSession, scope: TenantScope, typed: Mapping[str, str]) -> RulingView:
    await get_organisation(session, scope)
    ruling = await service.rule(
        session,
        scope,
        category=_category(typed["category"]),
        rate_bp=_rate_bp(typed["rate"]),
        reason=clean_reason(typed["reason"]),
        starts_on=_day(typed["starts_on"]),
    )
    return show_ruling(ruling)


def _category(text: str) -> TaxCategory | None:
    """Raises `Invalid`."""
    if text == _BY_THE_RULES:
        return None
    try:
        return TaxCategory(text)
    except ValueError:
        raise Invalid("no such category", param="category") from None


def _rate_bp(text: str) -> int:
    """Raises `Invalid`."""
    rate_bp = basis_points_of(text) if text.strip() else 0
    if rate_bp is None:
        raise Invalid("not a percentage", param="rate")
    return rate_bp


def _day(text: str) -> date | None:
    """Raises `Invalid`."""
    try:
        return date.fromisoformat(text.strip()) if text.strip() else None
    except ValueError:
        raise Invalid("no day", param="starts_on") from None


async def _page(
    request: ConsoleRequest,
    services: Services,
    tenant_id: str,
    *,
    form: Form | None = None,
    status: HTTPStatus = HTTPStatus.OK,
) -> Response[bytes]:
    scope = TenantScope(parse_tenant_id(tenant_id))
    async with services.database.audit() as session:
        now = await read_now(session)
        standing = await service.standing_of(session, scope, now.date())
        in_force = await queries.read_ruling(session, scope, now.date())
        rulings = await queries.list_rulings(session, scope, limit=_SHOWN)
    return console_page(
        request,
        "console/tenant_tax.html",
        status=status,
        now=now,
        today=now.date(),
        tenant_id=tenant_id,
        standing=standing,
        rulings=rulings,
        in_force_id=None if in_force is None else in_force.id,
        by_the_rules=_BY_THE_RULES,
        country_name=lambda code: country_name(request, code),
        reasons=REASONS,
        categories=CATEGORIES,
        number_states=NUMBER_STATES,
        sources=SOURCES,
        form=form or Form(),
        form_is_open=form is not None or "rule" in request.query_params,
        once=new_token(),
    )
