"""A request whose model runs only in another allowed region: this gateway routes it there, and does nothing else.

The gateway there decides residency, limits, holds, prices and the record, all of it anew, under the id that the request
has here. Another region is tried only if connecting failed, or if the answer says that nothing was begun. What has
begun is relayed with its client's pace; a client that leaves closes the connection there.
"""

import asyncio
import contextlib
from collections.abc import Callable
from hashlib import sha256

import structlog

from chappe_gateway.access.rights import Visitor
from chappe_gateway.admission import Bounds, RunsElsewhere
from chappe_gateway.edge.call import WITHDRAWN, Call, ClientGone
from chappe_gateway.edge.errors import Headers
from chappe_gateway.engines.relay import MAX_ANSWER_BYTES, lost
from chappe_gateway.engines.upstream import Exchange, UpstreamLost
from chappe_gateway.gateway import Gateway
from chappe_kernel.errors import ChappeError, Denied, Unavailable
from chappe_kernel.ids import new_id
from chappe_kernel.routing import rank
from chappe_kernel.trace_context import read_trace
from chappe_kernel.wire.peer import NOT_ADMITTED_HEADER, PEER_HEADER, STATUS_PATH, Ticket

_log = structlog.get_logger()

TellFailure = Callable[[ChappeError], bytes]
"""The event that ends a stream which broke off."""

_PASSED_ON = frozenset(
    {
        b"authorization",
        b"api-key",
        b"x-api-key",
        b"content-type",
        b"origin",
        b"x-chappe-region",
        b"x-chappe-priority",
        b"idempotency-key",
        b"anthropic-version",
        b"anthropic-beta",
    }
)
"""What a client says that its answer depends on. Nothing else of it travels."""
_PASSED_BACK = frozenset(
    {
        b"content-type",
        b"cache-control",
        b"x-accel-buffering",
        b"retry-after",
        b"x-should-retry",
        b"idempotent-replayed",
        b"x-original-request-id",
        b"www-authenticate",
        *(
            f"x-ratelimit-{what}-{unit}".encode()
            for what in ("limit", "remaining", "reset")
            for unit in ("requests", "tokens")
        ),
    }
)
_IDEMPOTENCY_KEY = b"idempotency-key"
_EVENT_STREAM = b"text/event-stream"
_BOUNDARY = b"\n\n"
_UNAVAILABLE = 503
_TELL_LEFT_S = 1.5
_MAX_EVENT_BYTES = 1024 * 1024


async def forward(
    gateway: Gateway,
    call: Call,
    visitor: Visitor,
    elsewhere: RunsElsewhere,
    *,
    body: bytes,
    failure: TellFailure | None = None,
) -> None:
    """Let another region answer. Raises what the client is to be told: without a region that can be reached it is what
    `elsewhere` says. `failure` is how its dialect ends a stream that broke off."""
    if call.forwarded is not None:
        raise elsewhere.instead
    gateway.enter(call)
    try:
        await _Forwarding(gateway, call, elsewhere, body, failure).run(visitor)
    finally:
        call.abort_exchange()
        gateway.leave(call)


