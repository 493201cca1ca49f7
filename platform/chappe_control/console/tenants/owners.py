"""The console's page that invites a tenant's owner."""

from functools import partial
from http import HTTPStatus
from typing import Any

from litestar import Response, get, post
from litestar.params import FromPath

from chappe_control.console.rendering import ConsoleRequest, about_role
from chappe_control.joining.owners import invite_by_form
from chappe_control.operator_api.tenants import scope_of
from chappe_control.origins import origin_of
from chappe_control.pages.forms import Form
from chappe_control.pages.render import page
from chappe_control.permissions import Permission
from chappe_control.state import Given, Services
from chappe_tenants.invitations.queries import InvitationRecord
from chappe_tenants.organisations.lifecycle import Authority
from chappe_tenants.organisations.service import get_organisation


@get("/tenants/{tenant_id:str}/owners", permission=Permission.MANAGE_TENANTS)
async def show_owner_form(request: ConsoleRequest, services: Given, tenant_id: FromPath[str]) -> Response[bytes]:
    return await _page(request, services, tenant_id, form=Form())


@post("/tenants/{tenant_id:str}/owners", permission=Permission.MANAGE_TENANTS)
async def invite_tenant_owner(request: ConsoleRequest, services: Given, tenant_id: FromPath[str]) -> Response[Any]:
    return await invite_by_form(
        request,
        services.database.operator(origin_of(request)),
        scope_of(tenant_id),
        Authority.OPERATOR,
        show=partial(_page, request, services, tenant_id),
        back=f"/console/tenants/{tenant_id}",
    )


async def _page(
    request: ConsoleRequest,
    services: Services,
    tenant_id: str,
    *,
    form: Form,
    status: int = HTTPStatus.OK,
    invitation: InvitationRecord | None = None,
    invitation_link: str | None = None,
) -> Response[bytes]:
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
        invitation=invitation,
        invitation_link=invitation_link,
        **about_role(request),
    )
