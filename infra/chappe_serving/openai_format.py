"""Answers in OpenAI's own shape, as bytes: whole bodies, and the events of a stream between our two marks."""

import base64
from collections.abc import Iterable
from typing import Literal, TypeAlias

import msgspec
from msgspec import UNSET, Struct, UnsetType

from chappe_kernel.rating import Counts
from chappe_kernel.wire.engine import (
    END_MARK,
    START_MARK,
    EmbedRequest,
    End,
    FinishReason,
    GenerateRequest,
    Start,
)
from chappe_serving.engine import ArgumentsDelta, CallBegun, Delta, Embeddings, Next, TokenLogprob

_LITTLE_ENDIAN_FLOAT32 = "<f4"


class _Function(Struct):
    arguments: str
    name: str | UnsetType = UNSET


class _Call(Struct, omit_defaults=True):
    function: _Function
    index: int | UnsetType = UNSET
    id: str | UnsetType = UNSET
    type: str | UnsetType = UNSET


class _Likely(Struct):
    token: str
    logprob: float
    bytes: tuple[int, ...]


class _Logprob(Struct):
    token: str
    logprob: float
    bytes: tuple[int, ...]
    top_logprobs: tuple[_Likely, ...]


class _Logprobs(Struct):
    content: list[_Logprob]
    refusal: None = None


class _Delta(Struct, omit_defaults=True):
    role: str | UnsetType = UNSET
    content: str | UnsetType = UNSET
    tool_calls: tuple[_Call] | UnsetType = UNSET


class _ChunkChoice(Struct):
    delta: _Delta
    index: int = 0
    logprobs: _Logprobs | None = None
    finish_reason: FinishReason | None = None


class _Chunk(Struct):
    id: str
    created: int
    model: str
    choices: tuple[_ChunkChoice]
    object: str = "chat.completion.chunk"
    usage: UnsetType | None = UNSET


class _Message(Struct):
    content: str | None
    role: str = "assistant"
    refusal: None = None
    tool_calls: list[_Call] | UnsetType = UNSET


class _Choice(Struct):
    message: _Message
    finish_reason: FinishReason | None
    index: int = 0
    logprobs: _Logprobs | None = None


class _PromptDetails(Struct):
    cached_tokens: int


class _Usage(Struct):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: _PromptDetails


class _Completion(Struct):
    id: str
    created: int
    model: str
    choices: list[_Choice]
    usage: _Usage
    object: str = "chat.completion"


class _Embedding(Struct):
    index: int
    embedding: list[float] | str
    object: str = "embedding"


class _EmbeddingUsage(Struct):
    prompt_tokens: int
    total_tokens: int


class _EmbeddingList(Struct):
    id: str
    """OpenAI's has none, Mistral's package wants one."""
    data: list[_Embedding]
    model: str
    usage: _EmbeddingUsage
    object: str = "list"


_encoder = msgspec.json.Encoder()


More: TypeAlias = Delta | CallBegun | ArgumentsDelta | Next


class ChatStream:
    """The events of one streamed answer. Each method returns whole events, blank line included."""

    def __init__(self, request: GenerateRequest) -> None:
        self._id = completion_id(request)
        self._request = request
        self._choice = 0
        self._calls = 0

    def start(self, start: Start) -> bytes:
        """Our mark, and OpenAI's first chunk: the role."""
        return START_MARK + _encoder.encode(start) + b"\n\n" + self._role()

    def more(self, event: More) -> bytes:
        match event:
            case Delta():
                return self._chunk(_Delta(content=event.text), logprobs=_logprobs(self._request, event.logprobs))
            case CallBegun():
                self._calls += 1
                return self._call(_Call(_Function("", event.name), id=event.id, type="function"))
            case ArgumentsDelta():
                return self._call(_Call(_Function(event.text)))
            case Next():
                finish = self._chunk(_Delta(), event.finish_reason)
                self._choice, self._calls = self._choice + 1, 0
                return finish + self._role()

    def end(self, end: End) -> bytes:
        """The finish chunk if the answer is whole, and our mark."""
        finish = self._chunk(_Delta(), end.finish_reason) if end.outcome == "completed" else b""
        return finish + END_MARK + _encoder.encode(end) + b"\n\n"

    def _role(self) -> bytes:
        return self._chunk(_Delta(role="assistant", content=""))

    def _call(self, call: _Call) -> bytes:
        call.index = self._calls - 1
        return self._chunk(_Delta(tool_calls=(call,)))

    def _chunk(
        self, delta: _Delta, finish_reason: FinishReason | None = None, logprobs: _Logprobs | None = None
    ) -> bytes:
        chunk = _Chunk(
            id=self._id,
            created=self._request.created,
            model=self._request.model,
            choices=(_ChunkChoice(delta, self._choice, logprobs, finish_reason),),
            usage=None if self._request.include_usage else UNSET,
        )
        return b"data: " + _encoder.encode(chunk) + b"\n\n"


