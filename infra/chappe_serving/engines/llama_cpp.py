"""llama.cpp through xllamacpp: its own HTTP server on a socket in a private folder, behind a key.

Why HTTP and not the in-process calls: closing a connection is how llama.cpp is told to stop, and `/slots` says
afterwards what it had done by then. Every attempt is pinned to a slot of its own (`id_slot`), so that figure is the
attempt's and nobody else's.

Prompts of different tenants meet in a slot's KV cache. A tenant who found another's prefix there would learn, by timing
and from `cached_tokens`, that somebody had sent it. So a slot's cache is used again only by the scope (the tenant) that
filled it; for anybody else the prompt is computed anew, and overwrites it.
"""

import asyncio
import secrets
import socket
import struct
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import aiohttp
import msgspec
import structlog
import xllamacpp  # type: ignore[import-untyped]  # it has no types

from chappe_kernel.errors import Invalid, Unavailable
from chappe_kernel.rating import NO_COUNTS, Counts
from chappe_kernel.wire.engine import CountRequest, End, EngineHealth, GenerateRequest, Message, Prompt, Start
from chappe_serving.bounds import check_texts, completion_bound
from chappe_serving.engine import Delta, Event, Load, Prefill
from chappe_serving.engines.admission import Aborted, Admission, Attempt, HeldSlot
from chappe_serving.engines.llama_cpp_server import (
    Chunk,
    LlamaCppOptions,
    ModelCards,
    Slot,
    Templated,
    Tokenized,
    find_model,
    sampling_fields,
    server_params,
)

_log = structlog.get_logger()
T = TypeVar("T")

_SILENCE_S = 60
"""No byte for so long: the server hangs. A batch takes half a second at most."""
_SETTLE_S = 5.0
_POLL_S = 0.005
_READ_BUFFER_BYTES = 4 * 1024 * 1024
_FIRST_ERROR_STATUS = 400
_DATA = b"data: "
_NO_LINGER = struct.pack("ii", 1, 0)

_chunks = msgspec.json.Decoder(Chunk)
_slots = msgspec.json.Decoder(list[Slot])


class _Died(Exception):
    """The server stopped answering, or refused a body of ours."""


class LlamaCppEngine:
    """Implements `GeneratingEngine`."""

    name = "llama.cpp"

    def __init__(self, options: LlamaCppOptions) -> None:
        self.context_tokens = options.context_tokens
        self._options = options
        self._admission = Admission(options.slots)
        self._key = secrets.token_hex(32)
        self._server: Any = None
        self._session: aiohttp.ClientSession | None = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    async def start(self) -> None:
        """Load the model, about a second. Raises `Invalid` when its package is not installed."""
        self._folder = tempfile.TemporaryDirectory(prefix="chappe-llama-")
        socket_path = Path(self._folder.name) / "s.sock"
        params = server_params(self._options, find_model(self._options), socket_path, self._key)
        self._server = await asyncio.to_thread(xllamacpp.Server, params)
        self._session = aiohttp.ClientSession(
            base_url="http://llama.cpp",
            headers={"authorization": f"Bearer {self._key}"},
            timeout=aiohttp.ClientTimeout(total=None, sock_read=_SILENCE_S),
            # A connection for each request: the server closes kept ones after 5 s or 100 requests, and a request that
            # is sent at that moment would fail. On a unix socket a new one costs microseconds.
            connector=aiohttp.UnixConnector(str(socket_path), limit=0, force_close=True),
            read_bufsize=_READ_BUFFER_BYTES,
        )

    async def health(self) -> EngineHealth:
        """Raises `Unavailable`."""
        try:
            async with self._http().get("/health") as reply:
                healthy = reply.ok
        except (aiohttp.ClientError, TimeoutError):
            healthy = False
        if not healthy:
            raise Unavailable("llama.cpp does not answer")
        return EngineHealth(engine=self.name, context_tokens=self.context_tokens, running=self.load().running)

    async def count_prompt(self, request: CountRequest) -> int:
        """Raises `Invalid`, `Unavailable`."""
        return len(await self._tokens(request))

    def abort(self, request_id: str, attempt: int) -> bool:
        return self._admission.abort(request_id, attempt)

    def load(self) -> Load:
        return self._admission.load()

    async def drain(self) -> None:
        await self._admission.drain()
        if self._session is not None:
            await self._session.close()
            self._session = None
        if self._server is not None:
            # Its destructor joins the server's threads.
            last_reference, self._server = [self._server], None
            await asyncio.to_thread(last_reference.clear)
        if self._folder is not None:
            self._folder.cleanup()

    async def generate(self, request: GenerateRequest) -> AsyncGenerator[Event, None]:
        with self._admission.attempt(request.request_id, request.attempt) as attempt:
            try:
                tokens = await attempt.race(self._tokens(request))
                bound = completion_bound(request, len(tokens), self.context_tokens)
                async with self._admission.slot(attempt, request.cache_scope) as slot:
                    generation = _Generation(self._http(), attempt, slot.number, len(tokens), request.sampling.stop)
                    async for event in generation.run(self._body(request, tokens, bound, slot)):
                        yield event
            except Aborted:
                # It never held a slot: nothing was computed.
                yield End("aborted", NO_COUNTS)

    def _http(self) -> aiohttp.ClientSession:
        if self._session is None:
            raise Unavailable("the engine is not running")
        return self._session

    async def _tokens(self, request: CountRequest | GenerateRequest) -> list[int]:
        """The very tokens that are sent to `/completion`, so that the count is exact by construction."""
        if request.prompt is None:
            return await self._tokenize(await self._templated(request.messages))
        return await self._bare_tokens(request.prompt)

    async def _bare_tokens(self, prompt: Prompt) -> list[int]:
        if isinstance(prompt, str):
            check_texts((prompt,), "prompt")
            tokens = await self._tokenize(prompt)
        else:
            # llama.cpp would refuse them too late, when the prompt counts already.
            vocabulary = (await self._ask("/v1/models", None, ModelCards)).data[0].meta.n_vocab
            if not all(0 <= token < vocabulary for token in prompt):
                raise Invalid(f"this model's tokens are numbered from 0 to {vocabulary - 1}", param="prompt")
            tokens = list(prompt)
        if not tokens:
            raise Invalid("the prompt is empty", param="prompt")
        return tokens

    async def _tokenize(self, text: str) -> list[int]:
        asked = {"content": text, "add_special": True, "parse_special": True}
        return (await self._ask("/tokenize", asked, Tokenized)).tokens

    async def _templated(self, messages: tuple[Message, ...]) -> str:
        if not messages:
            raise Invalid("there is no message", param="messages")
        check_texts((message.content for message in messages), "messages")
        roles = {"developer": "system"}  # the newer name of the same thing, which the models' templates don't know
        said = [{"role": roles.get(message.role, message.role), "content": message.content} for message in messages]
        if self._options.system_prompt is not None and all(message["role"] != "system" for message in said):
            said.insert(0, {"role": "system", "content": self._options.system_prompt})
        return (await self._ask("/apply-template", {"messages": said}, Templated)).prompt

    async def _ask(self, path: str, body: dict[str, Any] | None, answer: type[T]) -> T:
        method, data = ("GET", None) if body is None else ("POST", msgspec.json.encode(body))
        try:
            async with self._http().request(method, path, data=data) as reply:
                if reply.status >= _FIRST_ERROR_STATUS:
                    # llama.cpp's message may quote the prompt: it goes nowhere.
                    raise Invalid("the model's chat template does not accept these messages", param="messages")
                return msgspec.json.decode(await reply.read(), type=answer)
        except (aiohttp.ClientError, TimeoutError):
            raise Unavailable("llama.cpp does not answer") from None

    def _body(self, request: GenerateRequest, tokens: list[int], bound: int, slot: HeldSlot) -> bytes:
        return msgspec.json.encode(
            {
                "prompt": tokens,
                "n_predict": bound,
                "id_slot": slot.number,
                "stream": True,
                "timings_per_token": True,
                "return_progress": True,
                "cache_prompt": slot.warm,
                # Without it the last chunk would repeat the whole prompt.
                "response_fields": ["content", "stop", "stop_type", "stopping_word", "timings"],
                **sampling_fields(request.sampling, self._options),
            }
        )


