"""The HTTP edge of one engine: `wire/engine.py` as a plain ASGI application. Prompts and answers are never logged."""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, TypeVar

import msgspec
import structlog

from chappe_kernel.errors import ChappeError, Invalid, NotFound, TooLarge, Unavailable
from chappe_kernel.rating import NO_COUNTS, Counts
from chappe_kernel.wire.engine import (
    END_HEADER,
    CountReply,
    CountRequest,
    EmbedRequest,
    End,
    EngineError,
    EngineRecord,
    GenerateRequest,
    Start,
)
from chappe_serving import openai_format
from chappe_serving.attempt_run import RECORD_EVERY_S, AttemptRun
from chappe_serving.bounds import CONTEXT_LENGTH_EXCEEDED
from chappe_serving.engine import ArgumentsDelta, CallBegun, Delta, EmbeddingEngine, Embeddings, GeneratingEngine, Next
from chappe_serving.engines.registry import AnyEngine
from chappe_serving.records import RecordWriter

_log = structlog.get_logger()

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
T = TypeVar("T")

MAX_BODY_BYTES = 4 * 1024 * 1024
"""The gateway's limit is lower; this one only bounds memory."""
_JSON = b"application/json"
_EVENT_STREAM = b"text/event-stream"
_STATUS_OK = 200


class Ingress:
    """One engine, already started. Call `drain` before the process ends."""

    def __init__(self, engine: AnyEngine, records: RecordWriter, *, record_every_s: float = RECORD_EVERY_S) -> None:
        self._engine = engine
        self._records = records
        self._record_every_s = record_every_s
        self._running: set[asyncio.Task[Any]] = set()

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
        elif scope["type"] == "http":
            await self._serve(scope, receive, send)

    async def drain(self) -> None:
        """Let every answer end and write its record; then free the engine."""
        await self._engine.drain()
        await asyncio.gather(*self._running, return_exceptions=True)
        await self._records.close()

    async def _serve(self, scope: Message, receive: Receive, send: Send) -> None:
        try:
            await self._route(scope, receive, send)
        except ChappeError as error:
            await _refuse(send, error)
        except ConnectionError:
            return  # the reader left while we wrote

    async def _route(self, scope: Message, receive: Receive, send: Send) -> None:
        # Serve mounts the application under its prefix; only the last part says what is asked.
        match scope["method"], scope["path"].rpartition("/")[2]:
            case "GET", "health":
                await _answer(send, _STATUS_OK, msgspec.json.encode(await self._engine.health()))
            case "POST", "count":
                counted = await self._engine.count_prompt(_decode(await _body(receive), CountRequest))
                await _answer(send, _STATUS_OK, msgspec.json.encode(CountReply(counted)))
            case "POST", "generate":
                await self._generate(_decode(await _body(receive), GenerateRequest), receive, send)
            case "POST", "embed":
                await self._embed(_decode(await _body(receive), EmbedRequest), receive, send)
            case _:
                raise NotFound("there is no such call", code="invalid_request")

    async def _generate(self, request: GenerateRequest, receive: Receive, send: Send) -> None:
        engine = self._engine
        if not isinstance(engine, GeneratingEngine):
            raise Invalid("this model does not generate text", param="model")
        for feature in request.needs:
            if feature not in engine.features:
                raise Invalid(f"this model does not support `{feature}`", param=feature)
        run = AttemptRun(engine, self._records, request, record_every_s=self._record_every_s)
        self._keep(run.task)
        watcher = asyncio.create_task(_on_disconnect(receive, run.abort))
        try:
            await (_stream if request.stream else _whole)(request, run, send)
        finally:
            # Reached by the end, a cancelled request (Serve's way to say that the client left) and a failed write.
            watcher.cancel()
            run.abort()

    async def _embed(self, request: EmbedRequest, receive: Receive, send: Send) -> None:
        engine = self._engine
        if not isinstance(engine, EmbeddingEngine):
            raise Invalid("this model makes no embeddings", param="model")
        task = asyncio.create_task(self._embed_and_record(engine, request))
        self._keep(task)

        def abort() -> None:
            engine.abort(request.request_id, request.attempt)

        watcher = asyncio.create_task(_on_disconnect(receive, abort))
        try:
            embeddings = await asyncio.shield(task)
        finally:
            watcher.cancel()
            abort()
        end = End("completed", Counts(embeddings.prompt_tokens, 0, 0))
        await _answer(send, _STATUS_OK, openai_format.embedding_list(request, embeddings), end=end)

    async def _embed_and_record(self, engine: EmbeddingEngine, request: EmbedRequest) -> Embeddings:
        embeddings = await engine.embed(request)
        end = End("completed", Counts(embeddings.prompt_tokens, 0, 0))
        await self._records.write(EngineRecord(request.request_id, request.attempt, end.counts, end, request.slip))
        return embeddings

    def _keep(self, task: "asyncio.Task[Any]") -> None:
        self._running.add(task)
        task.add_done_callback(self._forget)

    def _forget(self, task: "asyncio.Task[Any]") -> None:
        self._running.discard(task)
        if not task.cancelled():
            task.exception()  # looked at, so that nothing is logged of a refusal whose client has left


