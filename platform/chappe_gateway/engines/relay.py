"""From the engine to the client: an answer in one piece or a stream, either settled before its last bytes."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

import msgspec
import structlog

from chappe_gateway.admission import Admitted
from chappe_gateway.dialects.dialect import Dialect, Telling
from chappe_gateway.edge.call import JSON, WITHDRAWN, Call, ClientGone
from chappe_gateway.edge.errors import EngineFailed
from chappe_gateway.engines.engine_calls import Answered, MakeRequest, Verb, open_exchange, release
from chappe_gateway.engines.events import BadStream, EngineEvents, decode_end
from chappe_gateway.engines.upstream import Exchange, UpstreamLost
from chappe_gateway.gateway import Gateway
from chappe_gateway.limits.repeats import Answer
from chappe_gateway.usage.settlement import Ending, begin_settling
from chappe_kernel.errors import ChappeError, Invalid, LimitExceeded, Unavailable
from chappe_kernel.fairness.counters import cost_of
from chappe_kernel.wire.control import UsageEvent
from chappe_kernel.wire.engine import END_HEADER, End, Start

_log = structlog.get_logger()

MAX_ANSWER_BYTES = 64 * 1024 * 1024
_END_HEADER = END_HEADER.encode()
_EVENT_STREAM = b"text/event-stream; charset=utf-8"
_STREAM_HEADERS = [
    (b"content-type", _EVENT_STREAM),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
]
_RELEASE_S = 1.0
# The client's own mistake, or no room for it.
_NOTHING_SERVED = (Invalid, LimitExceeded)
_DONE = b"data: [DONE]\n\n"


class Work(msgspec.Struct, frozen=True):
    """What an admitted request asks of its engine."""

    verb: Verb
    make_request: MakeRequest
    include_usage: bool = False
    dialect: Dialect | None = None
    """Which API's words the answer is told in; None for OpenAI's chat completions and embeddings: the engine's own."""


class _ChunkHead(msgspec.Struct):
    """What the usage chunk has in common with the others."""

    id: str = ""
    created: int = 0
    model: str = ""
    system_fingerprint: str | msgspec.UnsetType | None = msgspec.UNSET


async def relay_answer(gateway: Gateway, call: Call, admitted: Admitted, work: Work) -> None:
    """An answer in one piece. Raises what the client is to be told: then nothing was charged, and nothing sent."""
    call.watch_client()
    answered = Answered()
    end: End | None = None
    body = b""
    failure: ChappeError | None = None
    try:
        if (waiting := _take_turn(gateway, call, admitted)) is not None:
            await waiting
        exchange = await open_exchange(
            gateway, call, admitted.offer.deployment, work.verb, make_request=work.make_request, answered=answered
        )
        body = await exchange.read_all(MAX_ANSWER_BYTES)
        last_word = _completed(exchange)
        if work.dialect is not None:
            body = work.dialect.whole(body, last_word)
        if call.keep is not None:
            await call.keep(body, last_word)
        end = last_word
        release(gateway, call, exchange)
    except (UpstreamLost, BadStream):
        failure = lost(call)
    except ChappeError as refusal:
        failure = refusal
    finally:
        call.abort_exchange()
        gone = call.gone and end is None
        ending = Ending(
            answered.attempt,
            None,
            end,
            0,
            client_gone=gone,
            withdrawn=call.cut == WITHDRAWN,
            refused=isinstance(failure, _NOTHING_SERVED),
            answer=lambda _: Answer(call.public_id, JSON[1], body),
        )
        tell = None if failure is not None else lambda _: call.complete_at_once(body)
        settling = begin_settling(gateway, call, admitted, ending, tell)
    if call.gone and end is None:
        # Settling waits for the engine's record; nobody waits for us.
        raise ClientGone
    await settling
    if failure is not None:
        raise failure
    if not call.answered:
        await call.complete(body)


async def relay_stream(gateway: Gateway, call: Call, admitted: Admitted, work: Work) -> None:
    """A stream of events. Raises what the client is to be told as long as nothing was sent; later it is an event."""
    call.watch_client()
    stream = _Stream(gateway, call, admitted, work)
    failure: ChappeError | None = None
    try:
        await stream.run()
    except (UpstreamLost, BadStream):
        failure = lost(call)
    except ChappeError as refusal:
        failure = refusal
    finally:
        call.abort_exchange()
        ending = stream.ending(refused=isinstance(failure, _NOTHING_SERVED))
        settling = begin_settling(gateway, call, admitted, ending, stream.finish_at_once if failure is None else None)
    if failure is None and not stream.is_complete():
        failure = EngineFailed("the engine broke off")
    if call.gone:
        raise ClientGone
    if failure is not None and call.response_started:
        await call.send_body(stream.failure(failure), more=True)
    event: UsageEvent | None = await settling
    if call.answered:
        return
    if failure is not None and not call.response_started:
        raise failure
    if failure is None and event is not None:
        await stream.finish(event)
    else:
        await call.send_body(b"", more=False)


