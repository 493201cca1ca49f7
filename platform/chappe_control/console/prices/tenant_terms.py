"""`/console/tenants/{id}/prices`: a tenant's own prices, and what its contract says of whole months."""

from collections.abc import Mapping
from functools import partial
from http import HTTPStatus
from typing import Any, Final

from litestar import Response, get, post
from litestar.params import FromPath
from litestar.response import Redirect
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_billing.contract_terms import queries as term_queries
from chappe_billing.contract_terms import service
from chappe_billing.contract_terms.reckoning import TermKind, Tier
from chappe_billing.contract_terms.schemas import TermView, show_term
from chappe_billing.cut_off.queries import list_entries
from chappe_billing.prices.queries import list_versions
from chappe_control.console.prices.book import State
from chappe_control.console.prices.entry import basis_points_of, read_amount, read_month
from chappe_control.console.prices.once import ONCE, call_of_form, new_token
from chappe_control.console.prices.routes import read_rows
from chappe_control.console.prices.texts import TERMS
from chappe_control.console.rendering import ConsoleRequest, console_page
from chappe_control.idempotency import service as idempotency
from chappe_control.operator_api.tenants import scope_of
from chappe_control.origins import origin_of
from chappe_control.pages.flash import flash
from chappe_control.pages.forms import WHOLE_FORM, Form, read_fields
from chappe_control.pages.languages import N_, translate
from chappe_control.permissions import Permission
from chappe_control.public.references import id_in_path
from chappe_control.state import Given, Services
from chappe_kernel.errors import Conflict, Invalid
from chappe_kernel.ids import CONTRACT_TERM, ContractTermId
from chappe_store.queries import read_now
from chappe_store.session import TenantScope
from chappe_tenants.organisations.service import get_organisation

# The framework's type wants the numbers themselves.
_SEE_OTHER: Final = 303
TIERS = 5
"""The form's; the API takes more."""
_TIER_FIELDS = tuple(f"{name}_{number}" for number in range(1, TIERS + 1) for name in ("above", "percent"))
_FIELDS = ("kind", "first_month", "last_month", "amount", *_TIER_FIELDS)
_VERSIONS_READ = 200

_PROBLEMS = {
    "kind": N_("Choose a kind."),
    "first_month": N_("Choose this month or a later one."),
    "last_month": N_("Choose a month that is not before the first; a commitment needs one."),
    "amount": N_("Minimums and commitments have an amount up to a billion; a volume discount has tiers instead."),
    "tiers": N_("A volume discount has tiers, each above the one before it; nothing else has any."),
    "above": N_("Enter an amount."),
    "percent": N_("Enter a percentage from 0 to 100, with at most two decimals."),
}


@get("/tenants/{tenant_id:str}/prices", permission=Permission.SEE_PRICES)
async def show_tenant_prices(request: ConsoleRequest, services: Given, tenant_id: FromPath[str]) -> Response[bytes]:
    """`?agree=1` opens the form."""
    return await _page(request, services, tenant_id)


@post("/tenants/{tenant_id:str}/prices/terms", permission=Permission.MANAGE_PRICES)
async def agree_term(request: ConsoleRequest, services: Given, tenant_id: FromPath[str]) -> Response[Any]:
    """Sent twice, it is agreed once."""
    scope = scope_of(tenant_id)
    typed = await read_fields(request, *_FIELDS, ONCE)
    call = call_of_form(request, typed)
    try:
        async with services.database.operator(origin_of(request)) as session:
            work = partial(_agree, session, scope, typed)
            await idempotency.once(session, request.auth.user_id, call, TermView, work)
    except Invalid as error:
        key = error.param or WHOLE_FORM
        text = _PROBLEMS.get(key) or _PROBLEMS[key.partition("_")[0]]
        shown = "above_1" if key == "tiers" else key
        form = Form(typed, {shown: translate(request, text)})
        return await _page(request, services, tenant_id, form=form, status=HTTPStatus.BAD_REQUEST)
    return _back(request, tenant_id, N_("The term is agreed."))


@post("/tenants/{tenant_id:str}/prices/terms/{term_id:str}/end", permission=Permission.MANAGE_PRICES)
async def end_term(
    request: ConsoleRequest, services: Given, tenant_id: FromPath[str], term_id: FromPath[str]
) -> Response[Any]:
    """With this month. Sent twice, it changes nothing more."""
    found = ContractTermId(id_in_path(CONTRACT_TERM, term_id, "term"))
    try:
        async with services.database.operator(origin_of(request)) as session:
            await service.end_term(session, scope_of(tenant_id), found)
    except Conflict:
        return _back(request, tenant_id, N_("This term was over already."), "yellow")
    return _back(request, tenant_id, N_("The term ends with this month."))


async def _agree(session: AsyncSession, scope: TenantScope, typed: Mapping[str, str]) -> TermView:
    await get_organisation(session, scope)
    if typed["kind"] not in set(TermKind):
        raise Invalid("no such kind", param="kind")
    term = await service.agree_term(
        session,
        scope,
        kind=TermKind(typed["kind"]),
        first_month=read_month(typed["first_month"], "first_month"),
        last_month=read_month(typed["last_month"], "last_month") if typed["last_month"].strip() else None,
        amount_nano=read_amount(typed["amount"], "amount") if typed["amount"].strip() else None,
        tiers=read_tiers(typed),
    )
    return show_term(term)


def read_tiers(typed: Mapping[str, str]) -> list[Tier]:
    """Those of the form's that were filled in. Raises `Invalid` naming the field."""
    tiers = []
    for number in range(1, TIERS + 1):
        above, percent = typed[f"above_{number}"].strip(), typed[f"percent_{number}"].strip()
        if above or percent:
            basis_points = basis_points_of(percent)
            if basis_points is None:
                raise Invalid("not a percentage", param=f"percent_{number}")
            tiers.append(Tier(read_amount(above, f"above_{number}"), basis_points))
    return tiers


async def _page(
    request: ConsoleRequest,
    services: Services,
    tenant_id: str,
    *,
    form: Form | None = None,
    status: HTTPStatus = HTTPStatus.OK,
) -> Response[bytes]:
    scope = scope_of(tenant_id)
    async with services.database.audit() as session:
        tenant = await get_organisation(session, scope)
        now = await read_now(session)
        found = await list_versions(session, limit=_VERSIONS_READ, tenant_id=scope.tenant_id)
        rows = await read_rows(session, found, now)
        terms = await term_queries.list_terms(session, scope)
        entries = await list_entries(session, scope)
    return console_page(
        request,
        "console/tenant_prices.html",
        status=status,
        now=now,
        this_month=now.date().replace(day=1),
        tenant=tenant,
        tenant_id=tenant_id,
        rows=sorted(
            (row for row in rows if row.state in {State.IN_FORCE, State.SCHEDULED}),
            key=lambda row: (row.listing, row.version.region, row.version.starts_at),
        ),
        terms=terms,
        entries=entries,
        term_kinds=TERMS,
        kind_of={term.id: term.kind for term in terms},
        tiers=range(1, TIERS + 1),
        form=form or Form(),
        form_is_open=form is not None or "agree" in request.query_params,
        once=new_token(),
    )


def _back(request: ConsoleRequest, tenant_id: str, text: str, colour: str = "green") -> Response[Any]:
    response = Redirect(f"/console/tenants/{tenant_id}/prices", status_code=_SEE_OTHER)
    flash(response, translate(request, text), colour)
    return response
