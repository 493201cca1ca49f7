"""`/console/tenants/{id}/quotas`: what holds for a tenant and why, and what is raised for a time."""

from datetime import UTC, datetime, time, timedelta
from http import HTTPStatus
from typing import Any, Final

from litestar import Response, get, post
from litestar.params import FromPath
from litestar.response import Redirect

from chappe_catalogue.listings.queries import list_listings
from chappe_control.console.rendering import ConsoleRequest, console_page
from chappe_control.origins import origin_of
from chappe_control.pages.flash import flash
from chappe_control.pages.forms import WHOLE_FORM, Form, read_fields
from chappe_control.pages.languages import N_, translate
from chappe_control.permissions import Permission
from chappe_control.public.quotas import check_model
from chappe_control.quotas.form import read_values
from chappe_control.quotas.overview import read_quotas
from chappe_control.state import Given, Services
from chappe_kernel.errors import Invalid, NotFound
from chappe_kernel.ids import QUOTA_RAISE, TENANT, QuotaRaiseId, TenantId, decode_id
from chappe_store.queries import read_now
from chappe_store.session import TenantScope
from chappe_tenants.organisations.service import get_organisation
from chappe_tenants.quotas import queries, service

# The framework's type wants the numbers themselves.
_SEE_OTHER: Final = 303
_RAISES_SHOWN = 50
_FIELDS = ("model", "requests_per_minute", "tokens_per_minute", "monthly_budget", "reason", "last_day")

_PROBLEMS = {
    "model": N_("Choose a model that is on sale, or all."),
    "requests_per_minute": N_("A whole number above what plan and contract allow, or nothing."),
    "tokens_per_minute": N_("A whole number above what plan and contract allow, or nothing."),
    "monthly_budget": N_("An amount above what plan and contract allow, or nothing."),
    "reason": N_("Say why, in at most 500 characters of one line."),
    "ends_at": N_("Choose a day within a year from now."),
    WHOLE_FORM: N_("Raise something: give at least one value."),
}


@get("/tenants/{tenant_id:str}/quotas", permission=Permission.SEE_TENANT_QUOTAS)
async def show_quotas(request: ConsoleRequest, services: Given, tenant_id: FromPath[str]) -> Response[bytes]:
    return await _page(request, services, tenant_id)


@post("/tenants/{tenant_id:str}/quotas/raises", permission=Permission.MANAGE_TENANT_QUOTAS)
async def raise_quota(request: ConsoleRequest, services: Given, tenant_id: FromPath[str]) -> Response[Any]:
    """Until the end of the day that was chosen, in UTC."""
    scope = _scope(tenant_id)
    posted = await read_fields(request, *_FIELDS)
    try:
        async with services.database.operator(origin_of(request)) as session:
            await get_organisation(session, scope)
            await service.raise_quota(
                session,
                scope,
                model=await check_model(session, posted["model"].removeprefix("*") or None),
                values=read_values(posted | {"hard_stop": "on", "alert_percents": ""}),
                reason=posted["reason"],
                ends_at=_end_of(posted["last_day"]),
            )
    except Invalid as error:
        field = error.param if error.param in _PROBLEMS else WHOLE_FORM
        shown = "last_day" if field == "ends_at" else field
        form = Form(posted, {shown: translate(request, _PROBLEMS[field])})
        return await _page(request, services, tenant_id, form=form, status=HTTPStatus.BAD_REQUEST)
    return _back(request, tenant_id, N_("The quota is raised."))


@post("/tenants/{tenant_id:str}/quotas/raises/{raise_id:str}/end", permission=Permission.MANAGE_TENANT_QUOTAS)
async def end_raise(
    request: ConsoleRequest, services: Given, tenant_id: FromPath[str], raise_id: FromPath[str]
) -> Response[Any]:
    try:
        found = QuotaRaiseId(decode_id(QUOTA_RAISE, raise_id))
    except Invalid:
        raise NotFound("no such raise") from None
    async with services.database.operator(origin_of(request)) as session:
        await service.end_raise(session, _scope(tenant_id), found)
    return _back(request, tenant_id, N_("The raise has ended. Plan and contract hold again."))


async def _page(
    request: ConsoleRequest,
    services: Services,
    tenant_id: str,
    *,
    form: Form | None = None,
    status: HTTPStatus = HTTPStatus.OK,
) -> Response[bytes]:
    scope = _scope(tenant_id)
    async with services.database.audit() as session:
        tenant = await get_organisation(session, scope)
        now = await read_now(session)
        found = await read_quotas(session, scope)
        raises = await queries.list_raises(session, scope, limit=_RAISES_SHOWN)
        models = [listing.name for listing in await list_listings(session)]
    return console_page(
        request,
        "console/quotas.html",
        status=status,
        tenant=tenant,
        tenant_id=tenant_id,
        found=found,
        raises=raises,
        models=models,
        now=now,
        form=form or Form(),
        form_is_open=form is not None or "raise" in request.query_params,
        first_day=now.date().isoformat(),
    )


def _end_of(last_day: str) -> datetime:
    try:
        day = datetime.strptime(last_day, "%Y-%m-%d").replace(tzinfo=UTC).date()
        return datetime.combine(day, time(), UTC) + timedelta(days=1)
    except (ValueError, OverflowError):
        raise Invalid("not a day", param="ends_at") from None


def _back(request: ConsoleRequest, tenant_id: str, text: str) -> Response[Any]:
    response = Redirect(f"/console/tenants/{tenant_id}/quotas", status_code=_SEE_OTHER)
    flash(response, translate(request, text), "green")
    return response


def _scope(text: str) -> TenantScope:
    # The operator's role sees every tenant, and the guard has let this visitor in: here the id itself is the scope.
    try:
        return TenantScope(TenantId(decode_id(TENANT, text)))
    except Invalid:
        raise NotFound("no such organisation") from None
