"""Who calls. Each guard reads one `Authorization` header and nothing else: no other header can change the answer."""

from typing import Any

from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler

from chappe_catalogue.regions.service import authenticate_region, digest_credential
from chappe_control.state import Services
from chappe_control.throttle import address_group
from chappe_kernel.errors import Unauthenticated
from chappe_store.session import NOBODY
from chappe_tenants.api_keys.service import authenticate

_REGION_CACHE_S = 5.0
_MAX_TOKEN_LENGTH = 200

_Connection = ASGIConnection[Any, Any, Any, Any]


async def require_management_key(connection: _Connection, _: BaseRouteHandler) -> None:
    """Sets `request.auth` to the `Caller`. Raises `Unauthenticated`, `Denied` or `LimitExceeded`."""
    services: Services = connection.app.state.services
    secret = await _bearer(connection, services)
    try:
        async with services.database.tenant(NOBODY) as session:
            caller = await authenticate(session, secret, services.peppers)
    except Unauthenticated:
        await _count_failure(connection, services)
        raise
    await services.throttle.count("calls", str(caller.key_id), services.settings.management_calls_per_minute)
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
    await services.throttle.count("failures", _client(connection), services.settings.failed_sign_ins_per_minute)


def _client(connection: _Connection) -> str:
    # The socket's own address. A header that claims another (X-Forwarded-For) is anybody's to send.
    return address_group(connection.client.host) if connection.client else "unknown"
