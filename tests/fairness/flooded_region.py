"""Real gateway processes of a region, Valkey and a simulated engine, and clients who come at set times, come what may.

What a well-behaved tenant feels beside a flood is measured here, for a test and for `tests.bench.flood_bench`.
"""

import asyncio
import contextlib
import json
import os
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from tests.gateway.cell import PATH, Cell, new_cell
from tests.gateway.fake_control import CHAT
from tests.gateway.world import chat_body, new_world
from tests.valkey_server import start_valkey

SLOTS = 32
"""What Serve takes and the engine works on at once."""
_PREFILL_PER_S, _DECODE_PER_S, _MEAN_ANSWER = 50.0, 40.0, 100
_WORDS = (20, 60)
_REQUEST_S = (sum(_WORDS) / 2 + 4) / _PREFILL_PER_S + _MEAN_ANSWER / _DECODE_PER_S
SHARE_PER_S = SLOTS / 2 / _REQUEST_S
"""Requests of one of two tenants when the engine does all that it can."""
GOOD = 1 / 3
"""Of its share, so that what it has running now and then is within it, and not only on average."""
FLOOD = 50
FLOODS_FIRST_S = 0.5
_GATEWAYS = ("gw-0", "gw-1")
_URGENT = -15


@dataclass
class Felt:
    """What one tenant's clients saw."""

    ttft_s: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)

    def p99_ttft_s(self) -> float:
        """Of those that were served."""
        ordered = sorted(self.ttft_s)
        return ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]


