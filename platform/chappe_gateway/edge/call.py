"""One client's request on its way through the gateway: its name, its body, whether the client still listens."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from chappe_gateway.edge.errors import ErrorAnswer, Headers, WrongMediaType, WrongMethod, answer_for
from chappe_gateway.limits.repeats import Answer, Claim
from chappe_kernel.clock import Clock
from chappe_kernel.errors import ChappeError, Invalid, TooLarge
from chappe_kernel.ids import REQUEST, RequestId, encode_id, new_id
from chappe_kernel.trace_context import TraceContext
from chappe_kernel.wire.control import KeyFacts, Listing, ResolveKey
from chappe_kernel.wire.peer import PEER_HEADER, Ticket

if TYPE_CHECKING:
    from chappe_gateway.turns.turns import Turn
    from chappe_kernel.wire.engine import End

Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]

JSON: tuple[bytes, bytes] = (b"content-type", b"application/json")
CLOSE: tuple[bytes, bytes] = (b"connection", b"close")
WITHDRAWN = "withdrawn"
CONNECTION_EXTENSION = "chappe.connection"
"""The key in the scope's `extensions` of the request's `Connection`."""
# The client gets to read an answer that comes before it has sent its body; closing at once would reset the connection.
_LINGER_S = 0.3
_PEER_SILENCE_S = 10.0
_LEFT_WORD_S = 2.0


class Abortable(Protocol):
    """What a call waits for: its engine, or its turn."""

    def abort(self) -> None: ...


class Connection(Protocol):
    """What ASGI cannot do, or only in several steps: the server's own connection to the client."""

    def abort(self) -> None:
        """Close it at once."""
        ...

    def has_shown_certificate(self) -> bool:
        """Whether who is at its other end has one that those sign whom we trust to sign for peers."""
        ...

    def watch(self, on_leaving: Callable[[], None]) -> None:
        """Call this when the client leaves, at once if it has left."""
        ...

    def unwatch(self, on_leaving: Callable[[], None]) -> None:
        """No more. What a later request on the same connection watches with stays."""
        ...

    def take_body(self, scope: Any) -> bytes | None:
        """The whole body, if it is all there."""
        ...

    def answer(self, scope: Any, head: bytes, body: bytes) -> bool:
        """Send a whole answer of known length; False if it has to be sent by way of ASGI."""
        ...

    def begin_stream(self, scope: Any, head: bytes, data: bytes, *, more: bool) -> bool:
        """Send the head of an answer of unknown length, and its first bytes or all; False as above."""
        ...

    def limit_silence(self, within_s: float) -> None:
        """End it when what was sent is not acknowledged for so long."""
        ...

    def send_chunk(self, scope: Any, data: bytes) -> bool:
        """Send more of an answer of unknown length; False as above, and while the client does not take it."""
        ...

    def end_stream(self, scope: Any, data: bytes) -> bool:
        """Send the last bytes of an answer of unknown length, at least one; False as above."""
        ...


