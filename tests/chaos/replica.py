"""An engine's replica as a process of its own: `python -m tests.chaos.replica PORT FOLDER TOKENS_PER_S`.

It is the simulated engine behind the real ingress. All replicas of a deployment listen on one port, as behind Serve's
proxy, so that what one loses another takes. What it really generates is written down token by token before anybody
else hears of it: that is what the witnesses are measured by, and no part of the product reads it.
"""

import os
import signal
import socket
import sys
import time
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import msgspec
import uvicorn
from msgspec import Struct

from chappe_kernel.wire.engine import GenerateRequest
from chappe_serving.engine import Delta, Event
from chappe_serving.engines.simulated import SimulatedEngine, SimulatedOptions
from chappe_serving.ingress import Ingress
from chappe_serving.records import RecordWriter

DEATH = "die-after"
"""`die-after-N` in the folder: the replica that makes the next request's N-th token dies before anybody gets it."""


class Token(Struct, frozen=True, array_like=True):
    """So many tokens of this attempt there are now; `at` is a time of the machine's monotonic clock."""

    request_id: str
    attempt: int
    prompt_tokens: int
    tokens: int
    at: float
    pid: int


class WitnessedEngine(SimulatedEngine):
    """Writes each token down."""

    def __init__(self, options: SimulatedOptions, folder: Path, listener: socket.socket) -> None:
        super().__init__(options)
        self._listener = listener
        self._truth = os.open(folder / "truth.jsonl", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._death = folder / DEATH

    async def generate(self, request: GenerateRequest) -> AsyncGenerator[Event, None]:
        self._die_after(0)
        async for event in super().generate(request):
            if isinstance(event, Delta):
                self._die_after(event.counts.completion_tokens)
                counts = event.counts
                token = Token(
                    request.request_id,
                    request.attempt,
                    counts.prompt_tokens,
                    counts.completion_tokens,
                    time.monotonic(),
                    os.getpid(),
                )
                # The kernel has it, so it outlives this process.
                os.write(self._truth, msgspec.json.encode(token) + b"\n")
            yield event

    def _die_after(self, tokens: int) -> None:
        """Be killed if a test asks for it: once, whichever replica it hits."""
        try:
            self._death.with_name(f"{self._death.name}-{tokens}").unlink()
        except FileNotFoundError:
            return
        # Serve's proxy sends nobody to a replica that is dead; the kernel might, for a moment. Closing would not do:
        # the server's loop has the socket too, and a dying process may end its connections before its listeners.
        self._listener.shutdown(socket.SHUT_RDWR)
        os.kill(os.getpid(), signal.SIGKILL)


class Replica:
    """The ingress, started inside its server's loop."""

    def __init__(self, folder: Path, tokens_per_s: float, listener: socket.socket) -> None:
        options = SimulatedOptions(decode_tokens_per_s=tokens_per_s, slots=64, answer_tokens=120)
        self._engine = WitnessedEngine(options, folder, listener)
        self._records = RecordWriter(os.environ["ENGINE_REDIS_URL"], folder / "engine-records")
        self._ingress = Ingress(self._engine, self._records)
        self._ready = ready_file(folder, os.getpid())
        self._started = False

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if not self._started:
            self._started = True
            await self._records.start()
            await self._engine.start()
            self._ready.touch()
        await self._ingress(scope, receive, send)


def ready_file(folder: Path, pid: int) -> Path:
    """Appears when this replica serves: any other that is up answers on the same port."""
    return folder / f"replica-{pid}.ready"


def read_truth(folder: Path) -> list[Token]:
    path = folder / "truth.jsonl"
    lines = path.read_bytes().splitlines() if path.exists() else []
    return [msgspec.json.decode(line, type=Token) for line in lines]


def main() -> None:
    port, folder, tokens_per_s = sys.argv[1:]
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    listener.bind(("127.0.0.1", int(port)))
    replica = Replica(Path(folder), float(tokens_per_s), listener)
    server = uvicorn.Server(uvicorn.Config(replica, log_config=None, access_log=False, lifespan="on"))
    server.run(sockets=[listener])


if __name__ == "__main__":
    main()
