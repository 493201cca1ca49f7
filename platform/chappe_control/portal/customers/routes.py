"""`/customers`: a reseller's customers, a new one, and the page of each."""

from http import HTTPStatus
from typing import Any, Final

from litestar import Request, Response, get, post
from litestar.datastructures import State
from litestar.params import FromPath
from litestar.response import Redirect

from chappe_billing.balance.queries import read_balance
from chappe_catalogue.regions.queries import read_jurisdictions
from chappe_control.cursors import cut_page, decode_cursor
from chappe_control.onboarding.tenants import Defaults, check_reseller, create_customer
from chappe_control.origins import reseller_origin_of
from chappe_control.pages.flash import flash
from chappe_control.pages.forms import Form, read_fields
from chappe_control.pages.languages import N_, translate
from chappe_control.pages.organisation_forms import (
    FIELDS,
    chosen_boxes,
    chosen_regions,
    country_name,
    country_options,
    posted_details,
    read_step,
    refused_form,
    values_of,
)
from chappe_control.pages.organisation_texts import REASONS, STATES, step_text
from chappe_control.pages.render import page
from chappe_control.permissions import Permission
from chappe_control.public.customers import id_of, scope_of_customer
from chappe_control.state import Given, Services
from chappe_kernel.errors import ChappeError, Conflict, Denied, Invalid
from chappe_kernel.ids import TENANT, encode_id
from chappe_kernel.residency import expand
from chappe_tenants.members.queries import count_owners
from chappe_tenants.organisations import queries
from chappe_tenants.organisations.changes import change_customer
from chappe_tenants.organisations.details import fixed_details
from chappe_tenants.organisations.lifecycle import Authority
from chappe_tenants.organisations.models import Tenant
from chappe_tenants.organisations.schemas import ChangeOrganisation, CreateCustomer, steps_of
from chappe_tenants.organisations.service import change_state, get_customer, get_organisation
from chappe_tenants.sessions.service import MemberVisitor

MemberRequest = Request[Any, MemberVisitor, State]

CUSTOMERS_PER_PAGE = 50
# The framework's type wants the number itself.
_SEE_OTHER: Final = 303


@get("/customers", include_in_schema=False, permission=Permission.READ_CUSTOMERS)
async def list_customers(request: MemberRequest, services: Given) -> Response[bytes]:
    scope = request.auth.scope
    before = decode_cursor(request.query_params.get("cursor"))
    async with services.database.tenant_snapshot(scope) as session:
        tenant = await get_organisation(session, scope)
        rows = await queries.list_customers(session, scope, limit=CUSTOMERS_PER_PAGE + 1, before=before)
    shown, next_cursor = cut_page(rows, CUSTOMERS_PER_PAGE, lambda customer: customer.id)
    return page(
        request,
        "portal/customers.html",
        customers=shown,
        next_cursor=next_cursor,
        is_reseller=tenant.is_reseller,
        states=STATES,
    )


@get("/customers/new", include_in_schema=False, permission=Permission.MANAGE_CUSTOMERS)
async def show_new_customer(request: MemberRequest, services: Given) -> Response[bytes]:
    return await _new_page(request, services, Form())


@post("/customers/new", include_in_schema=False, permission=Permission.MANAGE_CUSTOMERS)
async def make_customer(request: MemberRequest, services: Given) -> Response[Any]:
    typed = await read_fields(request, *FIELDS)
    chosen = await chosen_boxes(request, "regions")
    details = posted_details(typed)
    asked = CreateCustomer(
        name=details.name,
        legal_name=details.legal_name,
        address=details.address,
        vat_number=details.vat_number,
        contact=details.contact,
        allowed_regions=list(chosen),
    )
    defaults = Defaults(services.settings.sign_up_requests_per_minute)
    try:
        async with services.database.operator(reseller_origin_of(request)) as session:
            customer = await create_customer(session, request.auth.scope, asked, defaults)
    except (Invalid, Conflict) as error:
        return await _new_page(request, services, refused_form(request, error, typed), chosen, _status(error))
    return _back(request, customer, N_("“%(name)s” has applied. Your provider verifies and activates it."))


@get("/customers/{customer_id:str}", include_in_schema=False, permission=Permission.READ_CUSTOMERS)
async def show_customer(request: MemberRequest, services: Given, customer_id: FromPath[str]) -> Response[bytes]:
    return await _customer_page(request, services, customer_id, Form())


