"""`/customers/{id}/owners`: a reseller invites its customer's first owner."""

from functools import partial
from http import HTTPStatus
from typing import Any

from litestar import Response, get, post
from litestar.params import FromPath

from chappe_control.joining.owners import invite_by_form
from chappe_control.origins import reseller_origin_of
from chappe_control.pages.forms import Form
from chappe_control.pages.render import page
from chappe_control.permissions import Permission
from chappe_control.portal.customers.routes import MemberRequest
from chappe_control.public.customers import id_of, scope_of_customer
from chappe_control.state import Given, Services
from chappe_tenants.invitations.queries import InvitationRecord
from chappe_tenants.organisations.lifecycle import Authority
from chappe_tenants.organisations.service import get_customer


@get("/customers/{customer_id:str}/owners", include_in_schema=False, permission=Permission.MANAGE_CUSTOMERS)
async def show_owner_form(request: MemberRequest, services: Given, customer_id: FromPath[str]) -> Response[bytes]:
    return await _page(request, services, customer_id, form=Form())


@post("/customers/{customer_id:str}/owners", include_in_schema=False, permission=Permission.MANAGE_CUSTOMERS)
async def invite_first_owner(request: MemberRequest, services: Given, customer_id: FromPath[str]) -> Response[Any]:
    return await invite_by_form(
        request,
        services.database.operator(reseller_origin_of(request)),
        await scope_of_customer(services.database, request.auth.scope, id_of(customer_id)),
        Authority.RESELLER,
        show=partial(_page, request, services, customer_id),
        back=f"/customers/{customer_id}",
    )


async def _page(
    request: MemberRequest,
    services: Services,
    customer_id: str,
    *,
    form: Form,
    status: int = HTTPStatus.OK,
    invitation: InvitationRecord | None = None,
    invitation_link: str | None = None,
) -> Response[bytes]:
    scope = request.auth.scope
    async with services.database.tenant(scope) as session:
        customer = await get_customer(session, scope, id_of(customer_id))
    return page(
        request,
        "portal/customer_owner.html",
        status=status,
        headers={"cache-control": "no-store"},
        form=form,
        customer=customer,
        customer_id=customer_id,
        invitation=invitation,
        invitation_link=invitation_link,
    )
