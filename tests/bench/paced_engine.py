"""An engine in OpenAI's words that sends very many streams at a pace: `python -m tests.bench.paced_engine PORT …`.

Plain sockets and one `epoll`, since whatever it costs is taken from a measurement. Requests are looked for between any
two slots of a period, so a whole answer waits for no more than one slot's chunks. Says how late its chunks were when it
is told to stop.
"""

import contextlib
import gc
import random
import select
import signal
import socket
import sys
import time
from collections.abc import Iterator

import click
import msgspec

from chappe_kernel.rating import Counts
from chappe_kernel.wire.engine import END_HEADER, END_MARK, START_MARK, End, EngineHealth, Start
from tests.bench.load import go_before

ENDLESS = b"endless"
"""A prompt with this word is answered for ever, with as much as is taken."""
DONE = b"data: [DONE]\n\n"
WHOLE = b'{"choices":[],"usage":{}}'
PRIORITY = 10
_EVENT = b'data: {"choices":[{"index":0,"delta":{"content":" tok%05d"},"finish_reason":null}]}\n\n'
_HEALTH = msgspec.json.encode(EngineHealth("paced", 2048, 0))
_READ_BYTES = 65_536
_MANY_EVENTS = 100


class Lateness(msgspec.Struct):
    """How long after its time a slot's chunks were sent, of all slots."""

    p50_ms: float
    p99_ms: float


def events(chunks: int) -> list[bytes]:
    """What a stream consists of, without what engine and gateway say around it."""
    return [_EVENT % index for index in range(chunks)]


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def _whole_answer(body: bytes, *lines: bytes) -> bytes:
    head = b"".join(line + b"\r\n" for line in lines)
    return b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n%b\r\n%b" % (len(body), head, body)


def _end(tokens: int) -> bytes:
    return msgspec.json.encode(End("completed", Counts(42, 0, tokens), "stop"))


class _Connection:
    """One of the gateway's."""

    __slots__ = ("endless", "received", "sent", "slot", "socket", "unsent")

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self.received = b""
        self.sent = 0
        """Chunks of the stream that runs here."""
        self.slot = -1
        """When in each period the next one is due; -1 while no stream runs."""
        self.endless = False
        self.unsent = b""


class PacedEngine:
    """`slots` moments in each period, the streams spread over them at random."""

    def __init__(self, listening: socket.socket, *, per_s: float, chunks: int, slots: int) -> None:
        self._listening = listening
        self._slot_s = 1 / per_s / slots
        self._slots: list[dict[int, _Connection]] = [{} for _ in range(slots)]
        self._frames = [*map(_chunk, events(chunks)), _chunk(END_MARK + _end(chunks) + b"\n\n") + b"0\r\n\r\n"]
        start = START_MARK + msgspec.json.encode(Start(42, 0)) + b"\n\n"
        self._begin = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + _chunk(start)
        self._whole = _whole_answer(WHOLE, END_HEADER.encode() + b": " + _end(8))
        self._many = _chunk(_EVENT % 0 * _MANY_EVENTS)
        self._connections: dict[int, _Connection] = {}
        self._poll = select.epoll()
        self._poll.register(listening, select.EPOLLIN)
        self._random = random.Random(1)  # noqa: S311  # no secret
        self._late_s: list[float] = []

    def run(self) -> None:
        """Until this process is told to stop."""
        tick, due = 0, time.perf_counter()
        while True:
            for descriptor, _ in self._poll.poll(max(0.0, due - time.perf_counter())):
                self._take(descriptor)
            late_s = time.perf_counter() - due
            if late_s >= 0:
                self._send(tuple(self._slots[tick].values()), late_s)
                tick = (tick + 1) % len(self._slots)
                due += self._slot_s

    def lateness(self) -> Lateness:
        ordered = sorted(self._late_s) or [0.0]
        return Lateness(1000 * ordered[len(ordered) // 2], 1000 * ordered[int(len(ordered) * 0.99)])

    def _take(self, descriptor: int) -> None:
        connection = self._connections.get(descriptor)
        if connection is None:
            self._accept()
            return
        try:
            data = connection.socket.recv(_READ_BYTES)
        except ConnectionError:
            data = b""
        if not data:
            self._forget(connection)
            return
        connection.received += data
        head, mark, body = connection.received.partition(b"\r\n\r\n")
        if mark and len(body) >= _length(head):
            connection.received = b""
            self._answer(connection, head, body)

    def _accept(self) -> None:
        made, _ = self._listening.accept()
        made.setblocking(False)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._connections[made.fileno()] = _Connection(made)
        self._poll.register(made, select.EPOLLIN)

    def _answer(self, connection: _Connection, head: bytes, body: bytes) -> None:
        if head.startswith(b"GET"):
            connection.socket.send(_whole_answer(_HEALTH))
        elif b'"stream":true' not in body:
            connection.socket.send(self._whole)
        else:
            connection.socket.send(self._begin)
            connection.sent, connection.endless = 0, ENDLESS in body
            connection.slot = self._random.randrange(len(self._slots))
            self._slots[connection.slot][connection.socket.fileno()] = connection

    def _send(self, connections: tuple[_Connection, ...], late_s: float) -> None:
        if connections:
            self._late_s.append(late_s)
        for connection in connections:
            try:
                if connection.endless:
                    self._send_much(connection)
                    continue
                frame = self._frames[connection.sent]
                if connection.socket.send(frame) < len(frame):
                    raise BlockingIOError
            except OSError:
                # Also when the gateway does not take a chunk at once: its client sees that something is missing.
                self._forget(connection)
                continue
            connection.sent += 1
            if connection.sent == len(self._frames):
                self._end_stream(connection)

    def _send_much(self, connection: _Connection) -> None:
        with contextlib.suppress(BlockingIOError):
            data = connection.unsent or self._many
            connection.unsent = data
            connection.unsent = data[connection.socket.send(data) :]

    def _end_stream(self, connection: _Connection) -> None:
        if connection.slot >= 0:
            del self._slots[connection.slot][connection.socket.fileno()]
            connection.slot = -1

    def _forget(self, connection: _Connection) -> None:
        self._end_stream(connection)
        del self._connections[connection.socket.fileno()]
        connection.socket.close()


def _length(head: bytes) -> int:
    for line in head.split(b"\r\n"):
        if line.lower().startswith(b"content-length:"):
            return int(line.split(b":")[1])
    return 0


@contextlib.contextmanager
def until_terminated() -> Iterator[None]:
    """What is inside ends quietly when this process is told to stop."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    with contextlib.suppress(SystemExit):
        yield


@click.command()
@click.argument("port", type=int)
@click.option("--per-s", type=float, required=True)
@click.option("--chunks", type=int, required=True)
@click.option("--slots", type=int, required=True)
def main(port: int, per_s: float, chunks: int, slots: int) -> None:
    gc.disable()
    go_before(PRIORITY)
    listening = socket.create_server(("127.0.0.1", port), backlog=4096)
    engine = PacedEngine(listening, per_s=per_s, chunks=chunks, slots=slots)
    with until_terminated():
        engine.run()
    click.echo(msgspec.json.encode(engine.lateness()))


if __name__ == "__main__":
    main()
