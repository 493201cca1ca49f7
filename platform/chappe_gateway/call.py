"""One client's request on its way through the gateway: its name, its body, whether the client still listens."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from chappe_gateway.errors import ErrorAnswer, Headers, WrongMediaType, WrongMethod, answer_for
from chappe_gateway.upstream import Exchange
from chappe_kernel.clock import Clock
from chappe_kernel.errors import ChappeError, Invalid, TooLarge
from chappe_kernel.ids import REQUEST, RequestId, encode_id, new_id
from chappe_kernel.wire.control import KeyFacts, Listing

Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]

JSON: tuple[bytes, bytes] = (b"content-type", b"application/json")
CLOSE: tuple[bytes, bytes] = (b"connection", b"close")
WITHDRAWN = "withdrawn"
ABORT_EXTENSION = "chappe.abort"
"""The key in the scope's `extensions` of a function that closes the client's connection at once."""
# The client gets to read an answer that comes before it has sent its body; closing at once would reset the connection.
_LINGER_S = 0.3


class Call:
    """State of one request. Instants are monotonic seconds."""

    __slots__ = (
        "_abort_client",
        "_body_pending",
        "_receive",
        "_send",
        "_watcher",
        "cors_headers",
        "cut",
        "deployment",
        "exchange",
        "extra_headers",
        "facts",
        "gone",
        "headers",
        "id",
        "listing",
        "method",
        "path",
        "peer",
        "public_id",
        "reading_since",
        "refusal",
        "region",
        "response_started",
        "sending_since",
        "settle_by",
        "started",
        "started_at",
        "valid_until",
    )

    def __init__(self, scope: Any, receive: Receive, send: Send, clock: Clock, region: str) -> None:
        self.id = RequestId(new_id())
        self.public_id = encode_id(REQUEST, self.id)
        self.region = region
        self.method: str = scope["method"]
        self.headers: Headers = scope["headers"]
        self.path: str = scope["path"]
        """What is left of it below the route, for a route that has resources below it."""
        client = scope.get("client")
        self.peer: str | None = client[0] if client else None
        """The address at the other end of the connection; None on a unix socket."""
        self.started_at = clock.now()
        self.started = clock.monotonic()
        self.extra_headers: Headers = []
        """Added to whatever answer goes out: the state of the rate limit."""
        self.cors_headers: Headers = []
        """Added likewise when a page of the portal asks: without them its browser would not show it the answer."""
        self.gone = False
        """The client has disconnected, or stalled for too long."""
        self.cut: str | None = None
        """Why the gateway itself ended the engine's work: `settle_by`, `idle`, `stale`, `unconfirmed`, `withdrawn`."""
        self.refusal: ChappeError | None = None
        """What to tell the client whose right to go on was withdrawn."""
        self.facts: KeyFacts | None = None
        """What it runs by, once it is among those that run."""
        self.valid_until: float | None = None
        """Monotonic: when the time of its key or token is over."""
        self.listing: Listing | None = None
        """The model that it asks for, once that is known."""
        self.deployment: str | None = None
        """What it runs on, once it is admitted."""
        self.exchange: Exchange | None = None
        self.response_started = False
        self.sending_since: float | None = None
        self.reading_since: float | None = None
        self.settle_by: float | None = None
        self._receive = receive
        self._send = send
        self._abort_client: Callable[[], None] | None = (scope.get("extensions") or {}).get(ABORT_EXTENSION)
        self._body_pending = any(
            name == b"transfer-encoding" or (name == b"content-length" and value != b"0")
            for name, value in self.headers
        )
        self._watcher: asyncio.Task[None] | None = None

    def expect_method(self, method: str) -> None:
        """Raises `WrongMethod`."""
        if self.method != method:
            raise WrongMethod(method)

    async def read_json_body(self, limit_bytes: int, timeout_s: float) -> bytes:
        """The body, bounded in size and time. Raises `TooLarge`, `Invalid`, `WrongMediaType`, `ClientGone`."""
        self._check_body_headers(limit_bytes)
        parts: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(timeout_s):
                more = True
                while more:
                    message = await self._receive()
                    if message["type"] == "http.disconnect":
                        self.gone = True
                        raise ClientGone
                    part = message.get("body", b"")
                    more = message.get("more_body", False)
                    size += len(part)
                    if size > limit_bytes:
                        raise _too_large(limit_bytes)
                    parts.append(part)
        except TimeoutError:
            raise Invalid("the body did not arrive in time", code="body_timeout") from None
        self._body_pending = False
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def watch_client(self) -> None:
        """From now on notice when the client leaves, and close the engine's connection at once."""
        self._watcher = asyncio.create_task(self._wait_for_disconnect())

    def stop_watching(self) -> None:
        """The answer is complete, or nobody is there."""
        if self._watcher is not None:
            self._watcher.cancel()
            self._watcher = None

    def drop_client(self) -> None:
        """The client has stalled: it counts as disconnected, and its connection is closed at once."""
        self._client_left()
        if self._abort_client is not None:
            self._abort_client()

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
                    *self.cors_headers,
                    (b"x-request-id", self.public_id.encode()),
                    (b"x-chappe-region", self.region.encode()),
                ],
            }
        )

    async def send_body(self, data: bytes, *, more: bool) -> None:
        """Send a part of the body. It waits while the client does not take what it was sent before."""
        self.sending_since = asyncio.get_running_loop().time()
        await self._send({"type": "http.response.body", "body": data, "more_body": more})
        self.sending_since = None

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

    async def respond_error(self, error: ChappeError) -> None:
        """An answer for an expected failure."""
        answer: ErrorAnswer = answer_for(error)
        await self.respond(answer.status, answer.headers, answer.body)

    def _check_body_headers(self, limit_bytes: int) -> None:
        for name, value in self.headers:
            if name == b"content-length" and int(value) > limit_bytes:
                raise _too_large(limit_bytes)
            if name == b"content-encoding" and value.lower() not in (b"identity", b""):
                raise WrongMediaType("a compressed body is not accepted", param="content-encoding")
            if name == b"content-type" and not _is_json(value):
                raise WrongMediaType("the body must be application/json", param="content-type")

    async def _wait_for_disconnect(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._client_left()

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