class _Stream:
    """One stream's way from its engine's first event to `chappe.end`."""

    def __init__(self, gateway: Gateway, call: Call, admitted: Admitted, work: Work) -> None:
        self._gateway = gateway
        self._call = call
        self._admitted = admitted
        self._work = work
        self._told = None if work.dialect is None else work.dialect.stream()
        self._last: bytes | None = None
        self._events = EngineEvents()
        self._answered = Answered()
        self._first_text_at: float | None = None
        self._chunk_head = _ChunkHead()
        self._gone_before_end = False
        self._loop = asyncio.get_running_loop()
        self._held = b""
        """What may pass on, and could not at once."""

    async def run(self) -> None:
        """Relay until the end mark, or until the engine's stream stops without one."""
        if (waiting := _take_turn(self._gateway, self._call, self._admitted)) is not None:
            await waiting
        exchange = await open_exchange(
            self._gateway,
            self._call,
            self._admitted.offer.deployment,
            self._work.verb,
            make_request=self._work.make_request,
            answered=self._answered,
        )
        try:
            await self._relay(exchange)
            if self._call.keep is not None:
                await self._keep(self._call.keep)
        finally:
            self._gone_before_end = self._call.gone and self._events.end is None
            self._drain(exchange)
            if self._events.end is None and not (self._call.gone or self._call.cut):
                self._gateway.breakers.failed(self._admitted.offer.deployment)
        if self._events.end is not None and not self._call.gone:
            self._call.exchange = None
            if exchange.complete:
                self._gateway.engines.release(exchange)
            else:
                self._gateway.settle_apart(_release_after_end(self._gateway, exchange))

    def is_complete(self) -> bool:
        """Whether the engine said that it finished its work."""
        return self._events.end is not None and self._events.end.outcome == "completed"

    def ending(self, *, refused: bool) -> Ending:
        return Ending(
            attempt=self._answered.attempt,
            start=self._events.start,
            end=self._events.end,
            delivered_chunks=self._events.text_chunks,
            client_gone=self._gone_before_end or (self._call.gone and self._events.end is None),
            withdrawn=self._call.cut == WITHDRAWN,
            first_text_at=self._first_text_at,
            refused=refused,
            answer=self._whole_answer,
        )

    async def finish(self, event: UsageEvent) -> None:
        """The last bytes: what came with the end, the usage if it was asked for, and that it is done."""
        data = self._all_that_is_left(event)
        if self._call.response_started:
            await self._call.send_body(data, more=False)
        else:
            await self._call.begin_stream(_STREAM_HEADERS, data, more=False)

    def finish_at_once(self, event: UsageEvent) -> None:
        """`finish`, if that needs no waiting."""
        data = self._all_that_is_left(event)
        if not data:
            return
        if self._call.response_started:
            self._call.end_at_once(data)
        else:
            self._call.begin_stream_at_once(_STREAM_HEADERS, data, more=False)

    def failure(self, error: ChappeError) -> bytes:
        """The event that tells what broke the stream off."""
        if self._told is not None:
            return self._told.failure(error)
        return b"data: " + self._call.error_answer(error).body + b"\n\n"

    def _all_that_is_left(self, event: UsageEvent) -> bytes:
        if not self._call.response_started:
            self._note_chunk_head(self._held)
        return self._held + self._last_bytes(event)

    def _last_bytes(self, event: UsageEvent) -> bytes:
        if self._told is not None and self._events.end is not None:
            # Once: it may be kept for a repeat and then sent, and events are numbered.
            if self._last is None:
                self._last = self._told.last(event, self._events.end)
            return self._last
        if not self._work.include_usage:
            return _DONE
        return b"data: " + msgspec.json.encode(_usage_chunk(self._chunk_head, event)) + b"\n\n" + _DONE

    def _whole_answer(self, event: UsageEvent) -> Answer:
        parts = [] if self._call.claim is None else self._call.claim.parts
        return Answer(self._call.public_id, _EVENT_STREAM, b"".join([*parts, self._last_bytes(event)]))

    async def _relay(self, exchange: Exchange) -> None:
        call = self._call
        while not self._is_over():
            call.reading_since = self._loop.time()
            await exchange.pass_to(self._pass_on)
            call.reading_since = None
            if call.gone or self._goes_with_last_bytes() or not self._held:
                return
            held, self._held = self._held, b""
            if call.response_started:
                await call.send_body(held, more=True)
            else:
                await self._begin(held)

    def _is_over(self) -> bool:
        return self._events.end is not None or self._call.gone

    def _pass_on(self, data: bytes) -> bool:
        """What has arrived goes on to the client; whether more may come at once. Otherwise the end was read, or what is
        held has to be waited for."""
        call, events = self._call, self._events
        if call.gone:
            return False
        if call.cut == WITHDRAWN:
            # What had arrived by then is charged, and not delivered.
            raise UpstreamLost("the call was cut")
        call.reading_since = self._loop.time()
        delivered = events.text_chunks
        passing = events.feed(data)
        if self._told is not None and events.start is not None:
            passing = self._tell(self._told, passing, events.start, delivered)
        if passing:
            if self._first_text_at is None and events.has_text:
                self._first_text_at = self._gateway.clock.monotonic()
                self._gateway.turns.first_token(call, 0 if events.start is None else events.start.prompt_tokens)
            if call.claim is not None:
                call.claim.add(passing)
            is_held = events.end is not None and self._goes_with_last_bytes()
            if is_held or not (call.response_started and call.send_at_once(passing)):
                self._held = passing
                return False
        return events.end is None

    def _goes_with_last_bytes(self) -> bool:
        """Whether the answer is all here and nobody else is to be asked, so that what came with its end is sent when
        it is settled, in one piece with what the gateway adds: as a whole answer is."""
        return self.is_complete() and self._call.keep is None and self._call.claim is None

    def _tell(self, told: Telling, passing: bytes, start: Start, delivered: int) -> bytes:
        try:
            return told.events(passing, start)
        except BadStream:
            # The client does not get it: it must not be charged, nor as complete, even if the end is here already.
            self._events.end = None
            self._events.text_chunks = delivered
            raise

    async def _keep(self, keep: Callable[[bytes, End], Awaitable[None]]) -> None:
        if self._events.end is None or not self.is_complete() or self._call.gone:
            return
        try:
            await keep(b"", self._events.end)
        except ChappeError:
            # As above: whoever asked for it to be kept has not got what it asked for.
            self._events.end = None
            raise

    async def _begin(self, events: bytes) -> None:
        self._note_chunk_head(events)
        await self._call.begin_stream(_STREAM_HEADERS, events, more=True)

    def _note_chunk_head(self, first_events: bytes) -> None:
        if self._work.include_usage:
            self._chunk_head = _read_chunk_head(first_events)

    def _drain(self, exchange: Exchange) -> None:
        """A client that left does not make us forget an end mark that is already here."""
        if self._events.end is None and self._call.gone:
            delivered = self._events.text_chunks
            try:
                self._events.feed(exchange.take_buffered())
            except BadStream:
                _log.warning("engine_stream_bad", request_id=self._call.public_id)
            self._events.text_chunks = delivered


