"""Whoever asks for whole answers beside a load: `python -m tests.bench.asker PORT REQUEST_FILE`, until it is stopped.

In a process of its own and before everything else on its core, so that what it measures is the gateway's. No request
waits for the answer to another: one that is due while all kept connections are busy has one more. Every fifth is asked
for on a new connection, which is used once. The moments are spread at random, since what runs at a pace must not be met
at the same point of it.
"""

import gc
import random
import select
import socket
import time
from pathlib import Path
from typing import NamedTuple

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


class _Asked(NamedTuple):
    """One request that waits for its answer."""

    connection: socket.socket
    at: float
    is_new: bool


class Asker:
    """One `epoll`, any number of requests under way."""

    def __init__(self, port: int, request: bytes, asks: list[Ask]) -> None:
        self._port = port
        self._request = request
        self._asks = asks
        self._kept: list[socket.socket] = []
        """Those that nobody waits at."""
        self._waiting: dict[int, _Asked] = {}
        self._answers: dict[int, bytes] = {}
        self._poll = select.epoll()

    def run(self) -> None:
        """For ever. Raises `RuntimeError` for any answer but the engine's, and for one that is too late."""
        chance = random.Random(1)  # noqa: S311  # no secret
        due = time.perf_counter()
        number = 0
        while True:
            due += chance.uniform(0.5, 1.5) / ASKS_PER_S
            while (left_s := due - time.perf_counter()) > 0:
                for descriptor, _ in self._poll.poll(left_s):
                    self._take(descriptor)
            self._ask(is_new=number % _NEW_CONNECTION_EVERY == 0)
            number += 1

    def _ask(self, *, is_new: bool) -> None:
        began = time.perf_counter()
        if any(began - asked.at > _TIMEOUT_S for asked in self._waiting.values()):
            raise RuntimeError("not answered in time")
        connection = self._kept.pop() if self._kept and not is_new else self._connect()
        self._waiting[connection.fileno()] = _Asked(connection, began, is_new)
        self._answers[connection.fileno()] = b""
        connection.sendall(self._request)

    def _connect(self) -> socket.socket:
        connection = socket.create_connection(("127.0.0.1", self._port), timeout=_TIMEOUT_S)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._poll.register(connection, select.EPOLLIN)
        return connection

    def _take(self, descriptor: int) -> None:
        asked = self._waiting.get(descriptor)
        if asked is None:
            self._drop_kept(descriptor)
            return
        part = asked.connection.recv(65_536)
        answer = self._answers[descriptor] = self._answers[descriptor] + part
        if not part or not answer.startswith(b"HTTP/1.1 200 "):
            raise RuntimeError(f"not answered: {answer!r}")
        if not answer.endswith(WHOLE):
            return
        self._asks.append(Ask(asked.at, 1000 * (time.perf_counter() - asked.at), asked.is_new))
        del self._waiting[descriptor], self._answers[descriptor]
        if asked.is_new:
            asked.connection.close()
        else:
            self._kept.append(asked.connection)

    def _drop_kept(self, descriptor: int) -> None:
        """The gateway has closed one that was idle for long."""
        for connection in [one for one in self._kept if one.fileno() == descriptor]:
            self._kept.remove(connection)
            connection.close()


@click.command()
@click.argument("port", type=int)
@click.argument("request_file", type=click.Path(exists=True, path_type=Path))
def main(port: int, request_file: Path) -> None:
    gc.disable()
    go_before(2 * PRIORITY)
    asks: list[Ask] = []
    with until_terminated():
        Asker(port, request_file.read_bytes(), asks).run()
    click.echo(msgspec.json.encode(asks))


if __name__ == "__main__":
    main()
