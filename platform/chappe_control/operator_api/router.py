"""`/api/v1/operator`: one router, so that no route can forget the guards."""

from litestar import Router

from chappe_control.authentication import require_operator_caller
from chappe_control.bodies import check_body
from chappe_control.operator_api import tenants, tokens
from chappe_control.permissions import require_permission

OPERATOR_TOKEN = "operatorToken"  # noqa: S105 -- a name, and no secret
CONSOLE_SESSION = "consoleSession"


def make_router() -> Router:
    return Router(
        "/api/v1/operator",
        route_handlers=[
            tenants.list_tenants,
            tenants.create,
            tenants.read,
            tenants.change,
            tenants.take_step,
            tenants.read_credit_limit,
            tenants.put_credit_limit,
            tokens.list_tokens,
            tokens.create_token,
            tokens.revoke_token,
        ],
        guards=[require_operator_caller, require_permission],
        before_request=check_body,
        security=[{OPERATOR_TOKEN: []}, {CONSOLE_SESSION: []}],
    )
