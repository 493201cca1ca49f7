"""From one organisation to another, for an account that is a member of several."""

from typing import Any, Final

from litestar import Request, Response, post
from litestar.datastructures import State
from litestar.response import Redirect

from chappe_control.origins import source_of
from chappe_control.pages.cookies import PORTAL_COOKIE, session_cookie
from chappe_control.pages.flash import flash
from chappe_control.pages.forms import read_fields
from chappe_control.pages.languages import N_, translate
from chappe_control.permissions import Permission
from chappe_control.sign_in.service import switch_organisation
from chappe_control.state import Given
from chappe_kernel.errors import Denied, Invalid, NotFound
from chappe_kernel.ids import TENANT, TenantId, decode_id
from chappe_tenants.sessions.service import MemberVisitor

_START = "/overview"
# The framework's type wants the number itself.
_SEE_OTHER: Final = 303
_NOT_ACTIVE = N_("This organisation is not active. Please contact your provider.")


@post("/organisations/switch", include_in_schema=False, permission=Permission.READ_ORGANISATION)
async def switch(request: Request[Any, MemberVisitor, State], services: Given) -> Response[Any]:
    """Under a session of its own: what the other organisation's pages have open is signed out."""
    response = Redirect(_START, status_code=_SEE_OTHER)
    try:
        wanted = TenantId(decode_id(TENANT, (await read_fields(request, "organisation"))["organisation"]))
        secret = await switch_organisation(services, request.auth, wanted, source_of(request))
    except Invalid:
        raise NotFound("no such organisation") from None
    except Denied:
        flash(response, translate(request, _NOT_ACTIVE), "red")
        return response
    response.set_cookie(session_cookie(PORTAL_COOKIE, secret))
    return response