@post("/customers/{customer_id:str}", include_in_schema=False, permission=Permission.MANAGE_CUSTOMERS)
async def edit_customer(request: MemberRequest, services: Given, customer_id: FromPath[str]) -> Response[Any]:
    typed = await read_fields(request, *FIELDS)
    chosen = await chosen_boxes(request, "regions")
    scope, wanted = request.auth.scope, id_of(customer_id)
    try:
        async with services.database.tenant(scope, reseller_origin_of(request)) as session:
            jurisdiction_of = await read_jurisdictions(session)
            present = await get_customer(session, scope, wanted, lock=True)
            details = posted_details(typed)
            change = ChangeOrganisation(
                name=details.name,
                legal_name=details.legal_name,
                address=details.address,
                vat_number=details.vat_number,
                contact=details.contact,
                allowed_regions=chosen_regions(chosen, present.allowed_regions, jurisdiction_of),
            )
            customer = await change_customer(session, scope, wanted, change, jurisdiction_of=jurisdiction_of)
    except (Invalid, Conflict) as error:
        form = refused_form(request, error, typed)
        return await _customer_page(request, services, customer_id, form, chosen=chosen, status=_status(error))
    return _back(request, customer, N_("“%(name)s” is changed."))


@post("/customers/{customer_id:str}/transitions", include_in_schema=False, permission=Permission.MANAGE_CUSTOMERS)
async def take_step(request: MemberRequest, services: Given, customer_id: FromPath[str]) -> Response[Any]:
    """A step that somebody else took meanwhile is no error of the visitor's: they see the state as it is by now."""
    scope, wanted = request.auth.scope, id_of(customer_id)
    step = await read_step(request)
    found = await scope_of_customer(services.database, scope, wanted)
    try:
        async with services.database.operator(reseller_origin_of(request)) as session:
            await get_customer(session, scope, wanted, lock=True)
            customer = await change_state(session, found, step.state, step.reason, Authority.RESELLER)
    except (Conflict, Denied):
        async with services.database.tenant(scope) as session:
            customer = await get_customer(session, scope, wanted)
        return _back(request, customer, N_("“%(name)s” changed meanwhile."), "yellow")
    state = translate(request, STATES[step.state].name)
    return _back(request, customer, N_("The state of “%(name)s” is now: %(state)s"), state=state)


async def _new_page(
    request: MemberRequest,
    services: Services,
    form: Form,
    chosen: tuple[str, ...] = (),
    status: int = HTTPStatus.OK,
) -> Response[bytes]:
    """Raises `Denied` for who is no reseller."""
    scope = request.auth.scope
    async with services.database.tenant(scope) as session:
        reseller = await get_organisation(session, scope)
        jurisdiction_of = await read_jurisdictions(session)
    check_reseller(reseller)
    regions = expand(reseller.allowed_regions, jurisdiction_of)
    return page(
        request,
        "portal/customer_new.html",
        status=status,
        form=form,
        values=form.values or dict.fromkeys(FIELDS, ""),
        countries=country_options(request),
        country_name=lambda code: country_name(request, code),
        region_options=[(name, f"{name} ({jurisdiction_of[name]})") for name in regions],
        chosen=chosen if form.values else regions,
    )


async def _customer_page(
    request: MemberRequest,
    services: Services,
    customer_id: str,
    form: Form,
    *,
    chosen: tuple[str, ...] = (),
    status: int = HTTPStatus.OK,
) -> Response[bytes]:
    scope = request.auth.scope
    found = await scope_of_customer(services.database, scope, id_of(customer_id))
    async with services.database.tenant(scope) as session:
        customer = await get_customer(session, scope, found.tenant_id)
        reseller = await get_organisation(session, scope)
        jurisdiction_of = await read_jurisdictions(session)
    async with services.database.tenant(found) as session:
        balance = await read_balance(session, found)
        owners = await count_owners(session, found)
    regions = expand(customer.allowed_regions, jurisdiction_of)
    offered = dict.fromkeys((*regions, *expand(reseller.allowed_regions, jurisdiction_of)))
    return page(
        request,
        "portal/customer.html",
        status=status,
        form=form,
        form_is_open=bool(form.values) or "edit" in request.query_params,
        customer=customer,
        customer_id=customer_id,
        balance=balance,
        has_owner=owners > 0,
        values=form.values or values_of(customer),
        fixed=fixed_details(customer),
        countries=country_options(request),
        country_name=lambda code: country_name(request, code),
        region_options=[(name, f"{name} ({jurisdiction_of[name]})") for name in offered],
        chosen=chosen if form.values else regions,
        states=STATES,
        reasons=REASONS,
        steps=[(step, step_text(customer.state, step.state)) for step in steps_of(customer, Authority.RESELLER)],
    )


def _status(error: ChappeError) -> int:
    return HTTPStatus.CONFLICT if isinstance(error, Conflict) else HTTPStatus.BAD_REQUEST


def _back(request: MemberRequest, customer: Tenant, text: str, colour: str = "green", **values: str) -> Response[Any]:
    response = Redirect(f"/customers/{encode_id(TENANT, customer.id)}", status_code=_SEE_OTHER)
    flash(response, translate(request, text, name=customer.name, **values), colour)
    return response
