"""Every outbound connection of a running control plane and its worker is on the list that its mode declares."""

import asyncio
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
import pytest

from tests.conftest import DatabaseUrls
from tests.control.world import AUDIT_KEYS_TEXT, PEPPERS_TEXT
from tests.payments.connecting import Asked, Told
from tests.payments.world import PaymentWorld
from tests.valkey_server import start_valkey


async def connected(asked: Asked) -> Told:
    command = [sys.executable, "-m", "tests.payments.connecting"]
    sent = msgspec.json.encode(asked)
    done = await asyncio.to_thread(subprocess.run, command, input=sent, stdout=subprocess.PIPE, check=True)
    return msgspec.json.decode(done.stdout.splitlines()[-1], type=Told)


@pytest.mark.parametrize("mode", ["none", "external", "stripe"])
async def test_outbound_connections_are_those_that_the_mode_declares(
    world: PaymentWorld, database_urls: DatabaseUrls, tmp_path: Path, mode: str
) -> None:
    """With a key in the settings all the same, and payments under way from when they were taken."""
    await world.pay(await world.buyer())
    events = [(body.decode(), world.sign(body)) for body in await world.events()]
    await world.sql("UPDATE legal_entity SET payments = :mode", mode=mode)
    with start_valkey(tmp_path) as valkey:
        settings = {
            "database_url": database_urls.app,
            "redis_url": valkey.url,
            "key_peppers": PEPPERS_TEXT,
            "audit_keys": AUDIT_KEYS_TEXT,
            "port": 0,
            "portal_url": "http://localhost:8400",
            "stripe_api_key": world.stripe.api_key,
            "stripe_webhook_secret": world.stripe.webhook_secret,
            "stripe_api_base": world.stripe.url,
        }
        told = await connected(Asked(settings, events, str(tmp_path / "heartbeat")))
    assert told.statuses == [200 if mode == "stripe" else 404] * len(events) + [200]
    stripe = urlsplit(world.stripe.url)
    # `stripe` is also what shows that a connection over the network is seen.
    assert told.addresses == ({(stripe.hostname, stripe.port)} if mode == "stripe" else set())
    assert any(".s.PGSQL." in name for name in told.sockets)
    assert all(".s.PGSQL." in name or "valkey" in name for name in told.sockets), told.sockets