async def _stream(request: GenerateRequest, run: AttemptRun, send: Send) -> None:
    events = openai_format.ChatStream(request)
    begun = False
    async for event in run.events():
        match event:
            case Start():
                begun = True
                await _head(send, _STATUS_OK, _EVENT_STREAM)
                await _write(send, events.start(event))
            case Delta() | ArgumentsDelta():
                await _write(send, events.more(run.with_waiting(event)))
            case CallBegun() | Next():
                await _write(send, events.more(event))
            case End() if begun:
                await _write(send, events.end(event), more=False)
            case End():
                await _fail(send, event)


async def _whole(request: GenerateRequest, run: AttemptRun, send: Send) -> None:
    answer = openai_format.WholeAnswer(request)
    async for event in run.events():
        if isinstance(event, Delta | CallBegun | ArgumentsDelta | Next):
            answer.add(event)
        elif isinstance(event, End) and event.outcome == "completed":
            await _answer(send, _STATUS_OK, answer.end(event), end=event)
        elif isinstance(event, End):
            await _fail(send, event)


async def _fail(send: Send, end: End) -> None:
    """An end without an answer: the engine failed, or was aborted and nobody reads this."""
    error = EngineError("internal", "the engine did not finish the answer")
    await _answer(send, 500, msgspec.json.encode(error), end=end)


async def _refuse(send: Send, error: ChappeError) -> None:
    refusal, status = EngineError("internal", error.message, error.param), 500
    match error:
        case NotFound():
            refusal, status = EngineError("invalid_request", error.message, error.param), 404
        case TooLarge():
            refusal, status = EngineError("invalid_request", error.message, error.param), 413
        case Invalid() if error.code == CONTEXT_LENGTH_EXCEEDED:
            refusal, status = EngineError("context_length_exceeded", error.message, error.param), 400
        case Invalid():
            refusal, status = EngineError("invalid_request", error.message, error.param), 400
        case Unavailable() if error.code == "overloaded":
            refusal, status = EngineError("overloaded", error.message), 503
    await _answer(send, status, msgspec.json.encode(refusal), end=End("failed", NO_COUNTS))


def _decode(body: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        # msgspec names the field and the type, never the value.
        raise Invalid(f"the request is not understood: {error}") from None


async def _body(receive: Receive) -> bytes:
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ConnectionResetError
        body += message.get("body", b"")
        if len(body) > MAX_BODY_BYTES:
            raise TooLarge("the body is too large")
        if not message.get("more_body", False):
            return bytes(body)


async def _on_disconnect(receive: Receive, act: Callable[[], None]) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    act()


async def _answer(send: Send, status: int, body: bytes, *, end: End | None = None) -> None:
    extra = [] if end is None else [(END_HEADER.encode(), msgspec.json.encode(end))]
    await _head(send, status, _JSON, [(b"content-length", b"%d" % len(body)), *extra])
    await _write(send, body, more=False)


async def _head(send: Send, status: int, content_type: bytes, extra: list[tuple[bytes, bytes]] | None = None) -> None:
    headers = [(b"content-type", content_type), *(extra or [])]
    await send({"type": "http.response.start", "status": status, "headers": headers})


async def _write(send: Send, body: bytes, *, more: bool = True) -> None:
    await send({"type": "http.response.body", "body": body, "more_body": more})


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        kind = (await receive())["type"]
        await send({"type": f"{kind}.complete"})
        if kind == "lifespan.shutdown":
            return
