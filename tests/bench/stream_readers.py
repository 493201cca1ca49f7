"""The clients of very many streams: `python -m tests.bench.stream_readers PORT REQUEST_FILE …`.

They begin at an even pace and keep what they get; whether it is right to the last byte is looked at when all have
ended. They read a hundred times a second, so that many are read at each waking. Two lines on standard output: when all
were open, and what became of them.
"""

import contextlib
import gc
import select
import socket
import time
from collections.abc import Sequence
from pathlib import Path

import click
import msgspec

from tests.bench.paced_engine import DONE, events

_READ_BYTES = 65_536
_LOOK_EVERY_S = 0.01
_SILENCE_S = 20.0
_SMALLEST_BUFFER = 1
"""The kernel makes 2 KB of it."""


class Opened(msgspec.Struct):
    """When the last one began, by the machine's monotonic clock."""

    at: float


class Ended(msgspec.Struct):
    """How many were as they should be, and when the first one ended."""

    clean: int
    first_end_at: float


class _Slow:
    """Takes a byte a second, out of a socket that holds next to nothing."""

    def __init__(self, port: int, request: bytes) -> None:
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _SMALLEST_BUFFER)
        self._socket.connect(("127.0.0.1", port))
        self._socket.send(request)
        self._socket.setblocking(False)
        self._due = time.perf_counter()

    def read(self, now: float) -> None:
        if now >= self._due:
            self._due += 1
            with contextlib.suppress(BlockingIOError):
                self._socket.recv(1)


class Readers:
    """All of them in one process."""

    def __init__(self, port: int, request: bytes) -> None:
        self._port = port
        self._request = request
        self._poll = select.epoll()
        self._open: dict[int, socket.socket] = {}
        self._received: list[list[bytes]] = []
        self._of: dict[int, list[bytes]] = {}
        self.first_end_at = 0.0

    @property
    def are_open(self) -> bool:
        return bool(self._open)

    def begin(self) -> None:
        connection = socket.create_connection(("127.0.0.1", self._port))
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.send(self._request)
        connection.setblocking(False)
        parts: list[bytes] = []
        self._received.append(parts)
        self._open[connection.fileno()] = connection
        self._of[connection.fileno()] = parts
        self._poll.register(connection, select.EPOLLIN)

    def read(self) -> bool:
        """What has come for any of them; False when nothing has."""
        ready = self._poll.poll(0, len(self._open) or 1)
        for descriptor, _ in ready:
            connection = self._open[descriptor]
            try:
                data = connection.recv(_READ_BYTES)
            except ConnectionError:
                data = b""
            self._of[descriptor].append(data)
            if not data or data.endswith(b"\r\n0\r\n\r\n"):
                self._end(descriptor)
        return bool(ready)

    def count_clean(self, chunks: int) -> int:
        body = b"".join(events(chunks)) + DONE
        return sum(is_clean(b"".join(parts), body) for parts in self._received)

    def _end(self, descriptor: int) -> None:
        self.first_end_at = self.first_end_at or time.perf_counter()
        del self._of[descriptor]
        self._open.pop(descriptor).close()


def is_clean(answer: bytes, body: bytes) -> bool:
    """Whether a whole answer in chunks is this body and nothing else, to the last byte of its framing."""
    head, _, framed = answer.partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 200 "):
        return False
    parts, at = [], 0
    with contextlib.suppress(ValueError):
        while (size := int(framed[at : (line_end := framed.index(b"\r\n", at))], 16)) > 0:
            parts.append(framed[line_end + 2 : line_end + 2 + size])
            at = line_end + 2 + size + 2
    as_it_should_be = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"
    return framed == as_it_should_be and b"".join(parts) == body


def read_all(readers: Readers, slow_ones: Sequence[_Slow], streams: int, per_s: float) -> None:
    """Until every stream has ended, or none has said anything for long."""
    began = heard_at = time.perf_counter()
    begun = 0
    while begun < streams or readers.are_open:
        now = time.perf_counter()
        while begun < min(streams, (now - began) * per_s):
            readers.begin()
            begun += 1
            if begun == streams:
                click.echo(msgspec.json.encode(Opened(time.perf_counter())))
        for one in slow_ones:
            one.read(now)
        if readers.read():
            heard_at = now
        elif now - heard_at > _SILENCE_S:
            break
        # Between two beginnings at most.
        time.sleep(min(_LOOK_EVERY_S, 1 / per_s) if begun < streams else _LOOK_EVERY_S)


@click.command()
@click.argument("port", type=int)
@click.argument("request_file", type=click.Path(exists=True, path_type=Path))
@click.option("--streams", type=int, required=True)
@click.option("--per-s", type=float, required=True, help="How many begin in a second.")
@click.option("--chunks", type=int, required=True)
@click.option("--slow", type=int, default=0)
@click.option("--slow-request-file", type=click.Path(exists=True, path_type=Path))
def main(
    port: int,
    request_file: Path,
    *,
    streams: int,
    per_s: float,
    chunks: int,
    slow: int,
    slow_request_file: Path | None,
) -> None:
    gc.disable()
    readers = Readers(port, request_file.read_bytes())
    slow_request = slow_request_file.read_bytes() if slow_request_file else b""
    slow_ones = [_Slow(port, slow_request) for _ in range(slow)]
    read_all(readers, slow_ones, streams, per_s)
    click.echo(msgspec.json.encode(Ended(readers.count_clean(chunks), readers.first_end_at)))


if __name__ == "__main__":
    main()
