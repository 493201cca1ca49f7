"""Every outbound connection of a running control plane is on the list that its mode declares."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from chappe_control.app import create_app
from chappe_control.settings import ControlSettings
from tests.conftest import DatabaseUrls
from tests.control.world import AUDIT_KEYS_TEXT, PEPPERS_TEXT
from tests.payments.world import PaymentWorld
from tests.valkey_server import start_valkey

_seen: list[Any] | None = None


def _note(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "socket.connect" and _seen is not None:
        _seen.append(arguments[1])


sys.addaudithook(_note)


@contextmanager
def connections() -> Iterator[list[Any]]:
    """All that this process connects to within the block: the interpreter itself tells, below every library."""
    global _seen  # noqa: PLW0603 -- a hook of the interpreter is one for the process
    _seen = []
    yield _seen
    _seen = None


@pytest.mark.parametrize("mode", ["none", "external", "stripe"])
async def test_outbound_connections_are_those_that_the_mode_declares(
    world: PaymentWorld, database_urls: DatabaseUrls, tmp_path: Path, mode: str
) -> None:
    """With a key in the settings all the same, and payments under way from when they were taken."""
    await world.pay(await world.buyer())
    bodies = await world.events()
    await world.sql("UPDATE legal_entity SET payments = :mode", mode=mode)
    with start_valkey(tmp_path) as valkey:
        settings = ControlSettings(
            database_url=database_urls.app,
            redis_url=valkey.url,
            key_peppers=PEPPERS_TEXT,
            audit_keys=AUDIT_KEYS_TEXT,
            port=0,
            portal_url="http://localhost:8400",
            stripe_api_key=world.stripe.api_key,
            stripe_webhook_secret=world.stripe.webhook_secret,
            stripe_api_base=world.stripe.url,
        )
        app = create_app(settings, world.clock)
        services = app.state.services
        with connections() as seen:
            transport = httpx.ASGITransport(app)  # type: ignore[arg-type]  # two libraries, two types for ASGI
            async with app.lifespan(), httpx.AsyncClient(transport=transport, base_url="http://localhost:8400") as http:
                for body in bodies:
                    headers = {"stripe-signature": world.sign(body)}
                    answer = await http.post("/webhooks/stripe", content=body, headers=headers)
                    assert answer.status_code == (200 if mode == "stripe" else 404), answer.text
                assert (await http.get("/healthz")).status_code == 200
                for work in ("carry_out_due", "catch_up", "look_after", "top_up_all", "collect_all"):
                    await getattr(services.payments, work)()
    parts = urlsplit(world.stripe.url)
    stripe = (parts.hostname, parts.port)
    elsewhere = {address for address in seen if not isinstance(address, str | bytes)}
    assert elsewhere == ({stripe} if mode == "stripe" else set())
    sockets = {str(address) for address in seen} - {str(stripe)}
    assert sockets, "the database was seen"
    assert all(".s.PGSQL." in name or "valkey" in name for name in sockets), sockets


async def test_a_connection_that_is_not_declared_would_be_seen(world: PaymentWorld) -> None:
    with connections() as seen:
        async with httpx.AsyncClient() as http:
            await http.get(f"{world.stripe.url}/anything")
    assert seen
