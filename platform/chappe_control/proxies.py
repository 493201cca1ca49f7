"""Behind the operator's own proxies the client is whom they name: for limits, keys' networks and the audit log."""

from litestar.types import ASGIApp, Receive, Scope, Send

from chappe_kernel.networks import client_address, parse_networks


class TrustedProxies:
    """Puts the client's address in the place of the proxy's. An address that is not to be known becomes none."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        proxies = parse_networks(scope["litestar_app"].state.services.settings.trusted_proxies)
        client = scope.get("client")
        if proxies and client:
            peer, port = client
            address = client_address(peer, list(scope["headers"]), proxies)
            scope["client"] = None if address is None else (str(address), port)
        await self._app(scope, receive, send)
