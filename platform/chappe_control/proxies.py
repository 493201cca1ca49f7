"""Behind the operator's own proxies the client is whom they name: for limits, keys' networks and the audit log."""

from collections.abc import Sequence

from litestar.types import ASGIApp, Receive, Scope, Send

from chappe_kernel.networks import Network, client_address


class TrustedProxies:
    """Puts the client's address in the place of the proxy's. An address that is not to be known becomes none."""

    def __init__(self, app: ASGIApp, proxies: Sequence[Network]) -> None:
        self._app = app
        self._proxies = proxies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        client = scope.get("client")
        if self._proxies and client:
            peer, port = client
            address = client_address(peer, list(scope["headers"]), self._proxies)
            scope["client"] = None if address is None else (str(address), port)
        await self._app(scope, receive, send)
