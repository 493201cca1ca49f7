"""Who may do what: one table for members, management keys and the operator's people, and the one guard that goes by it.

A route names the permission that it takes, `@get(…, permission=Permission.READ_KEYS)`. Behind `require_permission` a
route that names none cannot be served: the application does not start with it.
"""

from enum import StrEnum
from typing import Any, assert_never

from litestar import Litestar
from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler, HTTPRouteHandler

from chappe_kernel.errors import Denied
from chappe_tenants.api_keys.service import Caller
from chappe_tenants.members.service import Role
from chappe_tenants.operator_tokens.service import OperatorCaller
from chappe_tenants.operators.service import OperatorRole
from chappe_tenants.organisations.lifecycle import Access, TenantState, effect_of
from chappe_tenants.sessions.service import MemberVisitor, OperatorVisitor

_Connection = ASGIConnection[Any, Any, Any, Any]


class KeyHolder(StrEnum):
    """A program: what a management key may do, whoever made it."""

    MANAGEMENT_KEY = "management key"


Holder = Role | OperatorRole | KeyHolder


class Permission(StrEnum):
    """What can be allowed. Every tenant's holders act in their own tenant alone, whatever the table says."""

    READ_ORGANISATION = "read the organisation"
    MANAGE_ORGANISATION = "manage the organisation"
    READ_MEMBERS = "read members"
    MANAGE_MEMBERS = "manage members"
    READ_PROJECTS = "read projects"
    MANAGE_PROJECTS = "manage projects"
    READ_KEYS = "read keys"
    MANAGE_KEYS = "manage keys"
    MANAGE_MANAGEMENT_KEYS = "manage management keys"
    READ_QUOTAS = "read quotas"
    MANAGE_QUOTAS = "manage quotas"
    READ_USAGE = "read usage"
    READ_BALANCE = "read the balance"
    READ_INVOICES = "read invoices"
    MANAGE_BILLING = "manage billing details"
    MANAGE_PAYMENTS = "manage payments"
    READ_MARKETPLACE = "read the marketplace"
    READ_AUDIT_LOG = "read the audit log"
    USE_PLAYGROUND = "use the playground"
    READ_CUSTOMERS = "read customers"
    MANAGE_CUSTOMERS = "manage customers"

    READ_ALERTS = "read alerts"
    MANAGE_ALERTS = "manage alerts"
    READ_WEBHOOKS = "read webhooks"
    MANAGE_WEBHOOKS = "manage webhooks"

    USE_CONSOLE = "use the console"
    SEE_REGIONS = "see regions"
    SEE_DEPLOYMENTS = "see deployments"
    SEE_PRICES = "see prices"
    MANAGE_PRICES = "manage prices"
    SEE_REVENUE = "see revenue"
    SEE_TENANTS = "see tenants"
    MANAGE_TENANTS = "manage tenants"
    SEE_TENANT_MEMBERS = "see tenants' members"
    SET_CREDIT_LIMITS = "set credit limits"
    SEE_FUNDS = "see tenants' funds"
    MOVE_FUNDS = "move tenants' funds"
    SEE_INVOICES = "see invoices"
    MANAGE_INVOICES = "issue, credit and settle invoices"
    SEE_PAYMENTS = "see tenants' payments"
    WORK_PAYMENTS = "work on payments"
    SEE_PAYOUTS = "see publishers' earnings"
    PAY_PUBLISHERS = "record publishers' payouts"
    SEE_DUNNING = "see dunning"
    MANAGE_DUNNING = "manage dunning"
    SEE_QUEUES = "see disputed usage"
    WORK_QUEUES = "decide about disputed usage"
    SEE_LEGAL_ENTITIES = "see legal entities"
    MANAGE_LEGAL_ENTITIES = "manage legal entities"
    MANAGE_TAX = "decide how tenants are taxed"
    SEE_TENANT_QUOTAS = "see tenants' quotas"
    MANAGE_TENANT_QUOTAS = "manage tenants' quotas"
    MANAGE_PLANS = "manage plans"
    SEE_AUDIT_LOG = "see the audit log"
    SEE_GALLERY = "see the gallery"
    SEE_RATED_USAGE = "see the rated-usage feed"
    TAKE_RATED_USAGE = "take the rated-usage feed"
    HAVE_TOKENS = "have tokens"
    MANAGE_TOKENS = "manage everybody's tokens"