async def _release_after_end(gateway: Gateway, exchange: Exchange) -> None:
    """Nothing but the end of the body follows the end mark; then the connection can serve again."""
    with contextlib.suppress(UpstreamLost, TimeoutError):
        async with asyncio.timeout(_RELEASE_S):
            while await exchange.read():
                pass
    gateway.engines.release(exchange)


def _take_turn(gateway: Gateway, call: Call, admitted: Admitted) -> Awaitable[None] | None:
    """What to wait for, if there is no room. Raises `LimitExceeded`, and `UpstreamLost` when the call has ended
    meanwhile."""
    bounds = admitted.bounds
    cost = cost_of(bounds.prompt_tokens, bounds.completion_tokens)
    waiting = gateway.turns.take(call, admitted.visitor.facts, admitted.offer.deployment, cost)
    return None if waiting is None else _wait_for_turn(call, waiting)


async def _wait_for_turn(call: Call, waiting: Awaitable[None]) -> None:
    await waiting
    if call.gone or call.cut:
        raise UpstreamLost("the call ended as its turn came")


def _completed(exchange: Exchange) -> End:
    """The end of a whole answer. Raises `EngineFailed` when the engine does not say that it finished."""
    end = decode_end(exchange.headers.get(_END_HEADER))
    if end is None or end.outcome != "completed":
        raise EngineFailed("the engine failed; nothing was charged")
    return end


def lost(call: Call) -> ChappeError:
    """What to tell a client whose engine, or other region, was lost."""
    match call.cut:
        case "settle_by":
            return Unavailable("the answer took too long and was cut off", code="time_limit")
        case "idle":
            return EngineFailed("the engine fell silent")
        case "stale":
            return Unavailable("this gateway has no recent word from its control plane", code="snapshot_too_old")
        case "unconfirmed":
            return Unavailable("nobody could say whether this key is still good", code="key_lookup_unavailable")
        case _ if call.refusal is not None:
            return call.refusal
        case _:
            return EngineFailed("the engine cannot be reached, or broke off")


def _read_chunk_head(events: bytes) -> _ChunkHead:
    for event in events.split(b"\n\n"):
        if event.startswith(b"data: "):
            try:
                return msgspec.json.decode(event[len(b"data: ") :], type=_ChunkHead)
            except (msgspec.DecodeError, UnicodeDecodeError):
                break
    return _ChunkHead()


def _usage_chunk(head: _ChunkHead, event: UsageEvent) -> dict[str, object]:
    counts = event.counts
    chunk: dict[str, object] = {
        "id": head.id,
        "object": "chat.completion.chunk",
        "created": head.created,
        "model": head.model,
        "choices": [],
        "usage": {
            "prompt_tokens": counts.prompt_tokens,
            "completion_tokens": counts.completion_tokens,
            "total_tokens": counts.prompt_tokens + counts.completion_tokens,
            "prompt_tokens_details": {"cached_tokens": counts.cached_tokens},
        },
    }
    if head.system_fingerprint is not msgspec.UNSET:
        chunk["system_fingerprint"] = head.system_fingerprint
    return chunk
