"""Whoever asks for whole answers beside a load: `python -m tests.bench.asker PORT REQUEST_FILE`, until it is stopped.

In a process of its own and before everything else on its core, so that what it measures is the gateway's. An answer
counts from when it was to be asked for, also if the one before it was still waited for. Every fifth is asked for on a
new connection. The moments are spread at random, since what runs at a pace must not be met at the same point of it.
"""

import gc
import random
import socket
import time
from pathlib import Path

import click
import msgspec

from tests.bench.load import go_before
from tests.bench.paced_engine import PRIORITY, WHOLE, until_terminated

ASKS_PER_S = 50
_NEW_CONNECTION_EVERY = 5
_TIMEOUT_S = 20.0


class Ask(msgspec.Struct, array_like=True):
    """One answer: when it was asked for (monotonic), what it took, and whether its connection was new."""

    at: float
    ms: float
    is_new: bool


def connect(port: int) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port), timeout=_TIMEOUT_S)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def ask(connection: socket.socket, request: bytes) -> None:
    """Raises `RuntimeError` for any answer but the engine's."""
    connection.sendall(request)
    answer = b""
    while not answer.endswith(WHOLE):
        part = connection.recv(65_536)
        answer += part
        if not part or not answer.startswith(b"HTTP/1.1 200 "):
            raise RuntimeError(f"not answered: {answer!r}")


def ask_for_ever(port: int, request: bytes, asks: list[Ask]) -> None:
    chance = random.Random(1)  # noqa: S311  # no secret
    kept = connect(port)
    due = time.perf_counter()
    while True:
        due += chance.uniform(0.5, 1.5) / ASKS_PER_S
        now = time.perf_counter()
        if now < due:
            time.sleep(due - now)
            # Waking up is not the gateway's work.
            began = time.perf_counter()
        else:
            began = due
        is_new = len(asks) % _NEW_CONNECTION_EVERY == 0
        if is_new:
            with connect(port) as connection:
                ask(connection, request)
                ended = time.perf_counter()
        else:
            ask(kept, request)
            ended = time.perf_counter()
        asks.append(Ask(began, 1000 * (ended - began), is_new))


@click.command()
@click.argument("port", type=int)
@click.argument("request_file", type=click.Path(exists=True, path_type=Path))
def main(port: int, request_file: Path) -> None:
    gc.disable()
    go_before(2 * PRIORITY)
    asks: list[Ask] = []
    with until_terminated():
        ask_for_ever(port, request_file.read_bytes(), asks)
    click.echo(msgspec.json.encode(asks))


if __name__ == "__main__":
    main()