_MEMBERS = frozenset(Role)
_HEADS = frozenset({Role.OWNER, Role.ADMIN})
_MAKERS = _HEADS | {Role.DEVELOPER}
_KEY = frozenset({KeyHolder.MANAGEMENT_KEY})

_OPERATOR = frozenset(OperatorRole)
_ADMINISTRATOR = frozenset({OperatorRole.ADMINISTRATOR})
_OPERATIONS = frozenset({OperatorRole.ADMINISTRATOR, OperatorRole.SUPPORT, OperatorRole.AUDITOR})
_MONEY = frozenset({OperatorRole.ADMINISTRATOR, OperatorRole.FINANCE, OperatorRole.AUDITOR})
_TREASURY = frozenset({OperatorRole.ADMINISTRATOR, OperatorRole.FINANCE})
_CARE = frozenset({OperatorRole.ADMINISTRATOR, OperatorRole.SUPPORT})

ALLOWED: dict[Permission, frozenset[Holder]] = {
    Permission.READ_ORGANISATION: _MEMBERS | _KEY,
    Permission.MANAGE_ORGANISATION: _HEADS,
    Permission.READ_MEMBERS: _MEMBERS | _KEY,
    # Not for keys: whoever finds one must not be able to let themselves in for good.
    Permission.MANAGE_MEMBERS: _HEADS,
    Permission.READ_PROJECTS: _MEMBERS | _KEY,
    Permission.MANAGE_PROJECTS: _HEADS | _KEY,
    Permission.READ_KEYS: _MAKERS | {Role.VIEWER} | _KEY,
    Permission.MANAGE_KEYS: _MAKERS | _KEY,
    # Nobody makes, widens or rotates a key that may do more than they: a management key does what heads do.
    Permission.MANAGE_MANAGEMENT_KEYS: _HEADS | _KEY,
    Permission.READ_QUOTAS: _MEMBERS | _KEY,
    Permission.MANAGE_QUOTAS: _HEADS | _KEY,
    Permission.READ_USAGE: _MEMBERS | _KEY,
    Permission.READ_BALANCE: _MEMBERS | _KEY,
    Permission.READ_INVOICES: _MEMBERS | _KEY,
    Permission.MANAGE_BILLING: _HEADS | {Role.BILLING} | _KEY,
    # Not for keys: whoever finds one must not be able to charge a saved card.
    Permission.MANAGE_PAYMENTS: _HEADS | {Role.BILLING},
    Permission.READ_MARKETPLACE: _MEMBERS | _KEY,
    Permission.READ_AUDIT_LOG: _HEADS | _KEY,
    Permission.USE_PLAYGROUND: _MAKERS,
    Permission.READ_CUSTOMERS: _HEADS | {Role.BILLING, Role.VIEWER} | _KEY,
    Permission.MANAGE_CUSTOMERS: _HEADS | _KEY,
    Permission.READ_ALERTS: _MEMBERS | _KEY,
    Permission.MANAGE_ALERTS: _HEADS | {Role.BILLING} | _KEY,
    # Addresses that others' programs listen at often are secrets themselves.
    Permission.READ_WEBHOOKS: _MAKERS | _KEY,
    Permission.MANAGE_WEBHOOKS: _HEADS | _KEY,
    Permission.USE_CONSOLE: _OPERATOR,
    Permission.SEE_REGIONS: _OPERATIONS,
    Permission.SEE_DEPLOYMENTS: _OPERATIONS,
    Permission.SEE_PRICES: _OPERATOR,
    Permission.MANAGE_PRICES: frozenset({OperatorRole.ADMINISTRATOR, OperatorRole.FINANCE}),
    Permission.SEE_REVENUE: _MONEY,
    Permission.SEE_TENANTS: _OPERATOR,
    Permission.MANAGE_TENANTS: _CARE,
    Permission.SEE_TENANT_MEMBERS: _OPERATIONS,
    Permission.SET_CREDIT_LIMITS: _TREASURY,
    Permission.SEE_FUNDS: _OPERATOR,
    Permission.MOVE_FUNDS: _TREASURY,
    Permission.SEE_INVOICES: _MONEY,
    Permission.MANAGE_INVOICES: _TREASURY,
    Permission.SEE_PAYMENTS: _MONEY,
    Permission.WORK_PAYMENTS: _TREASURY,
    Permission.SEE_PAYOUTS: _MONEY,
    Permission.PAY_PUBLISHERS: _TREASURY,
    Permission.SEE_DUNNING: _MONEY,
    Permission.MANAGE_DUNNING: _TREASURY,
    Permission.SEE_QUEUES: _MONEY,
    Permission.WORK_QUEUES: _TREASURY,
    Permission.SEE_LEGAL_ENTITIES: _OPERATOR,
    Permission.MANAGE_LEGAL_ENTITIES: _TREASURY,
    Permission.MANAGE_TAX: _TREASURY,
    Permission.SEE_TENANT_QUOTAS: _OPERATOR,
    Permission.MANAGE_TENANT_QUOTAS: _CARE,
    Permission.MANAGE_PLANS: _ADMINISTRATOR,
    Permission.SEE_AUDIT_LOG: frozenset({OperatorRole.ADMINISTRATOR, OperatorRole.AUDITOR}),
    Permission.SEE_GALLERY: _ADMINISTRATOR,
    Permission.SEE_RATED_USAGE: _MONEY,
    Permission.TAKE_RATED_USAGE: frozenset({OperatorRole.ADMINISTRATOR, OperatorRole.FINANCE}),
    Permission.HAVE_TOKENS: _OPERATOR,
    Permission.MANAGE_TOKENS: _ADMINISTRATOR,
}
"""Every permission with who holds it."""


