"""The console's page that invites a tenant's owner."""

from http import HTTPStatus
from typing import Any, Final

from litestar import Response, get, post
from litestar.params import FromPath
from litestar.response import Redirect

from chappe_control.console.rendering import ConsoleRequest, about_role
from chappe_control.joining.delivery import deliver
from chappe_control.operator_api.tenants import scope_of
from chappe_control.origins import origin_of
from chappe_control.pages.flash import flash
from chappe_control.pages.forms import Form, read_fields
from chappe_control.pages.languages import translate
from chappe_control.pages.owner_invitations import FIELD, SENT, refused_owner
from chappe_control.pages.render import page
from chappe_control.permissions import Permission
from chappe_control.state import Given, Services
from chappe_kernel.errors import Conflict, Invalid, LimitExceeded
from chappe_tenants.invitations.service import Invited, invite_owner
from chappe_tenants.organisations.lifecycle import Authority
from chappe_tenants.organisations.service import get_organisation

# The framework's type wants the number itself.
_SEE_OTHER: Final = 303


@get("/tenants/{tenant_id:str}/owners", permission=Permission.MANAGE_TENANTS)
async def show_owner_form(request: ConsoleRequest, services: Given, tenant_id: FromPath[str]) -> Response[bytes]:
    return await _page(request, services, tenant_id, Form())


@post("/tenants/{tenant_id:str}/owners", permission=Permission.MANAGE_TENANTS)
async def invite_tenant_owner(request: ConsoleRequest, services: Given, tenant_id: FromPath[str]) -> Response[Any]:
    typed, scope = await read_fields(request, FIELD), scope_of(tenant_id)
    try:
        async with services.database.operator(origin_of(request)) as session:
            invited = await invite_owner(session, scope, typed[FIELD], Authority.OPERATOR)
            link = await deliver(request, session, invited)
    except (Invalid, Conflict, LimitExceeded) as error:
        form = refused_owner(request, error, typed)
        return await _page(request, services, tenant_id, form, status=HTTPStatus.UNPROCESSABLE_ENTITY)
    if link is not None:
        return await _page(request, services, tenant_id, Form(), invited=invited, link=link)
    response = Redirect(f"/console/tenants/{tenant_id}", status_code=_SEE_OTHER)
    flash(response, translate(request, SENT, email=invited.invitation.email), "green")
    return response


async def _page(
    request: ConsoleRequest,
    services: Services,
    tenant_id: str,
    form: Form,
    *,
    status: int = HTTPStatus.OK,
    invited: Invited | None = None,
    link: str | None = None,
) -> Response[bytes]:
    """With a link it is the only place where that ever is: in no address, no cookie, no log, and not stored."""
    async with services.database.audit() as session:
        tenant = await get_organisation(session, scope_of(tenant_id))
    return page(
        request,
        "console/tenant_owner.html",
        status=status,
        headers={"cache-control": "no-store"},
        form=form,
        tenant=tenant,
        tenant_id=tenant_id,
        invitation=None if invited is None else invited.invitation,
        invitation_link=link,
        **about_role(request),
    )
