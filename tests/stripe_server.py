"""The local Stripe for tests: the real program's application over a real socket, in the test's own loop."""

import asyncio
import contextlib
import secrets
import socket
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import httpx
from stripe import AIOHTTPClient, StripeClient

from chappe_local.stripe_stand_in.server import Config, StandIn, serving
from chappe_local.stripe_stand_in.world import Endpoint
from tests.gateway.servers import QuietServer

_START_S = 10.0


@dataclass(frozen=True)
class LocalStripe:
    """A running stand-in. `base_addresses` and `api_key` are what a `StripeClient` takes."""

    url: str
    config: Config
    application: StandIn
    http: httpx.AsyncClient = field(repr=False)
    session: aiohttp.ClientSession = field(repr=False)

    @property
    def api_key(self) -> str:
        return self.config.api_key

    @property
    def webhook_secret(self) -> str:
        return self.config.endpoints[0].secret

    def client(self, *, retries: int = 0, timeout_s: float = 10.0) -> StripeClient:
        """The real SDK, pointed here."""
        return StripeClient(
            self.api_key,
            # The SDK's httpx client uses a parameter that httpx deprecates, and warnings are errors here.
            http_client=AIOHTTPClient(timeout=timeout_s, session=self.session),
            base_addresses={"api": self.url, "meter_events": self.url},
            max_network_retries=retries,
        )

    async def switch(self, name: str, **values: Any) -> dict[str, Any]:
        """Set one of `chappe_local.stripe_stand_in.switches.SWITCHES`."""
        headers = {"authorization": f"Bearer {self.config.switch_token}"}
        answer = await self.http.post(f"{self.url}/_switches/{name}", json=values, headers=headers)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    async def state(self) -> dict[str, Any]:
        """All switches, and every delivery so far."""
        headers = {"authorization": f"Bearer {self.config.switch_token}"}
        answer = await self.http.get(f"{self.url}/_switches", headers=headers)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    async def submit(self, page_url: str, **typed: str) -> httpx.Response:
        """Fill in the form of a hosted page and send it, as a browser does; redirects are not followed."""
        return await self.http.post(page_url.replace("localhost", "127.0.0.1"), data=typed)


@contextlib.asynccontextmanager
async def local_stripe(
    folder: Path, *, webhooks_to: Sequence[str] = (), webhook_secret: str | None = None
) -> AsyncIterator[LocalStripe]:
    """Run one with its memory in `folder` until the block ends. A second one in the same folder goes on where the first
    ended. `webhooks_to` are addresses, all signed with one secret."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        secret = webhook_secret or f"whsec_{secrets.token_hex(16)}"
        config = Config(
            state=folder / "stripe.sqlite",
            public_url=f"http://localhost:{port}",
            api_key=f"sk_test_{secrets.token_hex(12)}",
            switch_token=secrets.token_hex(12),
            endpoints=tuple(Endpoint(url, secret) for url in webhooks_to),
        )
        application = StandIn(config)
        server = QuietServer(serving(application, port))
        async with application.delivering(), httpx.AsyncClient() as http, aiohttp.ClientSession() as session:
            task = asyncio.create_task(server.serve([listening]))
            try:
                async with asyncio.timeout(_START_S):
                    while not server.started:  # noqa: ASYNC110 -- uvicorn has no event for it
                        await asyncio.sleep(0.005)
                yield LocalStripe(f"http://127.0.0.1:{port}", config, application, http, session)
            finally:
                server.should_exit = True
                await task
