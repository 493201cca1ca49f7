"""`/overview`: the portal's first page, and the part of it that is fetched again every few seconds."""

from typing import Any, Final

from litestar import Request, Response, get
from litestar.datastructures import State
from litestar.response import Redirect

from chappe_control.pages.render import fragment, page
from chappe_control.permissions import Permission
from chappe_control.portal.overview.service import read_overview
from chappe_control.state import Given, Services
from chappe_tenants.sessions.service import MemberVisitor

MemberRequest = Request[Any, MemberVisitor, State]

PERIODS = ("today", "month")
# The framework's type wants the number itself.
_SEE_OTHER: Final = 303


@get("/", include_in_schema=False, permission=Permission.READ_USAGE)
async def open_portal() -> Redirect:
    return Redirect("/overview", status_code=_SEE_OTHER)


@get("/overview", include_in_schema=False, permission=Permission.READ_USAGE)
async def show_overview(request: MemberRequest, services: Given) -> Response[bytes]:
    return page(request, "portal/overview.html", **await _values(request, services))


@get("/overview/live", include_in_schema=False, permission=Permission.READ_USAGE)
async def show_overview_live(request: MemberRequest, services: Given) -> Response[bytes]:
    return fragment(request, "portal/overview_figures.html", **await _values(request, services))


async def _values(request: MemberRequest, services: Services) -> dict[str, Any]:
    scope = request.auth.scope
    async with services.database.tenant_snapshot(scope) as session:
        overview = await read_overview(session, scope)
    # What is unknown is the default: a period is only a way to look, and the page says which one it shows.
    period = request.query_params.get("period")
    return {"overview": overview, "period": period if period in PERIODS else PERIODS[0]}
