"""`/organisation`: what is known of the visitor's organisation, and the form that changes it."""

from http import HTTPStatus
from typing import Any, Final

from litestar import Request, Response, get, post
from litestar.datastructures import State
from litestar.response import Redirect

from chappe_billing.balance.queries import read_balance
from chappe_catalogue.regions.queries import read_jurisdictions
from chappe_control.origins import origin_of
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
    refused_form,
    values_of,
)
from chappe_control.pages.organisation_texts import REASONS, RELATIONS, STATES
from chappe_control.pages.render import page
from chappe_control.permissions import Permission
from chappe_control.portal.organisation import keeping
from chappe_control.state import Given, Services
from chappe_kernel.errors import Conflict, Invalid
from chappe_kernel.residency import expand
from chappe_tenants.organisations.changes import change_own
from chappe_tenants.organisations.details import fixed_details
from chappe_tenants.organisations.schemas import ChangeOrganisation
from chappe_tenants.organisations.service import get_organisation, lock_organisation
from chappe_tenants.sessions.service import MemberVisitor

MemberRequest = Request[Any, MemberVisitor, State]

# The framework's type wants the number itself.
_SEE_OTHER: Final = 303


@get("/organisation", include_in_schema=False, permission=Permission.READ_ORGANISATION)
async def show_organisation(request: MemberRequest, services: Given) -> Response[bytes]:
    return await _page(request, services, Form())


@post("/organisation", include_in_schema=False, permission=Permission.MANAGE_ORGANISATION)
async def change_organisation(request: MemberRequest, services: Given) -> Response[Any]:
    typed = await read_fields(request, *FIELDS, *keeping.FIELDS)
    chosen = await chosen_boxes(request, "regions")
    scope = request.auth.scope
    try:
        async with services.database.tenant(scope, origin_of(request)) as session:
            jurisdiction_of = await read_jurisdictions(session)
            present = await lock_organisation(session, scope)
            details = posted_details(typed)
            change = ChangeOrganisation(
                name=details.name,
                legal_name=details.legal_name,
                address=details.address,
                vat_number=details.vat_number,
                contact=details.contact,
                allowed_regions=chosen_regions(chosen, present.allowed_regions, jurisdiction_of),
                content_kept_for_s=keeping.posted_s(typed, "content_kept_for_s", present.content_kept_for_s),
                answers_kept_for_s=keeping.posted_s(typed, "answers_kept_for_s", present.answers_kept_for_s),
            )
            await change_own(session, scope, change, jurisdiction_of=jurisdiction_of)
    except (Invalid, Conflict) as error:
        status = HTTPStatus.CONFLICT if isinstance(error, Conflict) else HTTPStatus.BAD_REQUEST
        return await _page(request, services, refused_form(request, error, typed), chosen, status)
    response = Redirect("/organisation", status_code=_SEE_OTHER)
    flash(response, translate(request, N_("Your organisation is changed.")))
    return response


async def _page(
    request: MemberRequest,
    services: Services,
    form: Form,
    chosen: tuple[str, ...] = (),
    status: int = HTTPStatus.OK,
) -> Response[bytes]:
    scope = request.auth.scope
    async with services.database.tenant_snapshot(scope) as session:
        tenant = await get_organisation(session, scope)
        balance = await read_balance(session, scope)
        jurisdiction_of = await read_jurisdictions(session)
    regions = expand(tenant.allowed_regions, jurisdiction_of)
    return page(
        request,
        "portal/organisation.html",
        status=status,
        form=form,
        form_is_open=bool(form.values) or "edit" in request.query_params,
        tenant=tenant,
        balance=balance,
        values=form.values or values_of(tenant) | keeping.values_of(tenant),
        keeping=keeping.options(request, tenant),
        fixed=fixed_details(tenant),
        countries=country_options(request),
        country_name=lambda code: country_name(request, code),
        region_options=[(name, f"{name} ({jurisdiction_of[name]})") for name in regions],
        chosen=chosen if form.values else regions,
        states=STATES,
        reasons=REASONS,
        relations=RELATIONS,
    )
