"""Clients that read a byte a second: what is kept for each is bounded, it ends, and nobody beside them waits."""

import asyncio
import contextlib
import json
import socket

import pytest

from chappe_gateway.engines.upstream import BUFFER_BYTES
from chappe_kernel.rating import Outcome
from chappe_kernel.wire.control import UsageEvent
from tests.bad_clients.neighbour import asking, neighbour
from tests.bad_clients.process import gateway_process
from tests.gateway.scripted_engine import Script
from tests.gateway.world import World, chat_body

READERS = 24
STALL_S = 3.0
TOKENS, TOKEN_BYTES = 800, 10_000
"""8 MB for each reader, 192 MB in all if the gateway kept everything."""
PER_READER_MIB = BUFFER_BYTES / 2**20 + 1.0
"""What waits for its engine's connection to be paused, and what was read and written meanwhile."""
SLACK_MIB = 24.0
_BYTE_EVERY_S = 1.0
_RECEIVE_BYTES = 4096


def open_reader(port: int) -> socket.socket:
    """Its kernel takes hardly anything either."""
    reader = socket.socket()
    reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BYTES)
    reader.connect(("127.0.0.1", port))
    reader.setblocking(False)
    return reader


async def read_slowly(reader: socket.socket, request: bytes) -> None:
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(reader, request)
    with contextlib.suppress(OSError):
        while await loop.sock_recv(reader, 1):  # noqa: ASYNC110 -- a byte a second is what it is about
            await asyncio.sleep(_BYTE_EVERY_S)


def long_question(key: str) -> bytes:
    body = json.dumps(chat_body(stream=True, max_tokens=TOKENS)).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\n"
    return f"{head}content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body


def events_of(world: World) -> list[UsageEvent]:
    """Those of the slow readers."""
    return [event for event in world.control.events.values() if event.tenant_id == world.tenant]


@pytest.mark.alone
async def test_a_byte_a_second_costs_bounded_memory_and_no_one_else_anything(world: World) -> None:
    world.engine.script = Script(tokens=TOKENS, text="x" * TOKEN_BYTES)
    async with gateway_process(world, STALL_S=str(STALL_S)) as gateway, neighbour(world, gateway) as good:
        alone_s = await good.baseline()
        before_mib = highest_mib = gateway.rss_mib()
        async with asking(good, gateway), contextlib.AsyncExitStack() as stack:
            readers = [stack.enter_context(contextlib.closing(open_reader(gateway.port))) for _ in range(READERS)]
            reading = {asyncio.create_task(read_slowly(reader, long_question(world.key))) for reader in readers}
            async with asyncio.timeout(STALL_S + 30):
                while len(events_of(world)) < READERS:
                    await asyncio.wait(reading, timeout=0.1)
                    highest_mib = max(highest_mib, gateway.rss_mib())
            for task in reading:
                task.cancel()
            await asyncio.wait(reading)
        good.check(alone_s)
        assert highest_mib - before_mib < READERS * PER_READER_MIB + SLACK_MIB
        await gateway.stop()
    assert [event.outcome for event in events_of(world)] == READERS * [Outcome.DISCONNECTED]
    assert all(grant.pending_nano == 0 for grant in world.control.grants.values())
