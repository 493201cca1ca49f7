"""An engine that does what a test tells it, speaking `chappe_kernel.wire.engine` from a raw socket."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import msgspec
import redis.asyncio

from chappe_kernel.rating import Counts
from chappe_kernel.wire.engine import (
    END_HEADER,
    END_MARK,
    RECORD_FIELD,
    RECORD_STREAM,
    START_MARK,
    CountReply,
    CountRequest,
    EmbedRequest,
    End,
    EngineError,
    EngineHealth,
    EngineRecord,
    GenerateRequest,
    Start,
)


@dataclass
class Script:
    """How the engine behaves. Numbers of tokens are chunks of text."""

    tokens: int = 8
    delay_s: float = 0.0
    first_delay_s: float = 0.0
    held: asyncio.Event | None = None
    """Nothing is answered before it is set."""
    cached: int = 0
    die_after: int | None = None
    stall_after: int | None = None
    omit_end: bool = False
    end_outcome: Any = "completed"
    refuse: tuple[int, EngineError] | None = None
    unavailable_times: int = 0
    drop_times: int = 0
    extra_tokens: int = 0
    """Counted beyond the bound: an engine that breaks it."""
    write_records: bool = True
    chunk_bytes: int | None = None
    """Cut the stream into writes of this size."""
    healthy: bool = True
    text: str = " tok"
    raw: bytes | None = None
    """Instead of a stream."""
    stopped_by: int | None = None
    """Which of the request's stops ends it."""


@dataclass
class Seen:
    path: str
    head: bytes
    body: bytes
    closed_at: float | None = None
    sent_tokens: int = 0
    finished: bool = False


