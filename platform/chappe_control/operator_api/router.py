"""`/api/v1/operator`: one router, so that no route can forget the guards."""

from litestar import Router

from chappe_control.authentication import require_operator_caller
from chappe_control.bodies import check_body
from chappe_control.permissions import require_permission

CONSOLE_SESSION = "consoleSession"


def make_router() -> Router:
    return Router(
        "/api/v1/operator",
        route_handlers=[],
        guards=[require_operator_caller, require_permission],
        before_request=check_body,
        security=[{CONSOLE_SESSION: []}],
    )
