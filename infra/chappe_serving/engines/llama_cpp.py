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
import tempfile
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import aiohttp
import msgspec
import xllamacpp  # type: ignore[import-untyped]  # it has no types

from chappe_kernel.errors import Invalid, Unavailable
from chappe_kernel.rating import NO_COUNTS
from chappe_kernel.wire.engine import (
    CountRequest,
    End,
    EngineHealth,
    Feature,
    GenerateRequest,
    Message,
    Prompt,
    Sampling,
    Tool,
)
from chappe_serving.bounds import check_texts, completion_bound
from chappe_serving.engine import Event, Load
from chappe_serving.engines.admission import Aborted, Admission, HeldSlot
from chappe_serving.engines.constraint import grammar
from chappe_serving.engines.llama_cpp_generation import FIRST_ERROR_STATUS, Generation
from chappe_serving.engines.llama_cpp_server import (
    LlamaCppOptions,
    ModelCards,
    Properties,
    Templated,
    Tokenized,
    find_model,
    sampling_fields,
    server_params,
)

T = TypeVar("T")

_SILENCE_S = 60
"""No byte for so long: the server hangs. A batch takes half a second at most."""
_READ_BUFFER_BYTES = 4 * 1024 * 1024
_ALWAYS: tuple[Feature, ...] = ("response_format", "n", "logprobs", "logit_bias")


