"""Who calls. A guard reads one `Authorization` header, or else one cookie: no other header can change the answer.

A cookie is sent by the browser whoever's page asks: with one, what changes anything must come from our own pages.
"""

from typing import Any

from litestar import Request
from litestar.connection import ASGIConnection
from litestar.datastructures import State
from litestar.handlers import BaseRouteHandler

from chappe_catalogue.regions.service import authenticate_region, digest_credential
from chappe_control.origins import source_of
from chappe_control.pages.canonical import SAFE_METHODS
from chappe_control.pages.csrf import check_origin
from chappe_control.pages.guards import read_member, read_operator
from chappe_control.permissions import is_within
from chappe_control.state import Services
from chappe_control.throttle import client_of
from chappe_kernel.errors import Denied, Unauthenticated
from chappe_kernel.networks import Address, parse_address
from chappe_store.audit_log.origin import ActorKind
from chappe_store.session import NOBODY
from chappe_tenants.api_keys.service import Caller, authenticate, note_call
from chappe_tenants.operator_tokens import service as operator_tokens
from chappe_tenants.operator_tokens.service import OperatorCaller
from chappe_tenants.sessions.service import MemberVisitor, OperatorVisitor

_REGION_CACHE_S = 5.0
_MAX_TOKEN_LENGTH = 200

TenantCaller = Caller | MemberVisitor
"""Who calls `/api/v1`: a program with a management key, or a member who is signed in."""

TenantRequest = Request[Any, TenantCaller, State]
OperatorRequest = Request[Any, OperatorVisitor | OperatorCaller, State]

_Connection = ASGIConnection[Any, Any, Any, Any]


async def require_tenant_caller(connection: _Connection, _: BaseRouteHandler) -> None:
    """Sets `request.auth` to the `Caller` of a management key or, without one, to the portal's `MemberVisitor`.

    Raises `Unauthenticated`, `Denied` or `LimitExceeded`.
    """
    visitor = None if _sends_key(connection) else await read_member(connection)
    if visitor is None:
        await _require_management_key(connection)
    else:
        await _admit_visitor(connection, visitor, str(visitor.member_id))


async def require_operator_caller(connection: _Connection, _: BaseRouteHandler) -> None:
    """Sets `request.auth` to the `OperatorCaller` of a token or, without one, to the console's `OperatorVisitor`.

    Raises `Unauthenticated`, `Denied` or `LimitExceeded`.
    """
    visitor = None if _sends_key(connection) else await read_operator(connection)
    if visitor is None:
        await _require_operator_token(connection)
    else:
        await _admit_visitor(connection, visitor, str(visitor.user_id))


def _sends_key(connection: _Connection) -> bool:
    # Whoever sends a key means it: a bad one is refused, and no cookie stands in for it.
    return "authorization" in connection.headers


async def _admit_visitor(connection: _Connection, visitor: MemberVisitor | OperatorVisitor, caller: str) -> None:
    services: Services = connection.app.state.services
    if connection.scope.get("method") not in SAFE_METHODS:
        check_origin(connection)
    await services.throttle.count("calls", caller, services.settings.management_calls_per_minute)
    connection.scope["auth"] = visitor


async def _require_management_key(connection: _Connection) -> None:
    services: Services = connection.app.state.services
    secret = await _bearer(connection, services)
    address = _address(connection)
    try:
        async with services.database.tenant(NOBODY) as session:
            caller, rested = await authenticate(session, secret, services.peppers, address)
    except Unauthenticated:
        await _count_failure(connection, services)
        raise
    await services.throttle.count("calls", str(caller.key_id), services.settings.management_calls_per_minute)
    if rested:
        origin = source_of(connection).origin(ActorKind.MANAGEMENT_KEY, caller.key_id)
        async with services.database.tenant(caller.scope, origin) as session:
            await note_call(session, caller, address)
    connection.scope["auth"] = caller


async def _require_operator_token(connection: _Connection) -> None:
    services: Services = connection.app.state.services
    secret = await _bearer(connection, services)
    try:
        async with services.database.operator() as session:
            caller = await operator_tokens.authenticate(session, secret, services.peppers)
    except Unauthenticated:
        await _count_failure(connection, services)
        raise
    if not is_within(caller.role, caller.user_role):
        # Its user was an administrator when it was made, say, and is none any more.
        raise Denied("this token may do what its user may not any more", code="role_denied")
    await services.throttle.count("calls", str(caller.token_id), services.settings.management_calls_per_minute)
    connection.scope["auth"] = caller


class RegionGuard:
    """Sets `request.auth` to the calling region's name. Remembers for 5 s which credentials it has seen, since
    gateways poll twice a second; a withdrawn credential works that much longer."""

    def __init__(self) -> None:
        self._known: dict[bytes, tuple[str, float]] = {}

    async def __call__(self, connection: _Connection, _: BaseRouteHandler) -> None:
        services: Services = connection.app.state.services
        credential = await _bearer(connection, services)
        digest = digest_credential(credential)
        region, until = self._known.get(digest, ("", float("-inf")))
        if services.clock.monotonic() >= until:
            region = await self._look_up(connection, services, credential)
            # Only what exists gets in, so there are never more entries than credentials.
            self._known[digest] = (region, services.clock.monotonic() + _REGION_CACHE_S)
        connection.scope["auth"] = region

    async def _look_up(self, connection: _Connection, services: Services, credential: str) -> str:
        self._known.pop(digest_credential(credential), None)
        try:
            async with services.database.ingest() as session:
                return await authenticate_region(session, credential)
        except Unauthenticated:
            await _count_failure(connection, services)
            raise


async def _bearer(connection: _Connection, services: Services) -> str:
    """The one bearer token. Raises `Unauthenticated`, or `LimitExceeded` after too many failures of this client."""
    values = connection.headers.getall("authorization", [])
    scheme, _, token = values[0].partition(" ") if len(values) == 1 else ("", "", "")
    token = token.strip()
    if scheme.lower() != "bearer" or not token or len(token) > _MAX_TOKEN_LENGTH:
        await _count_failure(connection, services)
        raise Unauthenticated("send one header Authorization: Bearer …", code="missing_credentials")
    return token


async def _count_failure(connection: _Connection, services: Services) -> None:
    # Only failures are refused: whoever shares an address with an attacker and has a good key is not locked out.
    await services.throttle.count("failures", client_of(connection), services.settings.failed_sign_ins_per_minute)


def _address(connection: _Connection) -> Address | None:
    return parse_address(connection.client.host) if connection.client else None