@dataclass
class ScriptedEngine:
    """One server for all deployments of a region."""

    port: int
    redis_url: str
    script: Script = field(default_factory=Script)
    seen: list[Seen] = field(default_factory=list)
    _server: asyncio.Server | None = None
    _connections: set[asyncio.StreamWriter] = field(default_factory=set)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator["ScriptedEngine"]:
        self._redis = redis.asyncio.Redis.from_url(self.redis_url)
        await self.start()
        try:
            yield self
        finally:
            await self.stop()
            await self._redis.aclose()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, limit=2**21)

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
            for writer in tuple(self._connections):
                writer.transport.abort()
            await self._server.wait_closed()
            await asyncio.sleep(0.01)
            self._server = None

    def generations(self) -> list[Seen]:
        return [seen for seen in self.seen if seen.path.endswith(("/generate", "/embed"))]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections.add(writer)
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                lines = head.split(b"\r\n")
                length = next((int(x[16:]) for x in lines if x.lower().startswith(b"content-length: ")), 0)
                seen = Seen(lines[0].split(b" ")[1].decode(), head, await reader.readexactly(length))
                if not seen.path.endswith("/health"):
                    self.seen.append(seen)
                if not await self._answer(seen, reader, writer):
                    break
        self._connections.discard(writer)
        writer.close()

    async def _answer(self, seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        script = self.script
        verb = seen.path.rpartition("/")[2]
        if verb == "health":
            health = EngineHealth("scripted", 2048, 0)
            writer.write(_reply(200 if script.healthy else 503, msgspec.json.encode(health)))
            await writer.drain()
            return True
        if verb == "count":
            count = msgspec.json.decode(seen.body, type=CountRequest)
            writer.write(_reply(200, msgspec.json.encode(CountReply(count_tokens(count)))))
            await writer.drain()
            return True
        if script.held is not None:
            await script.held.wait()
        if script.drop_times > 0:
            script.drop_times -= 1
            return False
        if script.unavailable_times > 0:
            script.unavailable_times -= 1
            writer.write(_reply(503, msgspec.json.encode(EngineError("overloaded", "busy"))))
        elif script.refuse is not None:
            writer.write(_reply(script.refuse[0], msgspec.json.encode(script.refuse[1])))
        elif verb == "embed":
            await self._embed(seen, writer)
        else:
            return await self._generate(seen, reader, writer)
        await writer.drain()
        return True

    async def _embed(self, seen: Seen, writer: asyncio.StreamWriter) -> None:
        request = msgspec.json.decode(seen.body, type=EmbedRequest)
        counts = Counts(count_tokens(CountRequest(inputs=request.inputs)), 0, 0)
        vector: Any = [0.5, -0.5] if request.encoding_format == "float" else "AAAAPwAAAL8="
        data = [{"object": "embedding", "index": i, "embedding": vector} for i in range(len(request.inputs))]
        usage = {"prompt_tokens": counts.prompt_tokens, "total_tokens": counts.prompt_tokens}
        answer = {"object": "list", "model": request.model, "data": data, "usage": usage}
        writer.write(_reply(200, msgspec.json.encode(answer), End("completed", counts)))

    async def _generate(self, seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        request = msgspec.json.decode(seen.body, type=GenerateRequest)
        script = self.script
        prompt_tokens = count_tokens(CountRequest(messages=request.messages))
        if prompt_tokens > request.max_prompt_tokens:
            error = EngineError("context_length_exceeded", "the prompt is too long", "messages")
            writer.write(_reply(400, msgspec.json.encode(error)))
            return True
        tokens = min(script.tokens, request.max_completion_tokens) + script.extra_tokens
        await asyncio.sleep(script.first_delay_s)
        if script.raw is not None:
            writer.write(script.raw)
            return True
        if not request.stream:
            await asyncio.sleep(script.delay_s * tokens)
            writer.write(_whole(request, prompt_tokens, tokens, script))
            await self._record(request, Counts(prompt_tokens, script.cached, tokens), "completed")
            return True
        gone = asyncio.create_task(reader.read(1))
        try:
            return await self._stream(seen, request, writer, Counts(prompt_tokens, script.cached, tokens), gone)
        finally:
            gone.cancel()
            with contextlib.suppress(asyncio.CancelledError, ConnectionError):
                await gone

    async def _stream(
        self,
        seen: Seen,
        request: GenerateRequest,
        writer: asyncio.StreamWriter,
        planned: Counts,
        gone: "asyncio.Task[bytes]",
    ) -> bool:
        script = self.script
        writer.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nx-ray: 1\r\ntransfer-encoding: chunked\r\n\r\n"
        )
        start = Start(planned.prompt_tokens, planned.cached_tokens)
        await self._write(writer, START_MARK + msgspec.json.encode(start) + b"\n\n")
        await self._write(writer, _chunk(request, {"role": "assistant", "content": ""}))
        for index in range(planned.completion_tokens):
            if index == script.die_after:
                counts = Counts(planned.prompt_tokens, planned.cached_tokens, seen.sent_tokens)
                await self._record(request, counts, "failed")
                writer.transport.abort()
                return False
            if index == script.stall_after:
                await gone
            if script.delay_s:
                await asyncio.wait([gone], timeout=script.delay_s)
            if gone.done():
                seen.closed_at = time.monotonic()
                counts = Counts(planned.prompt_tokens, planned.cached_tokens, seen.sent_tokens)
                await self._record(request, counts, "aborted")
                return False
            await self._write(writer, _chunk(request, {"content": script.text}))
            seen.sent_tokens += 1
        await self._write(writer, _chunk(request, {}, "stop"))
        if not script.omit_end:
            end = End(script.end_outcome, planned, "stop", script.stopped_by)
            await self._write(writer, END_MARK + msgspec.json.encode(end) + b"\n\n")
        writer.write(b"0\r\n\r\n")
        await self._record(request, planned, script.end_outcome)
        seen.finished = True
        await writer.drain()
        # The peer's next request on this connection would be taken for its leaving.
        return False

    async def _write(self, writer: asyncio.StreamWriter, data: bytes) -> None:
        size = self.script.chunk_bytes or len(data)
        for at in range(0, len(data), size):
            part = data[at : at + size]
            writer.write(b"%x\r\n%b\r\n" % (len(part), part))
            if self.script.chunk_bytes:
                await writer.drain()
                await asyncio.sleep(0)
        await writer.drain()

    async def _record(self, request: GenerateRequest, counts: Counts, outcome: Any) -> None:
        if self.script.write_records:
            record = EngineRecord(request.request_id, request.attempt, counts, End(outcome, counts), request.slip)
            await self._redis.xadd(RECORD_STREAM, {RECORD_FIELD: msgspec.json.encode(record)})


def count_tokens(request: CountRequest) -> int:
    return sum(4 + len(m.content.split()) for m in request.messages) + sum(len(t.split()) for t in request.inputs)


def _chunk(request: GenerateRequest, delta: dict[str, str], finish: str | None = None) -> bytes:
    chunk: dict[str, Any] = {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": request.created,
        "model": request.model,
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish}],
    }
    if request.include_usage:
        chunk["usage"] = None
    return b"data: " + msgspec.json.encode(chunk) + b"\n\n"


def _whole(request: GenerateRequest, prompt_tokens: int, tokens: int, script: Script) -> bytes:
    counts = Counts(prompt_tokens, script.cached, tokens)
    answer = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": request.created,
        "model": request.model,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": script.text * tokens},
                "finish_reason": "stop",
            }
        ],
        "usage": {
            "prompt_tokens": prompt_tokens,
            "completion_tokens": tokens,
            "total_tokens": prompt_tokens + tokens,
            "prompt_tokens_details": {"cached_tokens": script.cached},
        },
    }
    return _reply(
        200,
        msgspec.json.encode(answer),
        None if script.omit_end else End(script.end_outcome, counts, "stop", script.stopped_by),
    )


def _reply(status: int, body: bytes, end: End | None = None) -> bytes:
    header = b"" if end is None else b"%b: %b\r\n" % (END_HEADER.encode(), msgspec.json.encode(end))
    return b"HTTP/1.1 %d X\r\nserver: haproxy\r\ncontent-type: application/json\r\n%bcontent-length: %d\r\n\r\n%b" % (
        status,
        header,
        len(body),
        body,
    )
