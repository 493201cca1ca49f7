"""uvicorn as the gateway runs it: errors in the API's shape even for broken HTTP, and bounds on slow clients."""

import asyncio
import http
import socket
import ssl
from collections.abc import Callable
from functools import partial
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from chappe_gateway.app import create_app
from chappe_gateway.dialects import messages
from chappe_gateway.dialects.messages_answer import messages_error
from chappe_gateway.edge.call import CONNECTION_EXTENSION
from chappe_gateway.edge.crowd import Crowd
from chappe_gateway.edge.errors import BrokenHttp, HeadTooLarge, answer_for
from chappe_gateway.gateway import Gateway
from chappe_kernel.errors import ChappeError
from chappe_kernel.ids import REQUEST, encode_id, new_id
from chappe_kernel.networks import parse_networks

# A finished answer must be taken after this.
_TAKE_TIMEOUT_S = 30.0
_KEEP_ALIVE_S = 75
# Forward secrecy and authenticated encryption; TLS 1.3 has nothing else, and older versions are off in Python.
_TLS_1_2_CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
# The client gets to read why it is refused; closing at once would reset the connection.
_LINGER_S = 0.3
MAX_HEAD_BYTES = 64 * 1024
MAX_HEADERS = 128
MAX_PIPELINED = 64
"""Requests that may wait on one connection for the answer to the first."""
_HEAD_BOUNDS = f"a head may have {MAX_HEADERS} lines and {MAX_HEAD_BYTES} bytes"
# A body's limit is of what it says; in chunks of a byte each, six are sent for one.
_FRAMING = 8
_NO_JSON = b"\xff"


class _Nowhere(list[tuple[bytes, bytes]]):
    """Where a chunked body's trailers go. Among the headers they would pass for what a proxy in front has checked."""

    def append(self, _: tuple[bytes, bytes]) -> None:
        """Forget it."""


_NOWHERE = _Nowhere()


class _Lingering:
    """A client's connection under its last answer: closed a while after it should be."""

    def __init__(self, transport: asyncio.Transport, close: Callable[[], None]) -> None:
        self.write = transport.write
        self.is_closing = transport.is_closing
        self.close = close


