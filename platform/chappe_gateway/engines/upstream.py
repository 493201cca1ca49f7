"""A pooled HTTP/1.1 client on httptools: to the region's engines, and to the control plane.

It sends exactly the headers it is given, pauses reading when its buffer is full, and bounds what a peer may send as a
head. An exchange that is not read to its end closes its connection, which is how an engine learns that nobody listens.

In a rush (`rush.py`) the requests of one turn of the event loop are written together at its end: the other side is
woken once for all of them, and what it answers comes together too.
"""

import asyncio
import ssl
import time
from collections import deque
from collections.abc import Callable
from typing import NamedTuple, cast
from urllib.parse import urlsplit

import httptools

from chappe_gateway.rush import Rush

MAX_HEAD_BYTES = 64 * 1024
BUFFER_BYTES = 256 * 1024
"""What one answer may have waiting for a slow reader before its connection is paused: a thousand tokens. As much again
is on its way through the relay, and written and not taken."""
_MAX_IDLE_CONNECTIONS = 256
_FIRST_FINAL_STATUS = 200


class UpstreamLost(Exception):
    """The connection failed, or ended before the answer did."""


class Reply(NamedTuple):
    """A whole answer."""

    status: int
    headers: dict[bytes, bytes]
    body: bytes


class Exchange(asyncio.Protocol):
    """One connection, and the answer that is being read from it."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.closed = False
        self._waiter: asyncio.Future[None] | None = None
        self._taker: Callable[[bytes], bool] | None = None
        self._parser = httptools.HttpResponseParser(self)
        self.begin()

    def begin(self) -> None:
        """Make ready for the next answer on this connection."""
        self.status = 0
        self.headers: dict[bytes, bytes] = {}
        self.head_complete = False
        self.complete = False
        self.reusable = False
        self._head_bytes = 0
        """What came before the end of the head, and together with it."""
        self._chunks: list[bytes] = []
        self._buffered = 0
        self._paused = False

    def write(self, request: bytes) -> None:
        """Send a request; nothing once the connection is closed, which whoever waits for the answer is told."""
        if self.transport is not None and not self.closed:
            self.transport.write(request)

    async def head(self) -> None:
        """Wait for status and headers. Raises `UpstreamLost`."""
        while not self.head_complete:
            await self._progress()

    async def read(self) -> bytes:
        """The bytes that have arrived since, at least one; empty at the end. Raises `UpstreamLost`."""
        while not self._chunks:
            if self.complete:
                return b""
            await self._progress()
        return self.take_buffered()

    def take_buffered(self) -> bytes:
        """What has arrived and was not read yet, without waiting."""
        data = self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)
        self._chunks.clear()
        self._buffered = 0
        if self._paused and self.transport is not None and not self.closed:
            self._paused = False
            self.transport.resume_reading()
        return data

    async def pass_to(self, taker: Callable[[bytes], bool]) -> None:
        """Give `taker` whatever arrives, as it arrives and without running a task for it, until it returns False or
        the answer is at its end. Raises `UpstreamLost`, and whatever `taker` raises."""
        self._taker = taker
        try:
            # Also what came with the answer's end, for which it is woken.
            while self._offer() and not self.complete:
                await self._progress()
        finally:
            self._taker = None

    async def read_all(self, limit_bytes: int) -> bytes:
        """The rest of the body. Raises `UpstreamLost`, also for a body over the limit."""
        parts: list[bytes] = []
        size = 0
        while data := await self.read():
            size += len(data)
            if size > limit_bytes:
                self.abort()
                raise UpstreamLost("the answer is too long")
            parts.append(data)
        return b"".join(parts)

    def abort(self) -> None:
        """Close the connection at once: the peer sees it, and whoever reads here gets `UpstreamLost`."""
        if self.transport is not None:
            self.transport.abort()
        self._end()

    def _progress(self) -> "asyncio.Future[None]":
        if self.closed:
            raise UpstreamLost("the connection ended before the answer did")
        self._waiter = asyncio.get_running_loop().create_future()
        return self._waiter

    def _offer(self) -> bool:
        """Whether it is taken, and more is wanted as it comes."""
        taker = self._taker
        if taker is not None and self._chunks and not taker(self.take_buffered()):
            self._taker = taker = None
        return taker is not None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _arrived(self) -> None:
        """Who takes what arrives as it arrives is not woken for it, except at the end."""
        if self._taker is not None and not self.complete:
            try:
                if self._offer():
                    return
            except Exception as error:  # noqa: BLE001  # the reader's own, and raised where it waits
                self._taker = None
                if self._waiter is not None and not self._waiter.done():
                    self._waiter.set_exception(error)
        self._wake()

    def _end(self) -> None:
        self.closed = True
        self._wake()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # create_connection makes no other kind, though uvloop's does not inherit from asyncio's.
        self.transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._end()

    def data_received(self, data: bytes) -> None:
        if self.complete:
            # Bytes that nobody asked for: the connection cannot be trusted any more.
            self.abort()
            return
        if not self.head_complete:
            self._head_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self.abort()
            return
        if self._head_bytes > MAX_HEAD_BYTES and self._is_head_too_large():
            self.abort()
            return
        self._arrived()

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers[name.lower()] = value

    def _is_head_too_large(self) -> bool:
        # With a head that is complete, a part of the body was counted too.
        kept = sum(len(name) + len(value) for name, value in self.headers.items())
        return not self.head_complete or kept > MAX_HEAD_BYTES

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if status < _FIRST_FINAL_STATUS:
            self.headers = {}
            return
        self.status = status
        self.head_complete = True

    def on_body(self, body: bytes) -> None:
        self._chunks.append(body)
        self._buffered += len(body)
        if self._buffered > BUFFER_BYTES and not self._paused and self.transport is not None:
            self._paused = True
            self.transport.pause_reading()

    def on_message_complete(self) -> None:
        if self.head_complete:
            self.complete = True
            self.reusable = self._parser.should_keep_alive()


class HttpClient:
    """Connections to one server. Not a general client: no redirects, no cookies, no content codings."""

    def __init__(self, base_url: str, *, connect_timeout_s: float = 2.0, tls: ssl.SSLContext | None = None) -> None:
        parts = urlsplit(base_url)
        secure = parts.scheme == "https"
        self._host = parts.hostname or "127.0.0.1"
        self._port = parts.port or (443 if secure else 80)
        self._ssl = (tls or ssl.create_default_context()) if secure else None
        self._prefix = parts.path.rstrip("/").encode()
        self._host_header = parts.netloc.rpartition("@")[2].encode()
        self._connect_timeout_s = connect_timeout_s
        self._idle: deque[Exchange] = deque()
        self._unsent: list[tuple[Exchange, bytes]] = []
        """What is written at the end of this turn of the event loop."""
        self._rush = Rush()

    async def send(
        self,
        method: bytes,
        path: bytes,
        headers: bytes = b"",
        body: bytes = b"",
        *,
        fresh: bool = False,
        with_others: bool = False,
    ) -> Exchange:
        """Write one request; `headers` are ready lines. With `fresh` on a new connection; `with_others`: others are
        being served too, and in a rush it may wait for those of its turn. Raises `UpstreamLost`."""
        exchange = (None if fresh else self._take_idle()) or await self._connect()
        length = b"content-length: %d\r\n" % len(body) if body or method != b"GET" else b""
        request = b"%b %b%b HTTP/1.1\r\nhost: %b\r\n%b%b\r\n%b" % (
            method,
            self._prefix,
            path,
            self._host_header,
            headers,
            length,
            body,
        )
        if not (self._rush.note(time.monotonic()) and with_others):
            exchange.write(request)
            return exchange
        if not self._unsent:
            asyncio.get_running_loop().call_soon(self._write_unsent)
        self._unsent.append((exchange, request))
        return exchange

    async def fetch(
        self,
        method: bytes,
        path: bytes,
        headers: bytes = b"",
        body: bytes = b"",
        *,
        timeout_s: float,
        limit_bytes: int = 16 * 1024 * 1024,
    ) -> Reply:
        """One whole exchange; a stale connection is replaced once. Raises `UpstreamLost`, `TimeoutError`."""
        async with asyncio.timeout(timeout_s):
            reused = bool(self._idle)
            try:
                return await self._fetch(method, path, headers, body, limit_bytes, fresh=False)
            except UpstreamLost:
                if not reused:
                    raise
                return await self._fetch(method, path, headers, body, limit_bytes, fresh=True)

    def release(self, exchange: Exchange) -> None:
        """Give back a connection whose answer was read to its end; any other is closed."""
        if exchange.complete and exchange.reusable and not exchange.closed and len(self._idle) < _MAX_IDLE_CONNECTIONS:
            exchange.begin()
            # Until the next request nothing may arrive.
            exchange.complete = True
            self._idle.append(exchange)
        else:
            exchange.abort()

    def close(self) -> None:
        """Close every idle connection."""
        while self._idle:
            self._idle.pop().abort()

    def _write_unsent(self) -> None:
        unsent, self._unsent = self._unsent, []
        for exchange, request in unsent:
            exchange.write(request)

    async def _fetch(
        self, method: bytes, path: bytes, headers: bytes, body: bytes, limit_bytes: int, *, fresh: bool
    ) -> Reply:
        exchange = await self.send(method, path, headers, body, fresh=fresh)
        try:
            await exchange.head()
            answer = await exchange.read_all(limit_bytes)
            return Reply(exchange.status, exchange.headers, answer)
        finally:
            self.release(exchange)

    def _take_idle(self) -> Exchange | None:
        while self._idle:
            exchange = self._idle.pop()
            if not exchange.closed:
                exchange.complete = False
                return exchange
        return None

    async def _connect(self) -> Exchange:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._connect_timeout_s):
                _, exchange = await loop.create_connection(Exchange, self._host, self._port, ssl=self._ssl)
        except (OSError, TimeoutError) as error:
            raise UpstreamLost("connecting failed") from error
        return exchange
