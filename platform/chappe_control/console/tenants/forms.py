"""The console's pages that change tenants: create, edit, credit limit, steps from state to state."""

from http import HTTPStatus
from typing import Any, Final

from litestar import Response, get, post
from litestar.params import FromPath
from litestar.response import Redirect
from msgspec import UNSET, Struct
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_billing.budgets.queries import read_credit_limits
from chappe_billing.credit.service import set_credit_limit
from chappe_catalogue.regions.queries import read_jurisdictions
from chappe_control.console.rendering import ConsoleRequest, about_role
from chappe_control.onboarding.tenants import Defaults, create_tenant
from chappe_control.operator_api.tenants import scope_of
from chappe_control.origins import origin_of
from chappe_control.pages.flash import flash
from chappe_control.pages.forms import Form, read_fields
from chappe_control.pages.languages import N_, translate
from chappe_control.pages.organisation_forms import (
    FIELDS,
    Posted,
    chosen_boxes,
    chosen_regions,
    country_name,
    country_options,
    posted_details,
    read_step,
    refused_form,
    values_of,
)
from chappe_control.pages.organisation_texts import RELATIONS, STATES
from chappe_control.pages.render import page
from chappe_control.permissions import Permission
from chappe_control.state import Given, Services
from chappe_kernel.errors import ChappeError, Conflict, Denied, Invalid
from chappe_kernel.ids import LEGAL_ENTITY, TENANT, encode_id
from chappe_kernel.money import format_nano, parse_nano
from chappe_kernel.residency import expand
from chappe_store.session import TenantScope
from chappe_tenants.legal_entities.models import DEFAULT_LEGAL_ENTITY_ID
from chappe_tenants.legal_entities.queries import list_entities
from chappe_tenants.organisations.changes import change_tenant
from chappe_tenants.organisations.lifecycle import INITIAL, Authority, TenantState
from chappe_tenants.organisations.models import Tenant
from chappe_tenants.organisations.relations import Relation
from chappe_tenants.organisations.schemas import MAX_SHARE, ChangeTenant, CreateTenant, ParentRef, parent_of
from chappe_tenants.organisations.service import (
    STANDARD_PLAN,
    change_state,
    get_organisation,
    lock_organisation,
)

# The framework's type wants the number itself.
_SEE_OTHER: Final = 303
_CONTRACT_FIELDS = ("plan", "contract_reference", "parent", "relation", "is_reseller")
_STANDING_FIELDS = ("verified", "share")
_NEW_FIELDS = (*FIELDS, *_CONTRACT_FIELDS, "state", "legal_entity_id", "reference")
_MAX_ENTITIES = 500
_STATES = sorted(INITIAL, key=list(TenantState).index)


class Asked(Struct, frozen=True):
    """A posted form: the details, the contract, and the boxes that were ticked."""

    details: Posted
    plan: str
    contract_reference: str | None
    is_reseller: bool
    parent: ParentRef | None
    regions: tuple[str, ...]


@get("/tenants/new", permission=Permission.MANAGE_TENANTS)
async def show_new_tenant(request: ConsoleRequest, services: Given) -> Response[bytes]:
    async with services.database.audit() as session:
        return await _new_page(request, session, Form(), None)


@post("/tenants/new", permission=Permission.MANAGE_TENANTS)
async def make_tenant(request: ConsoleRequest, services: Given) -> Response[Any]:
    typed = await read_fields(request, *_NEW_FIELDS)
    chosen = await chosen_boxes(request, "regions")
    try:
        asked = _read(typed, chosen)
        async with services.database.operator(origin_of(request)) as session:
            tenant = await create_tenant(session, _order(asked, typed), _defaults(services))
    except (Invalid, Conflict) as error:
        form = refused_form(request, error, typed)
        async with services.database.audit() as session:
            return await _new_page(request, session, form, chosen, _status(error))
    return _back(request, tenant, N_("“%(name)s” is there now."))


@get("/tenants/{tenant_id:str}/edit", permission=Permission.MANAGE_TENANTS)
async def show_edit_tenant(request: ConsoleRequest, services: Given, tenant_id: FromPath[str]) -> Response[bytes]:
    return await _edit_page(request, services, scope_of(tenant_id), Form())


@post("/tenants/{tenant_id:str}/edit", permission=Permission.MANAGE_TENANTS)
async def edit_tenant(request: ConsoleRequest, services: Given, tenant_id: FromPath[str]) -> Response[Any]:
    scope = scope_of(tenant_id)
    typed = await read_fields(request, *FIELDS, *_CONTRACT_FIELDS, *_STANDING_FIELDS)
    chosen = await chosen_boxes(request, "regions")
    try:
        asked = _read(typed, chosen)
        async with services.database.operator(origin_of(request)) as session:
            jurisdiction_of = await read_jurisdictions(session)
            present = await lock_organisation(session, scope)
            change = _change(asked, typed, present, jurisdiction_of)
            tenant = await change_tenant(session, scope, change, jurisdiction_of=jurisdiction_of)
    except (Invalid, Conflict) as error:
        form = refused_form(request, error, typed)
        return await _edit_page(request, services, scope, form, chosen=chosen, status=_status(error))
    return _back(request, tenant, N_("“%(name)s” is changed."))