class GatewayProtocol(HttpToolsProtocol):
    """One client connection."""

    def __init__(
        self, *args: Any, region: str, crowd: Crowd, head_timeout_s: float, max_body_bytes: int, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self._region = region
        self._crowd = crowd
        self._head_timeout_s = head_timeout_s
        self._max_message_bytes = MAX_HEAD_BYTES + _FRAMING * max_body_bytes
        self._head_timer: asyncio.TimerHandle | None = None
        self._idle_timer: asyncio.TimerHandle | None = None
        self._idle_from = 0.0
        """When the newest answer was complete, by the loop's time."""
        self._on_leaving: Callable[[], None] | None = None
        self._lost = False
        self._in_head = False
        self._is_broken = False
        self._read_bytes = 0
        """In the newest read, and in those before it since the newest request began."""
        self._seen_bytes = 0

    @property
    def peer(self) -> str | None:
        return self.client[0] if self.client else None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in the base class
        super().connection_made(transport)
        self._expect_head()
        if not self._crowd.enter(self):
            transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._crowd.leave(self)
        self._head_arrived()
        if self._idle_timer is not None:
            self._idle_timer.cancel()
        self._lost = True
        super().connection_lost(exc)
        if self._on_leaving is not None:
            self._on_leaving()

    def data_received(self, data: bytes) -> None:
        self._seen_bytes += len(data)
        if self._is_broken:
            # Dropped, so that the answer can be read first; but whoever goes on for ever does not read it.
            if self._seen_bytes > 2 * self._max_message_bytes:
                self.transport.abort()
            return
        self._read_bytes = len(data)
        super().data_received(data)
        if self._read_bytes + self._seen_bytes > MAX_HEAD_BYTES:
            self._check_size()
        # Also for what is no request at all, such as empty lines.
        if self._head_timer is None and not self._lost and (self._in_head or self.cycle.response_complete):
            self._expect_head()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head = True
        self._seen_bytes = 0
        self.scope["extensions"] = {CONNECTION_EXTENSION: self}  # type: ignore[dict-item]  # ours

    def on_headers_complete(self) -> None:
        if len(self.headers) > MAX_HEADERS or (self._read_bytes > MAX_HEAD_BYTES and self._is_head_too_large()):
            raise HeadTooLarge(_HEAD_BOUNDS)
        if len(self.pipeline) >= MAX_PIPELINED:
            raise BrokenHttp("too many requests at once")
        super().on_headers_complete()
        self._in_head = False
        self._head_arrived()
        self.headers = _NOWHERE

    def on_response_complete(self) -> None:
        """As in the base class, but for its timer, which is made anew for every answer: here there is one as long as
        the connection has been idle, and it looks for how long that was."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
            return
        self._idle_from = self.loop.time()
        if self._idle_timer is None:
            self._idle_timer = self.loop.call_later(_KEEP_ALIVE_S, self._look_if_idle)

    def _look_if_idle(self) -> None:
        self._idle_timer = None
        if self._head_timer is not None or not self.cycle.response_complete:
            # The end of what runs now, or begins, looks again.
            return
        left_s = self._idle_from + _KEEP_ALIVE_S - self.loop.time()
        if left_s > 0:
            self._idle_timer = self.loop.call_later(left_s, self._look_if_idle)
        else:
            self.timeout_keep_alive_handler()

    def timeout_keep_alive_handler(self) -> None:
        super().timeout_keep_alive_handler()
        # What the client does not take in this time is dropped: a closing transport would wait for ever.
        self.loop.call_later(_TAKE_TIMEOUT_S, self.transport.abort)

    def send_400_response(self, msg: str) -> None:
        is_large = self._in_head and self._is_head_too_large()
        self._refuse(HeadTooLarge(_HEAD_BOUNDS) if is_large else BrokenHttp(msg))

    def idle_since(self) -> tuple[bool, float] | None:
        """As `crowd.Held` has it."""
        has_asked = self.cycle is not None
        if has_asked and not self.cycle.response_complete:
            return None
        if self._head_timer is not None:
            return has_asked, self._head_timer.when() - self._head_timeout_s
        return (True, self._idle_from) if has_asked else None

    def abort(self) -> None:
        self.transport.abort()

    def limit_silence(self, within_s: float) -> None:
        connection = self.transport.get_extra_info("socket")
        if connection is not None and connection.family != socket.AF_UNIX:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(1000 * within_s))

    def has_shown_certificate(self) -> bool:
        return bool(self.transport.get_extra_info("peercert"))

    def watch(self, on_leaving: Callable[[], None]) -> None:
        self._on_leaving = on_leaving
        # A long body may have paused it, and then nobody would notice.
        self.flow.resume_reading()
        if self._lost:
            on_leaving()

    def unwatch(self, on_leaving: Callable[[], None]) -> None:
        if self._on_leaving == on_leaving:
            self._on_leaving = None

    def take_body(self, scope: Any) -> bytes | None:
        cycle = self.cycle
        # A later request on the same connection has taken its place, or the client waits for leave to send.
        if cycle.scope is not scope or cycle.more_body or cycle.waiting_for_100_continue or cycle.disconnected:
            return None
        body, cycle.body = bytes(cycle.body), bytearray()
        cycle.message_event.clear()
        return body

    def answer(self, scope: Any, head: bytes, body: bytes) -> bool:
        if not self._may_write(scope):
            return False
        self.cycle.response_started = True
        self.transport.write(b"%b\r\n%b" % (head, body))
        self._answered()
        return True

    def begin_stream(self, scope: Any, head: bytes, data: bytes, *, more: bool) -> bool:
        if not self._may_write(scope):
            return False
        self.cycle.response_started = self.cycle.chunked_encoding = True
        end = b"" if more else b"0\r\n\r\n"
        self.transport.write(b"%btransfer-encoding: chunked\r\n\r\n%x\r\n%b\r\n%b" % (head, len(data), data, end))
        if not more:
            self._answered()
        return True

    def send_chunk(self, scope: Any, data: bytes) -> bool:
        if not self._may_go_on(scope):
            return False
        self.transport.write(b"%x\r\n%b\r\n" % (len(data), data))
        return True

    def end_stream(self, scope: Any, data: bytes) -> bool:
        if not self._may_go_on(scope) or not self.cycle.keep_alive:
            return False
        self.transport.write(b"%x\r\n%b\r\n0\r\n\r\n" % (len(data), data))
        self._answered()
        return True

    def _answered(self) -> None:
        cycle = self.cycle
        cycle.response_complete = True
        cycle.message_event.set()
        cycle.on_response()

    def _may_write(self, scope: Any) -> bool:
        """Whether this is the connection's only request, and nothing but an answer's head is due."""
        cycle = self.cycle
        return (
            cycle.scope is scope
            and cycle.keep_alive
            and not (cycle.response_started or cycle.disconnected or self.flow.write_paused)
        )

    def _may_go_on(self, scope: Any) -> bool:
        """Whether this request's answer is of unknown length, has begun, and is being taken."""
        cycle = self.cycle
        return (
            cycle.scope is scope
            and cycle.chunked_encoding is True
            and not (cycle.response_complete or cycle.disconnected or self.flow.write_paused)
        )

    def _unsupported_upgrade_warning(self) -> None:
        """Another protocol was asked for: this request is answered, and what follows it is nothing that we speak."""
        self._is_broken = True
        self._end_after(self.cycle)

    def _refuse(self, error: ChappeError) -> None:
        """What came last on this connection cannot be read: nothing that follows it is, and whoever asked something
        before gets its answer."""
        if self._is_broken or self._lost:
            return
        self._is_broken = True
        cycle = self.cycle
        if self._in_head and (cycle is None or cycle.response_complete):  # type: ignore[redundant-expr]  # at first none
            self._say(error)
            self._end()
            return
        if not (self._in_head or cycle.response_complete):
            # A body that breaks off: whoever reads it says so, in its turn and in its API's shape.
            cycle.more_body = False
            cycle.body += _NO_JSON
            cycle.message_event.set()
        self._end_after(cycle)

    def _end_after(self, last: RequestResponseCycle) -> None:
        """Close the connection when this one is answered."""
        last.keep_alive = False
        last.transport = _Lingering(self.transport, self._end)  # type: ignore[assignment]  # all that it calls is there
        if last.response_complete:
            self._end()

    def _end(self) -> None:
        """What still comes is read and dropped: closing over it would reset the connection, and lose the answer."""
        self.flow.resume_reading()
        self.loop.call_later(_LINGER_S, self.transport.close)
        self.loop.call_later(_TAKE_TIMEOUT_S, self.transport.abort)

    def _say(self, error: ChappeError) -> None:
        request_id = encode_id(REQUEST, new_id())
        is_messages = self.url.startswith(messages.PATH.encode())
        status, headers, body = messages_error(request_id, error) if is_messages else answer_for(error)
        lines = [
            f"HTTP/1.1 {status} {http.HTTPStatus(status).phrase}",
            "content-type: application/json",
            f"content-length: {len(body)}",
            f"x-request-id: {request_id}",
            f"x-chappe-region: {self._region}",
            "connection: close",
            *(f"{name.decode()}: {value.decode()}" for name, value in headers),
        ]
        self.transport.write("\r\n".join(lines).encode() + b"\r\n\r\n" + body)

    def _check_size(self) -> None:
        if self._in_head:
            if self._seen_bytes > MAX_HEAD_BYTES or self._is_head_too_large():
                self._refuse(HeadTooLarge(_HEAD_BOUNDS))
        elif self._seen_bytes > self._max_message_bytes and self.cycle.more_body:
            self._refuse(BrokenHttp("the body's chunks are too small"))

    def _is_head_too_large(self) -> bool:
        size = len(self.url) + sum(len(name) + len(value) for name, value in self.headers)
        return size > MAX_HEAD_BYTES or len(self.headers) > MAX_HEADERS

    def _expect_head(self) -> None:
        self._head_timer = self.loop.call_later(self._head_timeout_s, self.transport.abort)

    def _head_arrived(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None


class GatewayServer(uvicorn.Server):
    """Tells its gateway when it has been told to stop, and not only when all streams have ended."""

    def __init__(self, config: uvicorn.Config, gateway: Gateway) -> None:
        super().__init__(config)
        self._gateway = gateway

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._gateway.batches.drain()
        await super().shutdown(sockets)


def create_server(gateway: Gateway) -> GatewayServer:
    """A server that is not running yet. SIGTERM lets streams finish for `drain_s` and then stops the gateway."""
    settings = gateway.settings
    protocol = partial(
        GatewayProtocol,
        region=settings.region,
        crowd=Crowd(
            settings.max_connections, settings.max_connections_per_address, parse_networks(settings.trusted_proxies)
        ),
        head_timeout_s=settings.head_timeout_s,
        max_body_bytes=settings.max_body_bytes,
    )
    return GatewayServer(
        uvicorn.Config(
            create_app(gateway),
            host=settings.host,
            port=settings.port,
            ssl_certfile=settings.tls_certificate_file or None,
            ssl_keyfile=settings.tls_key_file or None,
            ssl_ciphers=_TLS_1_2_CIPHERS,
            # Asked of all, since a connection says who it is before it says what it wants; only peers must have one.
            ssl_cert_reqs=ssl.CERT_OPTIONAL if settings.peer_client_ca_file else ssl.CERT_NONE,
            ssl_ca_certs=settings.peer_client_ca_file or None,
            loop="uvloop",
            http=protocol,  # type: ignore[arg-type]  # it is only ever called
            ws="none",
            # It is a plain function that returns what is to be awaited.
            interface="asgi3",
            lifespan="on",
            access_log=False,
            log_config=None,
            # Below it, uvicorn writes a line for every request that is no HTTP: anybody could fill the disk.
            log_level="error",
            server_header=False,
            # Nobody's word is taken for where a request comes from.
            proxy_headers=False,
            timeout_keep_alive=_KEEP_ALIVE_S,
            timeout_graceful_shutdown=int(settings.drain_s),
            backlog=2048,
        ),
        gateway,
    )
