"""A control plane and its worker in a process of their own that tells all that they connected to:
`python -m tests.payments.connecting`.

Its standard input is an `Asked`, its output a `Told`, both as JSON. The interpreter itself notes every connection,
below every library and in every thread, and nothing else runs in this process.
"""

import asyncio
import sys
from pathlib import Path
from typing import Any

import httpx
import msgspec
from msgspec import Struct

from chappe_control.app import create_app
from chappe_control.settings import ControlSettings, WorkerSettings
from chappe_control.worker import run_worker
from tests.control.world import HandClock


class Asked(Struct):
    """What it runs with, and the webhook events that it gets: a body and its signature each."""

    settings: dict[str, Any]
    events: list[tuple[str, str]]
    heartbeat_file: str


class Told(Struct):
    """How events were answered, what it connected to over the network, and which Unix sockets it opened."""

    statuses: list[int]
    addresses: set[tuple[str, int]]
    sockets: set[str]


async def run(asked: Asked) -> Told:
    seen: list[Any] = []
    sys.addaudithook(lambda event, given: seen.append(given[1]) if event == "socket.connect" else None)
    app = create_app(ControlSettings(**asked.settings, works=False), HandClock())
    transport = httpx.ASGITransport(app)  # type: ignore[arg-type]  # two libraries, two types for ASGI
    statuses: list[int] = []
    async with app.lifespan(), httpx.AsyncClient(transport=transport, base_url="http://localhost:8400") as http:
        for body, signature in asked.events:
            answer = await http.post("/webhooks/stripe", content=body, headers={"stripe-signature": signature})
            statuses.append(answer.status_code)
        statuses.append((await http.get("/healthz")).status_code)
        for work in ("carry_out_due", "catch_up", "look_after", "top_up_all", "collect_all"):
            await getattr(app.state.services.payments, work)()
        await _work(asked)
    networked = {tuple(address[:2]) for address in seen if isinstance(address, tuple)}
    return Told(statuses, networked, {str(address) for address in seen if not isinstance(address, tuple)})


async def _work(asked: Asked) -> None:
    """All that a worker does first: each work is begun, and what is begun is finished within the worker's grace."""
    settings = {name: value for name, value in asked.settings.items() if name not in {"redis_url", "port"}}
    over, heartbeat = asyncio.Event(), Path(asked.heartbeat_file)
    working = asyncio.create_task(
        run_worker(WorkerSettings(**settings, heartbeat_file=asked.heartbeat_file), HandClock(), over)
    )
    while not await asyncio.to_thread(heartbeat.exists) and not working.done():  # noqa: ASYNC110 -- a file sets no event
        await asyncio.sleep(0.01)
    over.set()
    await working


if __name__ == "__main__":
    told = asyncio.run(run(msgspec.json.decode(sys.stdin.buffer.read(), type=Asked)))
    sys.stdout.buffer.write(msgspec.json.encode(told))
