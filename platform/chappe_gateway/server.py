"""uvicorn as the gateway runs it: errors in the API's shape even for broken HTTP, and bounds on slow clients."""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from chappe_gateway.app import create_app
from chappe_gateway.call import CONNECTION_EXTENSION
from chappe_gateway.errors import answer_for
from chappe_gateway.gateway import Gateway
from chappe_kernel.errors import Invalid
from chappe_kernel.ids import REQUEST, encode_id, new_id

# A head must be there after this, and a finished answer taken.
_HEAD_TIMEOUT_S = 15.0
_TAKE_TIMEOUT_S = 30.0
_KEEP_ALIVE_S = 75
# Forward secrecy and authenticated encryption; TLS 1.3 has nothing else, and older versions are off in Python.
_TLS_1_2_CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"


class GatewayProtocol(HttpToolsProtocol):
    """One client connection."""

    def __init__(self, *args: Any, region: str, max_connections: int, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._region = region
        self._max_connections = max_connections
        self._head_timer: asyncio.TimerHandle | None = None
        self._on_leaving: Callable[[], None] | None = None
        self._lost = False
        self._in_head = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in the base class
        super().connection_made(transport)
        if len(self.connections) > self._max_connections:
            transport.abort()
            return
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_arrived()
        self._lost = True
        super().connection_lost(exc)
        if self._on_leaving is not None:
            self._on_leaving()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._in_head and self._head_timer is None and not self._lost:
            self._expect_head()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head = True
        self.scope["extensions"] = {CONNECTION_EXTENSION: self}  # type: ignore[dict-item]  # ours

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._head_arrived()
        super().on_headers_complete()

    def timeout_keep_alive_handler(self) -> None:
        super().timeout_keep_alive_handler()
        # What the client does not take in this time is dropped: a closing transport would wait for ever.
        self.loop.call_later(_TAKE_TIMEOUT_S, self.transport.abort)

    def send_400_response(self, msg: str) -> None:
        answer = answer_for(Invalid(msg, code="invalid_http"))
        head = (
            f"HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\ncontent-length: {len(answer.body)}\r\n"
            f"x-request-id: {encode_id(REQUEST, new_id())}\r\nx-chappe-region: {self._region}\r\n"
            "connection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + answer.body)
        self.transport.close()

    def abort(self) -> None:
        self.transport.abort()

    def watch(self, on_leaving: Callable[[], None] | None) -> None:
        self._on_leaving = on_leaving
        if on_leaving is None:
            return
        # A long body may have paused it, and then nobody would notice.
        self.flow.resume_reading()
        if self._lost:
            on_leaving()

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
        cycle = self.cycle
        cycle.response_started = cycle.response_complete = True
        self.transport.write(b"%b\r\n%b" % (head, body))
        cycle.message_event.set()
        cycle.on_response()
        return True

    def begin_stream(self, scope: Any, head: bytes, data: bytes) -> bool:
        if not self._may_write(scope):
            return False
        self.cycle.response_started = self.cycle.chunked_encoding = True
        self.transport.write(b"%btransfer-encoding: chunked\r\n\r\n%x\r\n%b\r\n" % (head, len(data), data))
        return True

    def send_chunk(self, scope: Any, data: bytes) -> bool:
        if not self._may_go_on(scope):
            return False
        self.transport.write(b"%x\r\n%b\r\n" % (len(data), data))
        return True

    def end_stream(self, scope: Any, data: bytes) -> bool:
        cycle = self.cycle
        if not self._may_go_on(scope) or not cycle.keep_alive:
            return False
        cycle.response_complete = True
        self.transport.write(b"%x\r\n%b\r\n0\r\n\r\n" % (len(data), data))
        cycle.message_event.set()
        cycle.on_response()
        return True

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

    def _expect_head(self) -> None:
        self._head_timer = self.loop.call_later(_HEAD_TIMEOUT_S, self.transport.abort)

    def _head_arrived(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None


def create_server(gateway: Gateway) -> uvicorn.Server:
    """A server that is not running yet. SIGTERM lets streams finish for `drain_s` and then stops the gateway."""
    settings = gateway.settings
    protocol = partial(GatewayProtocol, region=settings.region, max_connections=settings.max_connections)
    return uvicorn.Server(
        uvicorn.Config(
            create_app(gateway),
            host=settings.host,
            port=settings.port,
            ssl_certfile=settings.tls_certificate or None,
            ssl_keyfile=settings.tls_key or None,
            ssl_ciphers=_TLS_1_2_CIPHERS,
            loop="uvloop",
            http=protocol,  # type: ignore[arg-type]  # it is only ever called
            ws="none",
            lifespan="on",
            access_log=False,
            log_config=None,
            server_header=False,
            # Nobody's word is taken for where a request comes from.
            proxy_headers=False,
            timeout_keep_alive=_KEEP_ALIVE_S,
            timeout_graceful_shutdown=int(settings.drain_s),
            backlog=2048,
        )
    )