_OF_TENANTS = frozenset(p for p, holders in ALLOWED.items() if not holders & _OPERATOR)
_READS = frozenset(p for p in _OF_TENANTS if p.name.startswith("READ_"))

OPEN_IN: dict[Access, frozenset[Permission]] = {
    Access.NOTHING: frozenset(),
    # Who was suspended for what they owe can pay it, and who applies can pay ahead.
    Access.READ: _READS | {Permission.MANAGE_PAYMENTS},
    Access.APPLY: _READS | {Permission.MANAGE_PAYMENTS, Permission.MANAGE_ORGANISATION},
    Access.PREPARE: _OF_TENANTS - {Permission.USE_PLAYGROUND},
    Access.EVERYTHING: _OF_TENANTS,
}
"""What is left of them to members whose organisation is in a state with this access."""


def may(holder: Holder, permission: Permission) -> bool:
    return holder in ALLOWED[permission]


def is_open(state: TenantState, permission: Permission) -> bool:
    """Whether the members of an organisation in this state may do it at all."""
    return permission in OPEN_IN[effect_of(state).members]


def is_within(narrow: Holder, wide: Holder) -> bool:
    """Whether `wide` may do all that `narrow` may."""
    return all(may(wide, permission) for permission in Permission if may(narrow, permission))


def holder_of(auth: Caller | MemberVisitor | OperatorVisitor | OperatorCaller) -> Holder:
    """As what somebody acts, by what a guard found out about them."""
    match auth:
        case Caller():
            return KeyHolder.MANAGEMENT_KEY
        case MemberVisitor() | OperatorVisitor() | OperatorCaller():
            return auth.role
        case _:
            assert_never(auth)


async def require_permission(connection: _Connection, handler: BaseRouteHandler) -> None:
    """After the guard that sets `request.auth`. Raises `Denied` unless the caller holds the route's permission, and
    their organisation's state leaves it to them. (Keys are refused earlier in a state that closes them.)"""
    if connection.scope.get("method") == "OPTIONS":
        return  # The framework's own answer, of which `_check_handler` says more.
    check_permission(connection.auth, handler.opt["permission"])


def check_permission(auth: Caller | MemberVisitor | OperatorVisitor | OperatorCaller, permission: Permission) -> None:
    """For what only the body or the resource says: the route's own permission was checked before. Raises `Denied`."""
    if not may(holder_of(auth), permission):
        raise Denied(f"your role may not {permission}", code="role_denied")
    if isinstance(auth, MemberVisitor) and not is_open(auth.tenant_state, permission):
        raise Denied(f"your organisation is {auth.tenant_state}: this is closed to it", code="tenant_not_active")


def check_routes(app: Litestar) -> None:
    """Raises `LookupError` for a route that the guard would not know how to decide."""
    for route in app.routes:
        for handler in getattr(route, "route_handlers", ()):
            if isinstance(handler, HTTPRouteHandler) and require_permission in handler.resolve_guards():
                _check_handler(handler, route.path)


def _check_handler(handler: HTTPRouteHandler, path: str) -> None:
    # The framework answers OPTIONS by itself: it says which methods there are, and does nothing.
    if handler.http_methods != {"OPTIONS"} and not isinstance(handler.opt.get("permission"), Permission):
        raise LookupError(f"{handler.http_methods} {path} names no permission")
