"""`/api/v1/operator`: one router, so that no route can forget the guards."""

from litestar import Router

from chappe_control.authentication import require_operator_caller
from chappe_control.bodies import check_body
from chappe_control.operator_api import plans, quotas, tenants, tokens
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
            tenants.invite_an_owner,
            tenants.read_credit_limit,
            tenants.put_credit_limit,
            plans.list_plans,
            plans.create_plan,
            plans.read_plan,
            plans.change_plan,
            plans.remove_plan,
            quotas.list_quotas,
            quotas.read_effective,
            quotas.create_quota,
            quotas.read_quota,
            quotas.change_quota,
            quotas.remove_quota,
            quotas.list_raises,
            quotas.raise_quota,
            quotas.end_raise,
            tokens.list_tokens,
            tokens.create_token,
            tokens.revoke_token,
        ],
        guards=[require_operator_caller, require_permission],
        before_request=check_body,
        security=[{OPERATOR_TOKEN: []}, {CONSOLE_SESSION: []}],
    )