class _Forwarding:
    """One request's way through other regions."""

    def __init__(
        self, gateway: Gateway, call: Call, elsewhere: RunsElsewhere, body: bytes, failure: TellFailure | None
    ) -> None:
        self._gateway = gateway
        self._call = call
        self._elsewhere = elsewhere
        self._body = body
        self._failure = failure or self._own_failure
        self._digest = sha256(body).digest()
        self._was_refused = False
        """A region that has the model, and is allowed, could not take it."""

    async def run(self, visitor: Visitor) -> None:
        call = self._call
        call.listing = self._elsewhere.listing
        call.watch_client()
        tried: set[str] = set()
        while True:
            # Each time anew: what the key may do, and what is known of the regions, may have changed meanwhile.
            visitor = await self._gateway.rights.settle_in(call, visitor)
            region = self._next(visitor, tried)
            if region is None:
                raise self._unreached()
            tried.add(region)
            exchange = await self._send(region)
            if exchange is None:
                continue
            if NOT_ADMITTED_HEADER in exchange.headers:
                self._count(region, "not_admitted")
                self._was_refused |= exchange.status == _UNAVAILABLE
                await self._drop(region, exchange)
                continue
            self._gateway.peers.breakers.succeeded(region)
            await self._relay(region, exchange)
            return

    def _next(self, visitor: Visitor, tried: set[str]) -> str | None:
        listing, gateway = self._elsewhere.listing, self._gateway
        bounds = Bounds(
            min(listing.context_tokens, len(self._body) + listing.template_tokens), listing.default_output_tokens
        )
        candidates = gateway.peers.candidates(
            visitor.view, listing, prompt_tokens=bounds.prompt_tokens, completion_tokens=bounds.completion_tokens
        )
        if gateway.settings.region not in visitor.allowed:
            raise Denied("this request may not run here any more", code="residency_denied")
        ranked = rank(visitor.allowed, candidates)
        if any(name == _IDEMPOTENCY_KEY for name, _ in self._call.headers):
            # A key is known in its region: its repeat must find the same one, whatever is quicker now.
            ranked = tuple(region for region in visitor.allowed if region in ranked)
        return next((region for region in ranked if region not in tried), None)

    async def _send(self, region: str) -> Exchange | None:
        """An exchange with its head; None when connecting failed. Raises what the client is to be told."""
        gateway, call = self._gateway, self._call
        client = gateway.peers.client(region)
        if client is None or not gateway.peers.breakers.take(region):
            return None
        head, path = self._head(region), call.target
        try:
            exchange = await client.send(b"POST", path, head, self._body)
        except UpstreamLost:
            self._failed(region, "unreachable")
            return None
        call.exchange = exchange
        if call.gone or call.cut:
            exchange.abort()
        try:
            call.reading_since = _loop_time()
            await exchange.head()
        except UpstreamLost:
            self._failed(region, "broken_off")
            raise self._broken_off(region) from None
        finally:
            call.reading_since = None
        return exchange

    def _head(self, region: str) -> bytes:
        gateway, call = self._gateway, self._call
        ticket = Ticket(call.id, gateway.settings.region, region, gateway.rights.address_of(call), self._digest)
        lines = [b"%b: %b\r\n" % (name, value) for name, value in call.headers if name in _PASSED_ON]
        # As it came: the span is that of the gateway where it runs.
        trace = read_trace(call.headers)
        if trace is not None:
            lines.append(trace.lines())
        return b"".join([*lines, b"%b: %b\r\n" % (PEER_HEADER, gateway.peers.seal.seal(ticket))])

    async def _relay(self, region: str, exchange: Exchange) -> None:
        call = self._call
        call.region = region
        headers = [(name, value) for name, value in exchange.headers.items() if name in _PASSED_BACK]
        try:
            if exchange.headers.get(b"content-type", b"").startswith(_EVENT_STREAM):
                await self._relay_stream(exchange, headers)
            else:
                await self._relay_whole(exchange, headers)
        except UpstreamLost:
            self._failed(region, "broken_off")
            broken = self._broken_off(region)
            if not call.response_started:
                raise broken from None
            await call.send_body(self._failure(broken), more=True)
            await call.send_body(b"", more=False)
        else:
            self._count(region, "answered")
            call.exchange = None
            self._release(region, exchange)

    async def _relay_whole(self, exchange: Exchange, headers: Headers) -> None:
        call = self._call
        call.reading_since = _loop_time()
        body = await exchange.read_all(MAX_ANSWER_BYTES)
        call.reading_since = None
        await call.start(exchange.status, [*headers, (b"content-length", b"%d" % len(body))])
        await call.send_body(body, more=False)

    async def _relay_stream(self, exchange: Exchange, headers: Headers) -> None:
        """Whole events only, so that an error can stand after any of them."""
        call, tail = self._call, b""
        await call.start(exchange.status, headers)
        while True:
            call.reading_since = _loop_time()
            data = await exchange.read()
            call.reading_since = None
            if call.cut:
                raise UpstreamLost("the call was cut")
            if not data:
                break
            data = tail + data if tail else data
            cut = data.rfind(_BOUNDARY) + len(_BOUNDARY)
            cut = 0 if cut < len(_BOUNDARY) else cut
            data, tail = data[:cut], data[cut:]
            if len(tail) > _MAX_EVENT_BYTES:
                exchange.abort()
                raise UpstreamLost("an event is too long")
            if data:
                await call.send_body(data, more=True)
        await call.send_body(tail, more=False)

    async def _drop(self, region: str, exchange: Exchange) -> None:
        """A refusal that the client does not see."""
        self._call.exchange = None
        try:
            await exchange.read_all(_MAX_EVENT_BYTES)
        except UpstreamLost:
            _log.info("peer_refusal_cut", region=region)
        # The gateway there lives: it is the request that it does not take.
        self._gateway.peers.breakers.succeeded(region)
        self._release(region, exchange)

    def _release(self, region: str, exchange: Exchange) -> None:
        client = self._gateway.peers.client(region)
        if client is None:
            exchange.abort()
        else:
            client.release(exchange)

    def _failed(self, region: str, result: str) -> None:
        if self._call.gone or self._call.cut:
            self._gateway.peers.breakers.forget(region)
        else:
            self._gateway.peers.breakers.failed(region)
        self._count(region, result)

    def _broken_off(self, region: str) -> ChappeError:
        """What to tell the client. Raises `ClientGone` when it is the client who ended it."""
        call = self._call
        if call.gone or call.cut == WITHDRAWN:
            self._gateway.settle_apart(self._tell_left(region))
        if call.gone:
            raise ClientGone
        if call.cut is not None:
            return lost(call)
        return Unavailable(f"the connection to {region} broke off", code="region_unavailable")

    async def _tell_left(self, region: str) -> None:
        """Without this word the other region takes it for a failure of ours, and charges as for one."""
        gateway, client = self._gateway, self._gateway.peers.client(region)
        ticket = Ticket(new_id(), gateway.settings.region, region, left=self._call.id)
        header = b"%b: %b\r\n" % (PEER_HEADER, gateway.peers.seal.seal(ticket))
        if client is not None:
            with contextlib.suppress(UpstreamLost, TimeoutError):
                await client.fetch(b"POST", STATUS_PATH, header, timeout_s=_TELL_LEFT_S)

    def _count(self, region: str, result: str) -> None:
        self._gateway.metrics.forwarded[region, result] += 1

    def _unreached(self) -> ChappeError:
        if not self._was_refused:
            return self._elsewhere.instead
        name = self._elsewhere.listing.name
        return Unavailable(f"no region where the model `{name}` runs can take it now", code="model_unavailable")

    def _own_failure(self, error: ChappeError) -> bytes:
        return b"data: " + self._call.error_answer(error).body + _BOUNDARY


def _loop_time() -> float:
    return asyncio.get_running_loop().time()