class _Connection(asyncio.Protocol):
    """One request after another: status, and when the first token came."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]  # a socket's

    def ask(self, request: bytes) -> "asyncio.Future[tuple[int, float]]":
        self._received = bytearray()
        self._first_at = 0.0
        self._answer: asyncio.Future[tuple[int, float]] = asyncio.get_running_loop().create_future()
        self.transport.write(request)
        return self._answer

    def data_received(self, data: bytes) -> None:
        self._received += data
        if not self._first_at and b'"content":"' in self._received.replace(b'"content":""', b""):
            self._first_at = time.monotonic()
        if self._is_whole() and not self._answer.done():
            self._answer.set_result((int(self._received[9:12]), self._first_at))

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._answer.done():
            self._answer.set_exception(ConnectionError("the gateway broke off"))

    def _is_whole(self) -> bool:
        head, found, body = bytes(self._received).partition(b"\r\n\r\n")
        if not found:
            return False
        _, has_length, length = head.lower().partition(b"content-length: ")
        return len(body) >= int(length.split(b"\r\n")[0]) if has_length else body.endswith(b"0\r\n\r\n")


class Clients:
    """Of one tenant, at all gateways in turn. Its requests are the same whatever else happens: drawn from a seed."""

    def __init__(self, ports: list[int], key: str, seed: str, **fields: object) -> None:
        self._ports = ports
        self._key = key
        self._draw = Random(seed)  # noqa: S311  # a simulation
        self._fields = fields
        self._idle: dict[int, list[_Connection]] = {port: [] for port in ports}
        self._asking: set[asyncio.Task[None]] = set()

    async def come(self, per_s: float, seconds: float, felt: Felt | None = None) -> Felt:
        """So many a second, at times that are drawn; returns once all have their answers."""
        felt = felt or Felt()
        at = began = time.monotonic()
        number = 0
        while (at := at + self._draw.expovariate(per_s)) < began + seconds:
            await asyncio.sleep(at - time.monotonic())
            task = asyncio.create_task(self._ask(self._ports[number % len(self._ports)], self._request(), at, felt))
            self._asking.add(task)
            task.add_done_callback(self._asking.discard)
            number += 1
        await asyncio.gather(*self._asking)
        return felt

    async def leave(self) -> None:
        """All who still wait."""
        for task in tuple(self._asking):
            task.cancel()
        await asyncio.gather(*self._asking, return_exceptions=True)

    async def _ask(self, port: int, request: bytes, came_at: float, felt: Felt) -> None:
        """Lateness of this process itself counts too."""
        idle = self._idle[port] = [each for each in self._idle[port] if not each.transport.is_closing()]
        if not idle:
            _, made = await asyncio.get_running_loop().create_connection(_Connection, "127.0.0.1", port)
            idle.append(made)
        connection = idle.pop()
        try:
            status, first_at = await connection.ask(request)
        except asyncio.CancelledError:
            connection.transport.abort()
            raise
        felt.statuses[status] += 1
        if status == 200:
            felt.ttft_s.append(first_at - came_at)
        self._idle[port].append(connection)

    def _request(self) -> bytes:
        words = (self._draw.choice(("tower", "hill", "arm", "sky")) for _ in range(self._draw.randint(*_WORDS)))
        body = json.dumps(chat_body(" ".join(words), stream=True, **self._fields)).encode()
        head = f"POST {PATH} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {self._key}\r\n"
        return head.encode() + b"content-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body) + body


@dataclass
class FloodedRegion:
    """`good` asks for a third of its share, `flood` for 50 times its own."""

    cell: Cell
    keys: dict[str, str]

    def clients(self, name: str, seed: int, **fields: object) -> Clients:
        ports = [self.cell.ports[gateway] for gateway in _GATEWAYS]
        return Clients(ports, self.keys[name], f"{seed} {name}", **fields)

    async def alone(self, seconds: float, seed: int) -> Felt:
        return await self.clients("good", seed).come(GOOD * SHARE_PER_S, seconds)

    @contextlib.asynccontextmanager
    async def flooded(self, seed: int, **fields: object) -> AsyncIterator[Felt]:
        """The flood has taken every place once this begins, and leaves at the end."""
        clients = self.clients("flood", seed, **fields)
        felt = Felt()
        flooding = asyncio.create_task(clients.come(FLOOD * SHARE_PER_S, 1e6, felt))
        await asyncio.sleep(FLOODS_FIRST_S)
        try:
            yield felt
        finally:
            flooding.cancel()
            await asyncio.gather(flooding, return_exceptions=True)
            await clients.leave()


@contextlib.asynccontextmanager
async def cold_region(folder: Path) -> AsyncIterator[FloodedRegion]:
    """Two gateways that have served nothing."""
    # A socket's path must be short.
    with tempfile.TemporaryDirectory(prefix="chappe-fl-") as short, start_valkey(Path(short)) as valkey:
        async with (
            new_world(valkey.url, folder) as world,
            new_cell(world, valkey, folder) as cell,
        ):
            world.control.capacities[CHAT] = SLOTS
            keys = {"good": world.key, "flood": world.control.new_key(world.control.new_tenant(10**15))}
            options = {"slots": SLOTS, "answer_tokens": None, "prefill_tokens_per_s": _PREFILL_PER_S}
            await cell.start_engine(_DECODE_PER_S, **options)
            settings = {"PREFILL_TOKENS_PER_S": str(_PREFILL_PER_S)}
            await asyncio.gather(*(cell.start_gateway(name, **settings) for name in _GATEWAYS))
            pids = [os.getpid(), valkey.process.pid, *(process.pid for process in cell.running.values())]
            with _urgent(pids):
                yield FloodedRegion(cell, keys)


@contextlib.contextmanager
def _urgent(pids: list[int]) -> Iterator[None]:
    """What is measured is who waits for whom, and not what else this machine has to do. Without the right to it,
    nothing changes."""
    before = os.getpriority(os.PRIO_PROCESS, 0)
    try:
        with contextlib.suppress(PermissionError):
            for pid in pids:
                os.setpriority(os.PRIO_PROCESS, pid, _URGENT)
        yield
    finally:
        with contextlib.suppress(PermissionError):
            os.setpriority(os.PRIO_PROCESS, 0, before)