@post("/tenants/{tenant_id:str}/credit-limit", permission=Permission.SET_CREDIT_LIMITS)
async def edit_credit_limit(request: ConsoleRequest, services: Given, tenant_id: FromPath[str]) -> Response[Any]:
    scope = scope_of(tenant_id)
    typed = await read_fields(request, "credit_limit")
    try:
        async with services.database.operator(origin_of(request)) as session:
            tenant = await get_organisation(session, scope)
            await set_credit_limit(session, scope.tenant_id, _amount(typed["credit_limit"]), tenant.currency)
    except Invalid as error:
        return await _limit_page(request, services, scope, refused_form(request, error, typed), _status(error))
    return _back(request, tenant, N_("The credit limit of “%(name)s” is set."))


@get("/tenants/{tenant_id:str}/credit-limit", permission=Permission.SET_CREDIT_LIMITS)
async def show_credit_limit(request: ConsoleRequest, services: Given, tenant_id: FromPath[str]) -> Response[bytes]:
    return await _limit_page(request, services, scope_of(tenant_id), Form())


@post("/tenants/{tenant_id:str}/transitions", permission=Permission.MANAGE_TENANTS)
async def take_step(request: ConsoleRequest, services: Given, tenant_id: FromPath[str]) -> Response[Any]:
    """A step that somebody else took meanwhile is no error of the visitor's: they see the state as it is by now."""
    scope = scope_of(tenant_id)
    try:
        step = await read_step(request)
        async with services.database.operator(origin_of(request)) as session:
            tenant = await change_state(session, scope, step.state, step.reason, Authority.OPERATOR)
    except (Conflict, Denied) as error:
        async with services.database.audit() as session:
            tenant = await get_organisation(session, scope)
        missing = error.code == "details_missing"
        text = N_("Complete the details of “%(name)s” first.") if missing else N_("“%(name)s” changed meanwhile.")
        return _back(request, tenant, text, "yellow")
    state = translate(request, STATES[step.state].name)
    return _back(request, tenant, N_("The state of “%(name)s” is now: %(state)s"), state=state)


def _read(typed: dict[str, str], chosen: tuple[str, ...]) -> Asked:
    """Raises `Invalid` naming the field."""
    parent = typed["parent"].strip()
    try:
        relation = Relation(typed["relation"]) if parent else Relation.SUBSIDIARY
    except ValueError:
        raise Invalid("there is no such relation", param="relation") from None
    return Asked(
        details=posted_details(typed),
        plan=typed["plan"],
        contract_reference=typed["contract_reference"].strip() or None,
        is_reseller=typed["is_reseller"] == "yes",
        parent=ParentRef(parent, relation) if parent else None,
        regions=chosen,
    )


def _order(asked: Asked, typed: dict[str, str]) -> CreateTenant:
    if typed["state"] not in INITIAL:
        raise Invalid("no organisation begins like this", param="state")
    details = asked.details
    return CreateTenant(
        name=details.name,
        legal_name=details.legal_name,
        address=details.address,
        vat_number=details.vat_number,
        contact=details.contact,
        allowed_regions=list(asked.regions),
        state=typed["state"],  # type: ignore[arg-type]  # one of these three, as was looked at
        legal_entity_id=typed["legal_entity_id"] or None,
        plan=asked.plan,
        reference=typed["reference"].strip() or None,
        contract_reference=asked.contract_reference,
        is_reseller=asked.is_reseller,
        parent=asked.parent,
    )


def _change(asked: Asked, typed: dict[str, str], present: Tenant, jurisdiction_of: dict[str, str]) -> ChangeTenant:
    details = asked.details
    return ChangeTenant(
        name=details.name,
        legal_name=details.legal_name,
        address=details.address,
        vat_number=details.vat_number,
        contact=details.contact,
        allowed_regions=chosen_regions(asked.regions, present.allowed_regions, jurisdiction_of),
        plan=asked.plan,
        contract_reference=asked.contract_reference,
        is_reseller=asked.is_reseller,
        parent=asked.parent,
        verified=typed["verified"] == "yes" if typed["verified"] else UNSET,
        share=_share(typed["share"].strip()) if typed["verified"] else UNSET,
    )


