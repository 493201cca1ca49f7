"""A control plane in a process of its own that tells all that it connected to: `python -m tests.payments.connecting`.

Its standard input is an `Asked`, its output a `Told`, both as JSON. The interpreter itself notes every connection,
below every library and in every thread, and nothing else runs in this process.
"""

import asyncio
import sys
from typing import Any

import httpx
import msgspec
from msgspec import Struct

from chappe_control.app import create_app
from chappe_control.settings import ControlSettings
from tests.control.world import HandClock


class Asked(Struct):
    """What it runs with, and the webhook events that it gets: a body and its signature each."""

    settings: dict[str, Any]
    events: list[tuple[str, str]]


class Told(Struct):
    """How events were answered, what it connected to over the network, and which Unix sockets it opened."""

    statuses: list[int]
    addresses: set[tuple[str, int]]
    sockets: set[str]


async def run(asked: Asked) -> Told:
    seen: list[Any] = []
    sys.addaudithook(lambda event, given: seen.append(given[1]) if event == "socket.connect" else None)
    app = create_app(ControlSettings(**asked.settings), HandClock())
    transport = httpx.ASGITransport(app)  # type: ignore[arg-type]  # two libraries, two types for ASGI
    statuses: list[int] = []
    async with app.lifespan(), httpx.AsyncClient(transport=transport, base_url="http://localhost:8400") as http:
        for body, signature in asked.events:
            answer = await http.post("/webhooks/stripe", content=body, headers={"stripe-signature": signature})
            statuses.append(answer.status_code)
        statuses.append((await http.get("/healthz")).status_code)
        for work in ("carry_out_due", "catch_up", "look_after", "top_up_all", "collect_all"):
            await getattr(app.state.services.payments, work)()
    networked = {tuple(address[:2]) for address in seen if isinstance(address, tuple)}
    return Told(statuses, networked, {str(address) for address in seen if not isinstance(address, tuple)})


if __name__ == "__main__":
    told = asyncio.run(run(msgspec.json.decode(sys.stdin.buffer.read(), type=Asked)))
    sys.stdout.buffer.write(msgspec.json.encode(told))
