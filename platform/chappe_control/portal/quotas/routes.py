"""`/quotas`: what holds, what is set, and a form to narrow it."""

from http import HTTPStatus
from typing import Annotated, Any, Final

import msgspec
from litestar import Request, Response, get, post
from litestar.datastructures import State
from litestar.params import PathParameter
from litestar.response import Redirect
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_control.etags import etag_of
from chappe_control.origins import origin_of
from chappe_control.pages.flash import flash
from chappe_control.pages.forms import WHOLE_FORM, Form, read_fields
from chappe_control.pages.languages import N_, translate
from chappe_control.pages.render import page
from chappe_control.permissions import Permission, may
from chappe_control.public.quotas import check_model, parse_quota_id
from chappe_control.quotas.form import FIELDS, filled, read_subject, read_values
from chappe_control.quotas.overview import read_choices, read_quotas
from chappe_control.state import Given, Services
from chappe_kernel.errors import Conflict, Denied, Invalid, NotFound
from chappe_kernel.ids import QUOTA, QuotaId, encode_id
from chappe_store.session import TenantScope
from chappe_tenants.quotas import queries, service
from chappe_tenants.quotas.effective import Level, Rule
from chappe_tenants.quotas.schemas import show_quota
from chappe_tenants.sessions.service import MemberVisitor

MemberRequest = Request[Any, MemberVisitor, State]
QuotaPath = Annotated[str, PathParameter()]

# The framework's type wants the numbers themselves.
_SEE_OTHER: Final = 303

_PROBLEMS = {
    "subject": N_("Choose the organisation, a project or a key."),
    "model": N_("Choose a model that is on sale, or all."),
    "requests_per_minute": N_("A whole number of at least 1, or nothing."),
    "tokens_per_minute": N_("A whole number of at least 1, or nothing."),
    "monthly_budget": N_("An amount such as 500 or 500.50, or nothing."),
    "alert_percents": N_("Up to ten whole percents, ascending, such as 50, 80, 100. They need a budget."),
    WHOLE_FORM: N_("Limit something: give at least one value."),
}
_ABOVE = N_("This is more than the level above allows.")
_EXISTS = N_("There is a quota for this already. Change that one.")
_CHANGED = N_("Somebody has changed this quota meanwhile. This is how it is now.")


@get("/quotas", include_in_schema=False, permission=Permission.READ_QUOTAS)
async def show_quotas(request: MemberRequest, services: Given) -> Response[bytes]:
    edited = request.query_params.get("edit")
    if edited is None:
        return await _page(request, services)
    async with services.database.tenant(request.auth.scope) as session:
        rule = await _own(session, request.auth.scope, edited)
    return await _page(request, services, form=filled(rule), edited=rule)


@post("/quotas", include_in_schema=False, permission=Permission.MANAGE_QUOTAS)
async def create_quota(request: MemberRequest, services: Given) -> Response[Any]:
    posted = await read_fields(request, *FIELDS)
    scope = request.auth.scope
    try:
        subject, values = read_subject(posted["subject"]), read_values(posted)
        async with services.database.tenant(scope, origin_of(request)) as session:
            model = await check_model(session, posted["model"].removeprefix("*") or None)
            await service.create_quota(session, scope, subject, model, values)
    except Conflict:
        return await _refuse(request, services, posted, "subject", _EXISTS, status=HTTPStatus.CONFLICT)
    except NotFound:
        return await _refuse(request, services, posted, "subject", _PROBLEMS["subject"])
    except Invalid as error:
        return await _refuse(request, services, posted, *_explain(error))
    return _back(request, N_("The quota is set."))


@post("/quotas/{quota_id:str}", include_in_schema=False, permission=Permission.MANAGE_QUOTAS)
async def change_quota(request: MemberRequest, services: Given, quota_id: QuotaPath) -> Response[Any]:
    """Refused when it is not what the form was made from any more."""
    posted = await read_fields(request, *FIELDS, "seen")
    scope = request.auth.scope
    async with services.database.tenant(scope) as session:
        rule = await _own(session, scope, quota_id)
    try:
        values = read_values(posted)
        async with services.database.tenant(scope, origin_of(request)) as session:
            rule = await _own(session, scope, quota_id, lock=True)
            if etag_of(show_quota(rule)) != posted["seen"]:
                form = Form(filled(rule).values, {WHOLE_FORM: translate(request, _CHANGED)})
                return await _page(request, services, form=form, edited=rule, status=HTTPStatus.CONFLICT)
            # The form does not show it, so it does not change it.
            values = msgspec.structs.replace(values, concurrent_requests=rule.concurrent_requests)
            await service.change_quota(session, scope, rule, values)
    except Invalid as error:
        return await _refuse(request, services, posted, *_explain(error), edited=rule)
    return _back(request, N_("The quota is changed."))


@post("/quotas/{quota_id:str}/remove", include_in_schema=False, permission=Permission.MANAGE_QUOTAS)
async def remove_quota(request: MemberRequest, services: Given, quota_id: QuotaPath) -> Response[Any]:
    scope = request.auth.scope
    async with services.database.tenant(scope, origin_of(request)) as session:
        rule = await _own(session, scope, quota_id, lock=True)
        await queries.delete_quota(session, scope, QuotaId(rule.id))
    return _back(request, N_("The quota is removed. What the levels above allow holds again."))


async def _page(
    request: MemberRequest,
    services: Services,
    *,
    form: Form | None = None,
    edited: Rule | None = None,
    status: HTTPStatus = HTTPStatus.OK,
) -> Response[bytes]:
    scope = request.auth.scope
    async with services.database.tenant_snapshot(scope) as session:
        found = await read_quotas(session, scope)
        choices = await read_choices(session, scope)
    manages = may(request.auth.role, Permission.MANAGE_QUOTAS)
    return page(
        request,
        "portal/quotas.html",
        status=status,
        found=found,
        choices=choices,
        form=form or Form({"hard_stop": "on", "alert_percents": "50, 75, 90, 100"}),
        form_is_open=manages and (form is not None or "new" in request.query_params),
        edited=edited,
        edited_id=None if edited is None else encode_id(QUOTA, edited.id),
        seen=None if edited is None else etag_of(show_quota(edited)),
    )


async def _refuse(
    request: MemberRequest,
    services: Services,
    posted: dict[str, str],
    field: str,
    problem: str,
    *,
    status: HTTPStatus = HTTPStatus.BAD_REQUEST,
    edited: Rule | None = None,
) -> Response[bytes]:
    """The form again, with what was typed and what is wrong with it."""
    form = Form(posted, {field: translate(request, problem)})
    return await _page(request, services, form=form, edited=edited, status=status)


def _explain(error: Invalid) -> tuple[str, str]:
    field = error.param if error.param in _PROBLEMS else WHOLE_FORM
    return field, _ABOVE if error.code == "above_inherited_limit" else _PROBLEMS[field]


def _back(request: MemberRequest, text: str) -> Response[Any]:
    response = Redirect("/quotas", status_code=_SEE_OTHER)
    flash(response, translate(request, text), "green")
    return response


async def _own(session: AsyncSession, scope: TenantScope, text: str, *, lock: bool = False) -> Rule:
    rule = await service.get_quota(session, scope, parse_quota_id(text), lock=lock)
    if rule.level is Level.CONTRACT:
        raise Denied("this was agreed with the operator, who alone can change it", code="contract_quota")
    return rule
