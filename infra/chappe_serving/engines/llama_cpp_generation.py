"""One attempt on its slot of llama.cpp's: its choices one after another, told as events."""

import asyncio
import secrets
import socket
import struct
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager

import aiohttp
import msgspec
import structlog

from chappe_kernel.rating import Counts
from chappe_kernel.wire.engine import End, FinishReason, GenerateRequest, Start
from chappe_serving.engine import ArgumentsDelta, CallBegun, Delta, Event, Next, Prefill, TokenLogprob
from chappe_serving.engines.admission import Aborted, Attempt
from chappe_serving.engines.constraint import Witness
from chappe_serving.engines.llama_cpp_server import Chunk, Slot
from chappe_serving.engines.tool_calls import Arguments, Begin, CallReader, Piece, Text

_log = structlog.get_logger()

FIRST_ERROR_STATUS = 400
_SETTLE_S = 5.0
_POLL_S = 0.005
_DATA = b"data: "
_NO_LINGER = struct.pack("ii", 1, 0)
_CALL_ID_BYTES = 12

_chunks = msgspec.json.Decoder(Chunk)
_slots = msgspec.json.Decoder(list[Slot])


class Died(Exception):
    """The server stopped answering, refused a body of ours, or said what the grammar does not allow."""


class Generation:
    """From the first prompt token to the terminal event. Every choice after the first finds the prompt computed: it
    counts once."""

    def __init__(
        self,
        http: aiohttp.ClientSession,
        attempt: Attempt,
        request: GenerateRequest,
        *,
        slot: int,
        prompt_tokens: int,
        grammar: str | None,
    ) -> None:
        self._http = http
        self._attempt = attempt
        self._request = request
        self._slot = slot
        self._grammar = grammar
        self._counts = Counts(prompt_tokens, 0, 0)
        self._generated_before = 0
        self._choice = 0
        self._is_heard = False
        """Whether the server has said anything of this choice."""
        self._started = False

    async def run(self, body_of: Callable[[int], bytes]) -> AsyncIterator[Event]:
        """`body_of`: llama.cpp's request for a choice's number."""
        yield Prefill(self._counts)
        try:
            for choice in range(self._request.n):
                self._choice = choice
                self._generated_before = self._counts.completion_tokens
                async for event in self._one(body_of(choice)):
                    yield event
        except Aborted:
            yield End("aborted", await self._final_counts())
        except (Died, aiohttp.ClientError, TimeoutError, msgspec.DecodeError) as error:
            _log.warning("llama_cpp_failed", reason=type(error).__name__)
            yield End("failed", self._counts)

    async def _one(self, body: bytes) -> AsyncIterator[Event]:
        words = Words(self._request, self._grammar)
        self._is_heard = False
        async with await self._attempt.race(self._post(body)) as reply:
            with _reset_unless_read(reply):
                while (chunk := await self._attempt.race(_next_chunk(reply))) is not None:
                    for event in self._events(chunk, words):
                        yield event
                    if chunk.stop:
                        return
        raise Died

    async def _post(self, body: bytes) -> aiohttp.ClientResponse:
        reply = await self._http.post("/completion", data=body)
        if reply.status >= FIRST_ERROR_STATUS:
            reply.close()
            raise Died
        return reply

    def _events(self, chunk: Chunk, words: "Words") -> list[Event]:
        timings, events = chunk.timings, list[Event]()
        self._is_heard = True
        cached = self._counts.cached_tokens if self._choice else timings.cache_n
        generated = self._generated_before + timings.predicted_n
        self._counts = Counts(self._counts.prompt_tokens, cached, generated)
        if not self._started and timings.predicted_n:
            self._started = True
            events.append(Start(self._counts.prompt_tokens, cached))
        events += words.read(chunk, self._counts)
        if not chunk.stop:
            return events
        events += words.rest(self._counts)
        finish_reason = words.finish_reason(chunk)
        if self._choice + 1 < self._request.n:
            events.append(Next(finish_reason))
            return events
        stops = self._request.sampling.stop
        stopped_by = stops.index(chunk.stopping_word) if chunk.stopping_word in stops else None
        events.append(End("completed", self._counts, finish_reason, stopped_by))
        return events

    async def _final_counts(self) -> Counts:
        """What was generated when llama.cpp let go of the slot.

        Its KV cache then holds the prompt and every generated token but the last, which was sampled and not fed back.
        Between two choices that is still the one before, which is counted already.
        """
        if self._choice and not self._is_heard:
            return self._counts
        try:
            async with asyncio.timeout(_SETTLE_S):
                held = await self._held_tokens()
        except (aiohttp.ClientError, TimeoutError, msgspec.DecodeError, StopIteration) as error:
            _log.warning("llama_cpp_slot_not_settled", reason=type(error).__name__)
            return self._counts
        prompt = self._counts.prompt_tokens
        generated = self._generated_before + (held - prompt + 1 if held >= prompt else 0)
        return Counts(prompt, self._counts.cached_tokens, max(generated, self._counts.completion_tokens))

    async def _held_tokens(self) -> int:
        while True:
            async with self._http.get("/slots") as reply:
                slots = _slots.decode(await reply.read())
            slot = next(slot for slot in slots if slot.id == self._slot)
            if not slot.is_processing:
                return slot.n_prompt_tokens
            await asyncio.sleep(_POLL_S)