class Call:
    """State of one request. Instants are monotonic seconds."""

    # Nearly every request leaves nearly all of these as they are here.
    extra_headers: Sequence[tuple[bytes, bytes]] = ()
    """Added to whatever answer goes out: the state of the rate limit."""
    edge_headers: Sequence[tuple[bytes, bytes]] = ()
    """Added likewise, for where the request came in: without those of CORS a browser would not show the portal's pages
    the answer, and Anthropic's clients look for `request-id`."""
    error_answer: Callable[[ChappeError], ErrorAnswer] = staticmethod(answer_for)
    """How the API through which it came says what went wrong."""
    gone = False
    """The client has disconnected, or stalled for too long."""
    cut: str | None = None
    """Why the gateway itself ended the engine's work: `settle_by`, `idle`, `stale`, `unconfirmed`, `withdrawn`."""
    refusal: ChappeError | None = None
    """What to tell the client whose right to go on was withdrawn."""
    facts: KeyFacts | None = None
    """What it runs by, once it is among those that run."""
    valid_until: float | None = None
    """When the time of its key or token is over."""
    listing: Listing | None = None
    """The model that it asks for, once that is known."""
    deployment: str | None = None
    """What it runs on, once it is admitted."""
    exchange: Abortable | None = None
    """What to close when the call ends before its time."""
    turn: "Turn | None" = None
    """Its place at its deployment, from when it asks for one until its engine is done."""
    queued_s = 0.0
    """What it waited for that place."""
    claim: Claim | None = None
    """Its `Idempotency-Key`, if it came with one."""
    keep: "Callable[[bytes, End], Awaitable[None]] | None" = None
    """Puts the answer (empty where it is a stream) where it will be asked for again, before it is settled and its last
    bytes are sent. What it raises, `Unavailable` alone, makes the request fail."""
    stand_in: ResolveKey | None = None
    """What it runs by in place of a secret: a line of a batch, whose client left long ago."""
    line_digest: bytes | None = None
    """Under which a line of a batch is charged once, however often it runs."""
    ticket: bytes | None = None
    """What came with it if another region's gateway says that it sent it; `forwarded` is set once that is proven."""
    forwarded: Ticket | None = None
    peer_said_left: asyncio.Event
    """Of a forwarded request only."""
    trace: TraceContext | None = None
    trace_parent: TraceContext | None = None
    """Its span, and its caller's; only while spans are exported."""
    response_started = False
    answered = False
    """All of it was sent, without a way over ASGI."""
    sending_since: float | None = None
    reading_since: float | None = None
    settle_by: float | None = None
    _is_watching = False

    def __init__(self, scope: Any, receive: Receive, send: Send, clock: Clock, region: str) -> None:
        self.id = RequestId(new_id())
        self.public_id = encode_id(REQUEST, self.id)
        self.region = region
        self.method: str = scope["method"]
        self.headers: Headers = scope["headers"]
        self.named = dict(self.headers)
        """To see what is not there, without looking at each. Of one that came twice it has the last value alone."""
        self.path: str = scope["path"]
        """What is left of it below the route, for a route that has resources below it."""
        self.query: bytes = scope["query_string"]
        client = scope["client"]
        self.peer: str | None = client[0] if client else None
        """The address at the other end of the connection; None on a unix socket."""
        self.started_at = clock.now()
        self.started = clock.monotonic()
        self._scope = scope
        self._connection: Connection = scope["extensions"][CONNECTION_EXTENSION]
        self._receive = receive
        self._send = send
        self._body_pending = False
        if self.named.get(b"content-length", b"0") != b"0" or b"transfer-encoding" in self.named:
            self._body_pending = True
        if PEER_HEADER in self.named:
            self.ticket = self.named[PEER_HEADER]

    @property
    def target(self) -> bytes:
        """Path and query as the client sent them."""
        path: bytes = self._scope["raw_path"]
        return path + b"?" + self.query if self.query else path

    @property
    def is_from_certified_peer(self) -> bool:
        """Whether the connection it came on is one of another region's gateway, whatever the request says."""
        return self._connection.has_shown_certificate()

    def notice_lost_network(self) -> None:
        """Whoever sends on for others is told when nobody takes what is sent, and not only when they hang up."""
        self._connection.limit_silence(_PEER_SILENCE_S)

    async def was_left(self) -> bool:
        """Whether the client itself has left, as its own gateway says; without its word the network between failed."""
        try:
            async with asyncio.timeout(_LEFT_WORD_S):
                await self.peer_said_left.wait()
        except TimeoutError:
            return False
        return True

    def forward_as(self, ticket: Ticket) -> None:
        """It has the id that it has at the gateway where its client is, and that client's address."""
        self.forwarded = ticket
        self.id = RequestId(ticket.id)
        self.public_id = encode_id(REQUEST, self.id)
        self.peer = ticket.client
        self.peer_said_left = asyncio.Event()

    @property
    def charged_once_by(self) -> bytes | None:
        """What its charge is known by, if another run of the same must not be charged."""
        return self.line_digest if self.claim is None else self.claim.digest

    def keep_as_well(self, keep: "Callable[[bytes, End], Awaitable[None]]") -> None:
        """Before what it keeps already: a line of a batch names the response that it made."""
        later = self.keep
        if later is None:
            self.keep = keep
            return

        async def keep_both(body: bytes, end: "End") -> None:
            await keep(body, end)
            await later(body, end)

        self.keep = keep_both

    def expect_method(self, method: str) -> None:
        """Raises `WrongMethod`."""
        if self.method != method:
            raise WrongMethod(method)

    async def read_json_body(self, limit_bytes: int, timeout_s: float) -> bytes:
        """The body, bounded in size and time. Raises `TooLarge`, `Invalid`, `WrongMediaType`, `ClientGone`."""
        self._check_body_headers(limit_bytes)
        self._check_json()
        whole = self._connection.take_body(self._scope)
        if whole is not None:
            if len(whole) > limit_bytes:
                raise _too_large(limit_bytes)
            self._body_pending = False
            return whole
        parts = [part async for part in self._parts(limit_bytes, timeout_s)]
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def read_parts(self, limit_bytes: int, timeout_s: float) -> AsyncIterator[bytes]:
        """A body of any type as it comes, bounded in size and time. Raises `TooLarge`, `Invalid`, `WrongMediaType`,
        `ClientGone`."""
        self._check_body_headers(limit_bytes)
        return self._parts(limit_bytes, timeout_s)

    async def _parts(self, limit_bytes: int, timeout_s: float) -> AsyncIterator[bytes]:
        give_up_at = asyncio.get_running_loop().time() + timeout_s
        size, more = 0, True
        while more:
            try:
                async with asyncio.timeout_at(give_up_at):
                    message = await self._receive()
            except TimeoutError:
                raise Invalid("the body did not arrive in time", code="body_timeout") from None
            if message["type"] == "http.disconnect":
                self.gone = True
                raise ClientGone
            part: bytes = message.get("body", b"")
            more = message.get("more_body", False)
            size += len(part)
            if size > limit_bytes:
                raise _too_large(limit_bytes)
            yield part
        self._body_pending = False

    def watch_client(self) -> None:
        """From now on notice when the client leaves, and close the engine's connection at once."""
        self._is_watching = True
        self._connection.watch(self._client_left)

    def stop_watching(self) -> None:
        """The answer is complete, or nobody is there."""
        if self._is_watching:
            self._is_watching = False
            self._connection.unwatch(self._client_left)

    def drop_client(self) -> None:
        """The client has stalled: it counts as disconnected, and its connection is closed at once."""
        self._client_left()
        self._connection.abort()

    def cut_engine(self, reason: str) -> None:
        """End the engine's work because of a limit of our own."""
        if self.cut is None:
            self.cut = reason
        self.abort_exchange()

    def withdraw(self, refusal: ChappeError) -> None:
        """The key may not do this any more: end the engine's work, and tell the client why."""
        if self.cut is None:
            self.refusal = refusal
        self.cut_engine(WITHDRAWN)

    def abort_exchange(self) -> None:
        """Close the engine's connection, if the call still has one: that is how the engine learns to stop."""
        if self.exchange is not None:
            self.exchange.abort()

    async def start(self, status: int, headers: Headers) -> None:
        """Send the head, with what every answer carries."""
        self.response_started = True
        await self._send(
            {
                "type": "http.response.start",
                "status": status,
                "headers": [
                    *headers,
                    *self.extra_headers,
                    *self.edge_headers,
                    (b"x-request-id", self.public_id.encode()),
                    (b"x-chappe-region", self.region.encode()),
                ],
            }
        )

    async def send_body(self, data: bytes, *, more: bool) -> None:
        """Send a part of the body. It waits while the client does not take what it was sent before."""
        if data and (self.send_at_once if more else self.end_at_once)(data):
            return
        self.sending_since = asyncio.get_running_loop().time()
        await self._send({"type": "http.response.body", "body": data, "more_body": more})
        self.sending_since = None

    def send_at_once(self, data: bytes) -> bool:
        """Send more of a stream, at least one byte; False when the client does not take it now."""
        return self._connection.send_chunk(self._scope, data)

    def end_at_once(self, data: bytes) -> bool:
        """Send the last bytes of a stream, at least one; False when the client does not take them now."""
        self.answered = self._connection.end_stream(self._scope, data)
        return self.answered

    async def respond(self, status: int, headers: Headers, body: bytes) -> None:
        """A whole answer. A body that was not read is not read any more: the connection closes."""
        headers = [JSON, (b"content-length", b"%d" % len(body)), *headers]
        if not self._body_pending:
            await self.start(status, headers)
            await self.send_body(body, more=False)
            return
        await self.start(status, [*headers, CLOSE])
        await self.send_body(body, more=True)
        await asyncio.sleep(_LINGER_S)
        await self.send_body(b"", more=False)

    async def complete(self, body: bytes) -> None:
        """The answer of a request that was served whole, in one piece."""
        if not self.complete_at_once(body):
            await self.respond(200, [], body)

    def complete_at_once(self, body: bytes) -> bool:
        """`complete` without waiting; False when that cannot be."""
        headers = [JSON, (b"content-length", b"%d" % len(body))]
        self.answered = self._connection.answer(self._scope, self._head(headers), body)
        self.response_started |= self.answered
        return self.answered

    async def begin_stream(self, headers: Headers, data: bytes, *, more: bool) -> None:
        """The head of a stream that is going well, and what it begins with, or all of it."""
        if not self.begin_stream_at_once(headers, data, more=more):
            await self.start(200, headers)
            await self.send_body(data, more=more)

    def begin_stream_at_once(self, headers: Headers, data: bytes, *, more: bool) -> bool:
        """`begin_stream` without waiting; False when that cannot be."""
        begun = self._connection.begin_stream(self._scope, self._head(headers), data, more=more)
        self.response_started |= begun
        self.answered = begun and not more
        return begun

    async def respond_again(self, answer: Answer) -> None:
        """What an earlier request with the same `Idempotency-Key` was answered; this one costs nothing."""
        headers = [
            (b"content-type", answer.content_type),
            (b"content-length", b"%d" % len(answer.body)),
            (b"idempotent-replayed", b"true"),
            (b"x-original-request-id", answer.request_id.encode()),
        ]
        await self.start(200, headers)
        await self.send_body(answer.body, more=False)

    async def respond_error(self, error: ChappeError) -> None:
        """An answer for an expected failure."""
        answer = self.error_answer(error)
        await self.respond(answer.status, answer.headers, answer.body)

    def _head(self, own: Headers) -> bytes:
        """Status 200, and what every answer carries. Nothing in it is a client's, so no line can be forged."""
        lines = [b"HTTP/1.1 200 OK\r\n"]
        for headers in (own, self.extra_headers, self.edge_headers):
            for name, value in headers:
                lines += (name, b": ", value, b"\r\n")
        lines.append(b"x-request-id: %b\r\nx-chappe-region: %b\r\n" % (self.public_id.encode(), self.region.encode()))
        return b"".join(lines)

    def _check_body_headers(self, limit_bytes: int) -> None:
        for name, value in self.headers:
            if name == b"content-length" and int(value) > limit_bytes:
                raise _too_large(limit_bytes)
            if name == b"content-encoding" and value.lower() not in (b"identity", b""):
                raise WrongMediaType("a compressed body is not accepted", param="content-encoding")

    def _check_json(self) -> None:
        for name, value in self.headers:
            if name == b"content-type" and value != JSON[1] and not _is_json(value):
                raise WrongMediaType("the body must be application/json", param="content-type")

    def _client_left(self) -> None:
        self.gone = True
        self.abort_exchange()


class ClientGone(Exception):
    """Nobody waits for an answer any more."""


def _is_json(content_type: bytes) -> bool:
    kind = content_type.partition(b";")[0].strip().lower()
    return kind == b"application/json" or (kind.startswith(b"application/") and kind.endswith(b"+json"))


def _too_large(limit_bytes: int) -> TooLarge:
    return TooLarge(f"the body is over the limit of {limit_bytes} bytes")