def _share(text: str) -> int | None:
    """Raises `Invalid`."""
    if not text:
        return None
    if not text.isascii() or not text.isdecimal() or not 1 <= int(text) <= MAX_SHARE:
        raise Invalid(f"a share is a number from 1 to {MAX_SHARE}", param="share")
    return int(text)


async def _new_page(
    request: ConsoleRequest,
    session: AsyncSession,
    form: Form,
    chosen: tuple[str, ...] | None,
    status: int = HTTPStatus.OK,
) -> Response[bytes]:
    """With every region `chosen` as long as nobody has chosen."""
    jurisdiction_of = await read_jurisdictions(session)
    entities = await list_entities(session, limit=_MAX_ENTITIES)
    default = encode_id(LEGAL_ENTITY, DEFAULT_LEGAL_ENTITY_ID)
    empty = dict.fromkeys(_NEW_FIELDS, "") | {"plan": STANDARD_PLAN, "state": "applied", "legal_entity_id": default}
    return _form_page(
        request,
        "console/tenant_new.html",
        form,
        status,
        values=form.values or empty,
        chosen=tuple(jurisdiction_of) if chosen is None else chosen,
        jurisdiction_of=jurisdiction_of,
        # Oldest first: the one that every instance begins with stands above the others.
        entity_options=[(encode_id(LEGAL_ENTITY, one.id), f"{one.name} ({one.currency})") for one in entities[::-1]],
        state_options=[(state.value, translate(request, STATES[state].name)) for state in _STATES],
    )


async def _edit_page(
    request: ConsoleRequest,
    services: Services,
    scope: TenantScope,
    form: Form,
    *,
    chosen: tuple[str, ...] = (),
    status: int = HTTPStatus.OK,
) -> Response[bytes]:
    async with services.database.audit() as session:
        tenant = await get_organisation(session, scope)
        jurisdiction_of = await read_jurisdictions(session)
    return _form_page(
        request,
        "console/tenant_edit.html",
        form,
        status,
        tenant=tenant,
        tenant_id=encode_id(TENANT, tenant.id),
        values=form.values or _values(tenant),
        chosen=chosen if form.values else expand(tenant.allowed_regions, jurisdiction_of),
        jurisdiction_of=jurisdiction_of,
    )


def _form_page(
    request: ConsoleRequest,
    template: str,
    form: Form,
    status: int,
    *,
    jurisdiction_of: dict[str, str],
    **values: Any,
) -> Response[bytes]:
    return page(
        request,
        template,
        status=status,
        form=form,
        countries=country_options(request),
        country_name=lambda code: country_name(request, code),
        relation_options=[(relation.value, translate(request, RELATIONS[relation])) for relation in Relation],
        region_options=[(name, f"{name} ({law})") for name, law in jurisdiction_of.items()],
        **about_role(request),
        **values,
    )


async def _limit_page(
    request: ConsoleRequest, services: Services, scope: TenantScope, form: Form, status: int = HTTPStatus.OK
) -> Response[bytes]:
    async with services.database.audit() as session:
        tenant = await get_organisation(session, scope)
        limit_nano = await _credit_limit(session, scope)
    return page(
        request,
        "console/tenant_credit_limit.html",
        status=status,
        form=form,
        tenant=tenant,
        tenant_id=encode_id(TENANT, tenant.id),
        credit_limit=form.value("credit_limit") or format_nano(limit_nano).rstrip("0").rstrip("."),
        **about_role(request),
    )


async def _credit_limit(session: AsyncSession, scope: TenantScope) -> int:
    return (await read_credit_limits(session, [scope.tenant_id])).get(scope.tenant_id, 0)


def _values(tenant: Tenant) -> dict[str, str]:
    parent = parent_of(tenant)
    return values_of(tenant) | {
        "plan": tenant.plan,
        "contract_reference": tenant.contract_reference or "",
        "is_reseller": "yes" if tenant.is_reseller else "",
        "parent": parent.id if parent else "",
        "relation": parent.relation if parent else "",
        "verified": "yes" if tenant.verified else "no",
        "share": "" if tenant.share is None else str(tenant.share),
    }


def _amount(text: str) -> int:
    try:
        return parse_nano(text.strip().replace(",", "."))
    except Invalid as error:
        raise Invalid(error.message, code=error.code, param="credit_limit") from None


def _defaults(services: Services) -> Defaults:
    return Defaults(services.settings.sign_up_requests_per_minute)


def _status(error: ChappeError) -> int:
    return HTTPStatus.CONFLICT if isinstance(error, Conflict) else HTTPStatus.BAD_REQUEST


def _back(request: ConsoleRequest, tenant: Tenant, text: str, colour: str = "green", **values: str) -> Response[Any]:
    response = Redirect(f"/console/tenants/{encode_id(TENANT, tenant.id)}", status_code=_SEE_OTHER)
    flash(response, translate(request, text, name=tenant.name, **values), colour)
    return response
