"""Who may see what in the console: one table of every page and every role, and the guard that goes by it."""

from enum import StrEnum
from typing import Any

from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler

from chappe_control.pages.languages import N_
from chappe_kernel.errors import Denied
from chappe_tenants.operators.service import OperatorRole
from chappe_tenants.sessions.service import OperatorVisitor

_Connection = ASGIConnection[Any, Any, Any, Any]


class Action(StrEnum):
    """What a role may do beyond opening a page: parts of pages that not everybody sees."""

    SEE_REVENUE = "see revenue"
    SEE_MEMBERS = "see members"


_ADMINISTRATOR = OperatorRole.ADMINISTRATOR
_SUPPORT = OperatorRole.SUPPORT
_FINANCE = OperatorRole.FINANCE
_AUDITOR = OperatorRole.AUDITOR

ROLE_NAMES = {
    _ADMINISTRATOR: N_("Administrator"),
    _SUPPORT: N_("Support"),
    _FINANCE: N_("Finance"),
    _AUDITOR: N_("Auditor"),
}

_EVERYBODY = frozenset(OperatorRole)
_OPERATIONS = frozenset({_ADMINISTRATOR, _SUPPORT, _AUDITOR})
_MONEY = frozenset({_ADMINISTRATOR, _FINANCE, _AUDITOR})

ALLOWED: dict[str | Action, frozenset[OperatorRole]] = {
    "/console": _EVERYBODY,
    "/console/regions": _OPERATIONS,
    "/console/regions/live": _OPERATIONS,
    "/console/deployments": _OPERATIONS,
    "/console/deployments/live": _OPERATIONS,
    "/console/tenants": _EVERYBODY,
    "/console/tenants/live": _EVERYBODY,
    "/console/tenants/{tenant_id}": _EVERYBODY,
    "/console/tenants/{tenant_id}/live": _EVERYBODY,
    "/console/revenue": _MONEY,
    "/console/revenue/live": _MONEY,
    "/console/prices": _EVERYBODY,
    "/console/gallery": frozenset({_ADMINISTRATOR}),
    "/console/gallery/live": frozenset({_ADMINISTRATOR}),
    Action.SEE_REVENUE: _MONEY,
    Action.SEE_MEMBERS: _OPERATIONS,
}
"""By the path's template. A route that is missing here is open to nobody."""

MENU = ("/console/regions", "/console/deployments", "/console/tenants", "/console/revenue", "/console/prices")


def may(role: OperatorRole, what: str) -> bool:
    """Whether the role may open this path, or do this action. Nobody may what the table does not name."""
    return role in ALLOWED.get(what, frozenset())


def first_page(role: OperatorRole) -> str:
    """Where a role begins: the first page of the menu that it may open."""
    return next(path for path in MENU if may(role, path))


async def require_permission(connection: _Connection, _: BaseRouteHandler) -> None:
    """After `require_operator`. Raises `Denied` for a page that the visitor's role may not open."""
    visitor: OperatorVisitor = connection.auth
    if not may(visitor.role, connection.scope["path_template"]):
        raise Denied("this page is not open to your role", code="role_denied")