class WholeAnswer:
    """An answer in one piece, as it grows."""

    def __init__(self, request: GenerateRequest) -> None:
        self._request = request
        self._done: list[_Choice] = []
        self._begin()

    def add(self, event: More) -> None:
        match event:
            case Delta():
                self._texts.append(event.text)
                self._likely += event.logprobs
            case CallBegun():
                self._calls.append(_Call(_Function("", event.name), id=event.id, type="function"))
            case ArgumentsDelta():
                self._calls[-1].function.arguments += event.text
            case Next():
                self._finish(event.finish_reason)

    def end(self, end: End) -> bytes:
        """The whole body."""
        self._finish(end.finish_reason)
        return _encoder.encode(
            _Completion(
                id=completion_id(self._request),
                created=self._request.created,
                model=self._request.model,
                choices=self._done,
                usage=_usage(end.counts),
            )
        )

    def _begin(self) -> None:
        self._texts: list[str] = []
        self._calls: list[_Call] = []
        self._likely: list[TokenLogprob] = []

    def _finish(self, finish_reason: FinishReason | None) -> None:
        text = "".join(self._texts)
        message = _Message(text or None, tool_calls=self._calls) if self._calls else _Message(text)
        logprobs = _logprobs(self._request, self._likely)
        self._done.append(_Choice(message, finish_reason, len(self._done), logprobs))
        self._begin()


def completion_id(request: GenerateRequest) -> str:
    return f"chatcmpl-{request.request_id}"


def _logprobs(request: GenerateRequest, tokens: Iterable[TokenLogprob]) -> _Logprobs | None:
    if request.logprobs is None:
        return None
    return _Logprobs(
        [
            _Logprob(
                token.token,
                token.logprob,
                token.bytes,
                tuple([_Likely(likely.token, likely.logprob, likely.bytes) for likely in token.likeliest]),
            )
            for token in tokens
        ]
    )


def embedding_list(request: EmbedRequest, embeddings: Embeddings) -> bytes:
    """The body of `/v1/embeddings`; base64 is the same float32 values, little-endian."""
    return _encoder.encode(
        _EmbeddingList(
            id=f"embd-{request.request_id}",
            data=[
                _Embedding(index, _vector(embeddings, index, request.encoding_format))
                for index in range(len(embeddings.vectors))
            ],
            model=request.model,
            usage=_EmbeddingUsage(embeddings.prompt_tokens, embeddings.prompt_tokens),
        )
    )


def _vector(embeddings: Embeddings, index: int, encoding_format: Literal["float", "base64"]) -> list[float] | str:
    vector = embeddings.vectors[index].astype(_LITTLE_ENDIAN_FLOAT32)
    if encoding_format == "base64":
        return base64.b64encode(vector.tobytes()).decode()
    values: list[float] = vector.tolist()
    return values


def _usage(counts: Counts) -> _Usage:
    return _Usage(
        prompt_tokens=counts.prompt_tokens,
        completion_tokens=counts.completion_tokens,
        total_tokens=counts.prompt_tokens + counts.completion_tokens,
        prompt_tokens_details=_PromptDetails(counts.cached_tokens),
    )