class _Generation:
    """One attempt on its slot, from the first prompt token to the terminal event."""

    def __init__(
        self, http: aiohttp.ClientSession, attempt: Attempt, slot: int, prompt_tokens: int, stops: tuple[str, ...]
    ) -> None:
        self._http = http
        self._attempt = attempt
        self._slot = slot
        self._counts = Counts(prompt_tokens, 0, 0)
        self._stops = stops
        self._started = False

    async def run(self, body: bytes) -> AsyncIterator[Event]:
        yield Prefill(self._counts)
        try:
            async with await self._attempt.race(self._post(body)) as reply:
                with _reset_unless_read(reply):
                    while (chunk := await self._attempt.race(_next_chunk(reply))) is not None:
                        for event in self._events(chunk):
                            yield event
                        if chunk.stop:
                            return
        except Aborted:
            yield End("aborted", await self._final_counts())
            return
        except (_Died, aiohttp.ClientError, TimeoutError, msgspec.DecodeError) as error:
            _log.warning("llama_cpp_failed", reason=type(error).__name__)
        yield End("failed", self._counts)

    async def _post(self, body: bytes) -> aiohttp.ClientResponse:
        reply = await self._http.post("/completion", data=body)
        if reply.status >= _FIRST_ERROR_STATUS:
            reply.close()
            raise _Died
        return reply

    def _events(self, chunk: Chunk) -> list[Event]:
        timings, events = chunk.timings, list[Event]()
        self._counts = Counts(self._counts.prompt_tokens, timings.cache_n, timings.predicted_n)
        if not self._started and timings.predicted_n:
            self._started = True
            events.append(Start(self._counts.prompt_tokens, timings.cache_n))
        if chunk.content:
            events.append(Delta(chunk.content, self._counts))
        if chunk.stop:
            stopped_by = self._stops.index(chunk.stopping_word) if chunk.stopping_word in self._stops else None
            events.append(End("completed", self._counts, chunk.finish_reason, stopped_by))
        return events

    async def _final_counts(self) -> Counts:
        """What was generated when llama.cpp let go of the slot.

        Its KV cache then holds the prompt and every generated token but the last, which was sampled and not fed back.
        """
        try:
            async with asyncio.timeout(_SETTLE_S):
                held = await self._held_tokens()
        except (aiohttp.ClientError, TimeoutError, msgspec.DecodeError, StopIteration) as error:
            _log.warning("llama_cpp_slot_not_settled", reason=type(error).__name__)
            return self._counts
        prompt = self._counts.prompt_tokens
        generated = held - prompt + 1 if held >= prompt else 0
        return Counts(prompt, self._counts.cached_tokens, max(generated, self._counts.completion_tokens))

    async def _held_tokens(self) -> int:
        while True:
            async with self._http.get("/slots") as reply:
                slots = _slots.decode(await reply.read())
            slot = next(slot for slot in slots if slot.id == self._slot)
            if not slot.is_processing:
                return slot.n_prompt_tokens
            await asyncio.sleep(_POLL_S)


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
            raise _Died
    return None
