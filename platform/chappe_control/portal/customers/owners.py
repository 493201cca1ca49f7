"""`/customers/{id}/owners`: a reseller invites its customer's first owner."""

from http import HTTPStatus
from typing import Any, Final

from litestar import Response, get, post
from litestar.params import FromPath
from litestar.response import Redirect

from chappe_control.joining.delivery import deliver
from chappe_control.origins import reseller_origin_of
from chappe_control.pages.flash import flash
from chappe_control.pages.forms import Form, read_fields
from chappe_control.pages.languages import translate
from chappe_control.pages.owner_invitations import FIELD, SENT, refused_owner
from chappe_control.pages.render import page
from chappe_control.permissions import Permission
from chappe_control.portal.customers.routes import MemberRequest
from chappe_control.public.customers import id_of, scope_of_customer
from chappe_control.state import Given, Services
from chappe_kernel.errors import Conflict, Invalid, LimitExceeded
from chappe_tenants.invitations.service import Invited, invite_owner
from chappe_tenants.organisations.lifecycle import Authority
from chappe_tenants.organisations.service import get_customer

# The framework's type wants the number itself.
_SEE_OTHER: Final = 303


@get("/customers/{customer_id:str}/owners", include_in_schema=False, permission=Permission.MANAGE_CUSTOMERS)
async def show_owner_form(request: MemberRequest, services: Given, customer_id: FromPath[str]) -> Response[bytes]:
    return await _page(request, services, customer_id, Form())


@post("/customers/{customer_id:str}/owners", include_in_schema=False, permission=Permission.MANAGE_CUSTOMERS)
async def invite_first_owner(request: MemberRequest, services: Given, customer_id: FromPath[str]) -> Response[Any]:
    typed = await read_fields(request, FIELD)
    customer = await scope_of_customer(services.database, request.auth.scope, id_of(customer_id))
    try:
        async with services.database.operator(reseller_origin_of(request)) as session:
            invited = await invite_owner(session, customer, typed[FIELD], Authority.RESELLER)
            link = await deliver(request, session, invited)
    except (Invalid, Conflict, LimitExceeded) as error:
        form = refused_owner(request, error, typed)
        return await _page(request, services, customer_id, form, status=HTTPStatus.UNPROCESSABLE_ENTITY)
    if link is not None:
        return await _page(request, services, customer_id, Form(), invited=invited, link=link)
    response = Redirect(f"/customers/{customer_id}", status_code=_SEE_OTHER)
    flash(response, translate(request, SENT, email=invited.invitation.email), "green")
    return response


async def _page(
    request: MemberRequest,
    services: Services,
    customer_id: str,
    form: Form,
    *,
    status: int = HTTPStatus.OK,
    invited: Invited | None = None,
    link: str | None = None,
) -> Response[bytes]:
    """With a link it is the only place where that ever is: in no address, no cookie, no log, and not stored."""
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
        invitation=None if invited is None else invited.invitation,
        invitation_link=link,
    )
