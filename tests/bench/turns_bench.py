"""What a request pays for its turn: `python -m tests.bench.turns_bench`.

Processor time of one turn with its end through the gateway's own `Turns`: with room for all, and with 500 that wait.
Exits with 1 when it is over the bar.
"""

import asyncio
import contextlib
import sys
import time
from typing import Any

from chappe_gateway.control_client import ControlClient
from chappe_gateway.edge.call import CONNECTION_EXTENSION, Call
from chappe_gateway.engines.upstream import UpstreamLost
from chappe_gateway.settings import GatewaySettings
from chappe_gateway.turns.turns import Turns
from chappe_kernel.api_keys import KeyKind
from chappe_kernel.clock import SystemClock
from chappe_kernel.ids import new_id
from chappe_kernel.rating import Counts
from chappe_kernel.wire.control import KeyFacts

MAX_CPU_US = 15.0
_USED = Counts(40, 0, 60)
_HEADERS = [(b"host", b"x"), (b"authorization", b"Bearer x"), (b"content-type", b"application/json"), (b"accept", b"*")]

_SCOPE = {
    "method": "POST",
    "headers": _HEADERS,
    "path": "/",
    "query_string": b"",
    "client": None,
    "extensions": {CONNECTION_EXTENSION: None},
}


def _facts() -> KeyFacts:
    return KeyFacts(new_id(), new_id(), new_id(), KeyKind.INFERENCE, True, "EUR", ("fr-par",), None, ())


def _call() -> Call:
    async def receive() -> Any:
        return {"type": "http.disconnect"}

    async def send(_: Any) -> None:
        """Nobody listens."""

    return Call(_SCOPE, receive, send, SystemClock(), "fr-par")


def _turns(room: int) -> Turns:
    settings = GatewaySettings(
        "fr-par", "gw-1", "http://127.0.0.1", "x", "http://127.0.0.1", "x", "x", max_in_flight=room, queue_total=2000
    )
    return Turns(settings, SystemClock(), ControlClient("http://127.0.0.1", "x"), "gw-1")


def uncontended_us(requests: int, tenants: int = 10) -> float:
    """64 are in flight at any time, and there is room for more."""
    turns, holders, call = _turns(2048), [_facts() for _ in range(tenants)], _call()
    standing = []
    began = time.process_time()
    for number in range(requests):
        turns.take(call, holders[number % tenants], "model", 600)
        standing.append(call.turn)
        if len(standing) > 64:
            call.turn = standing.pop(0)
            turns.end(call, _USED)
    return (time.process_time() - began) / requests * 1e6


async def contended_us(requests: int, tenants: int = 10) -> float:
    """500 wait at any time: each end lets the next one pass, and another comes."""
    turns, holders = _turns(64), [_facts() for _ in range(tenants)]
    served: asyncio.Queue[Call] = asyncio.Queue()
    tasks: set[asyncio.Task[None]] = set()

    async def one(number: int) -> None:
        call = _call()
        waiting = turns.take(call, holders[number % tenants], "model", 600)
        if waiting is not None:
            with contextlib.suppress(UpstreamLost):
                await waiting
        served.put_nowait(call)

    def come(number: int) -> None:
        task = asyncio.create_task(one(number))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    for number in range(564):
        come(number)
    began = time.process_time()
    for number in range(requests):
        turns.end(await served.get(), _USED)
        come(number)
    cpu_us = (time.process_time() - began) / requests * 1e6
    for task in tuple(tasks):
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return cpu_us


def main() -> None:
    free = sorted(uncontended_us(100_000) for _ in range(5))
    busy = sorted(asyncio.run(contended_us(10_000)) for _ in range(5))
    sys.stdout.write(f"a turn with its end, with room: {free[0]:.2f} to {free[-1]:.2f} us of CPU in 5 rounds\n")
    sys.stdout.write(f"the same with 500 that wait, task and future included: {busy[0]:.1f} to {busy[-1]:.1f} us\n")
    sys.exit(free[0] > MAX_CPU_US)


if __name__ == "__main__":
    main()