class Words:
    """One choice's words: what is text and what are calls. Raises `Died` at what the grammar does not allow."""

    def __init__(self, request: GenerateRequest, grammar: str | None) -> None:
        self._witness = None if grammar is None else Witness(grammar)
        self._calls = None if request.calling is None else CallReader()
        self._likeliest = request.logprobs or 0
        self._logprobs: list[TokenLogprob] = []

    def read(self, chunk: Chunk, counts: Counts) -> list[Event]:
        if chunk.completion_probabilities:
            self._logprobs += [one.told(self._likeliest) for one in chunk.completion_probabilities]
        if not chunk.content:
            return []
        if self._witness is not None and not self._witness.allows(chunk.content):
            raise Died
        if self._calls is None:
            return [self._text(chunk.content, counts)]
        return [self._event(piece, counts) for piece in self._calls.feed(chunk.content)]

    def rest(self, counts: Counts) -> list[Event]:
        """What was held back until the end."""
        return [] if self._calls is None else [self._event(piece, counts) for piece in self._calls.end()]

    def finish_reason(self, chunk: Chunk) -> FinishReason:
        if chunk.stop_type == "limit":
            return "length"
        if chunk.stop_type == "eos" and self._witness is not None and not self._witness.is_whole:
            raise Died
        return "tool_calls" if self._calls is not None and self._calls.calls and not self._calls.is_open else "stop"

    def _event(self, piece: Piece, counts: Counts) -> Event:
        match piece:
            case Text(text):
                return self._text(text, counts)
            case Begin(name):
                return CallBegun("call_" + secrets.token_hex(_CALL_ID_BYTES), name)
            case Arguments(text):
                return ArgumentsDelta(text, counts)

    def _text(self, text: str, counts: Counts) -> Delta:
        logprobs, self._logprobs = self._logprobs, []
        return Delta(text, counts, tuple(logprobs))


@contextmanager
def _reset_unless_read(reply: aiohttp.ClientResponse) -> Iterator[None]:
    """Leave before the end, and the connection is reset, not closed: llama.cpp's next write fails at once (after a
    plain close only the second one does), and it stops at its next batch."""
    try:
        yield
    finally:
        if reply.connection is not None and reply.connection.transport is not None:
            sock = reply.connection.transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
            reply.close()


async def _next_chunk(reply: aiohttp.ClientResponse) -> Chunk | None:
    while line := await reply.content.readline():
        if line.startswith(_DATA):
            return _chunks.decode(line[len(_DATA) :])
        if line.startswith(b"error:"):
            raise Died
    return None