class LlamaCppEngine:
    """Implements `GeneratingEngine`."""

    name = "llama.cpp"

    def __init__(self, options: LlamaCppOptions) -> None:
        self.context_tokens = options.context_tokens
        self.features = frozenset(_ALWAYS if options.tool_calls is None else (*_ALWAYS, "tools"))
        self._options = options
        self._admission = Admission(options.slots)
        self._key = secrets.token_hex(32)
        self._server: Any = None
        self._session: aiohttp.ClientSession | None = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    async def start(self) -> None:
        """Load the model, about a second. Raises `Invalid` when its package is not installed, or its chat template does
        not know the tools that it is said to call."""
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
        if self._options.tool_calls is not None:
            can = (await self._ask("/props", None, Properties)).chat_template_caps
            if not (can.supports_tools and can.supports_tool_calls):
                raise Invalid("the model's chat template knows no tools; name one that does", param="chat_template")

    async def health(self) -> EngineHealth:
        """Raises `Unavailable`."""
        try:
            async with self._http().get("/health") as reply:
                healthy = reply.ok
        except (aiohttp.ClientError, TimeoutError):
            healthy = False
        if not healthy:
            raise Unavailable("llama.cpp does not answer")
        return EngineHealth(self.name, self.context_tokens, self.load().running, tuple(sorted(self.features)))

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
                constraint = None
                if request.calling is not None or request.response_format is not None:
                    # A large one takes some 10 ms, in which others' answers go on.
                    compiled = asyncio.to_thread(grammar, request.calling, request.response_format)
                    constraint = await attempt.race(compiled)
                tokens = await attempt.race(self._tokens(request))
                await attempt.race(self._check_bias(request.sampling))
                bound = completion_bound(request, len(tokens), self.context_tokens)
                async with self._admission.slot(attempt, request.cache_scope) as slot:
                    generation = Generation(
                        self._http(),
                        attempt,
                        request,
                        slot=slot.number,
                        prompt_tokens=len(tokens),
                        grammar=constraint,
                    )

                    def body_of(choice: int) -> bytes:
                        return self._body(request, tokens, bound, slot, choice=choice, grammar=constraint)

                    async for event in generation.run(body_of):
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
            calling = request.calling if isinstance(request, GenerateRequest) else None
            tools = request.tools if isinstance(request, CountRequest) else () if calling is None else calling.tools
            return await self._tokenize(await self._templated(request.messages, tools))
        return await self._bare_tokens(request.prompt)

    async def _bare_tokens(self, prompt: Prompt) -> list[int]:
        if isinstance(prompt, str):
            check_texts((prompt,), "prompt")
            tokens = await self._tokenize(prompt)
        else:
            await self._check_tokens(prompt, "prompt")
            tokens = list(prompt)
        if not tokens:
            raise Invalid("the prompt is empty", param="prompt")
        return tokens

    async def _check_bias(self, sampling: Sampling) -> None:
        if sampling.logit_bias:
            await self._check_tokens([token for token, _ in sampling.logit_bias], "logit_bias")

    async def _check_tokens(self, tokens: Sequence[int], param: str) -> None:
        """llama.cpp would refuse them too late, when the prompt counts already, or not at all."""
        vocabulary = (await self._ask("/v1/models", None, ModelCards)).data[0].meta.n_vocab
        if not all(0 <= token < vocabulary for token in tokens):
            raise Invalid(f"this model's tokens are numbered from 0 to {vocabulary - 1}", param=param)

    async def _tokenize(self, text: str) -> list[int]:
        asked = {"content": text, "add_special": True, "parse_special": True}
        return (await self._ask("/tokenize", asked, Tokenized)).tokens

    async def _templated(self, messages: tuple[Message, ...], tools: tuple[Tool, ...]) -> str:
        if not messages:
            raise Invalid("there is no message", param="messages")
        check_texts((message.content for message in messages), "messages")
        said = [_said(message) for message in messages]
        if self._options.system_prompt is not None and all(message["role"] != "system" for message in said):
            said.insert(0, {"role": "system", "content": self._options.system_prompt})
        asked: dict[str, Any] = {"messages": said}
        if tools:
            asked["tools"] = [_shown(tool) for tool in tools]
        return (await self._ask("/apply-template", asked, Templated)).prompt

    async def _ask(self, path: str, body: dict[str, Any] | None, answer: type[T]) -> T:
        method, data = ("GET", None) if body is None else ("POST", msgspec.json.encode(body))
        try:
            async with self._http().request(method, path, data=data) as reply:
                if reply.status >= FIRST_ERROR_STATUS:
                    # llama.cpp's message may quote the prompt: it goes nowhere.
                    raise Invalid("the model's chat template does not accept these messages", param="messages")
                return msgspec.json.decode(await reply.read(), type=answer)
        except (aiohttp.ClientError, TimeoutError):
            raise Unavailable("llama.cpp does not answer") from None

    def _body(
        self,
        request: GenerateRequest,
        tokens: list[int],
        bound: int,
        slot: HeldSlot,
        *,
        choice: int,
        grammar: str | None,
    ) -> bytes:
        fields = sampling_fields(request.sampling, self._options, choice)
        if grammar is not None:
            fields["grammar"] = grammar
        if request.logprobs is not None:
            # Of none it would tell not even the token's own.
            fields["n_probs"] = max(1, request.logprobs)
        return msgspec.json.encode(
            {
                "prompt": tokens,
                "n_predict": bound,
                "id_slot": slot.number,
                "stream": True,
                "timings_per_token": True,
                "return_progress": True,
                "cache_prompt": slot.warm or choice > 0,
                # Without it the last chunk would repeat the whole prompt.
                "response_fields": [
                    "content",
                    "stop",
                    "stop_type",
                    "stopping_word",
                    "timings",
                    "completion_probabilities",
                ],
                **fields,
            }
        )


def _said(message: Message) -> dict[str, Any]:
    """OpenAI's message; `developer` is the newer name of `system`, which the models' templates don't know."""
    said: dict[str, Any] = {
        "role": "system" if message.role == "developer" else message.role,
        "content": message.content,
    }
    if message.tool_calls:
        said["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in message.tool_calls
        ]
    if message.tool_call_id is not None:
        said["tool_call_id"] = message.tool_call_id
    return said


def _shown(tool: Tool) -> dict[str, Any]:
    """OpenAI's function, as the models' templates know it."""
    return {
        "type": "function",
        "function": {"name": tool.name, "description": tool.description or "", "parameters": tool.parameters},
    }
