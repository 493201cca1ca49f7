"""Answers in OpenAI's own shape, as bytes: whole bodies, and the events of a stream between our two marks."""

import base64
from typing import Literal

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
from chappe_serving.engine import Embeddings

_LITTLE_ENDIAN_FLOAT32 = "<f4"


class _Delta(Struct, omit_defaults=True):
    role: str | UnsetType = UNSET
    content: str | UnsetType = UNSET


class _ChunkChoice(Struct):
    delta: _Delta
    index: int = 0
    logprobs: None = None
    finish_reason: FinishReason | None = None


class _Chunk(Struct):
    id: str
    created: int
    model: str
    choices: tuple[_ChunkChoice]
    object: str = "chat.completion.chunk"
    usage: UnsetType | None = UNSET


class _Message(Struct):
    content: str
    role: str = "assistant"
    refusal: None = None


class _Choice(Struct):
    message: _Message
    finish_reason: FinishReason | None
    index: int = 0
    logprobs: None = None


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
    choices: tuple[_Choice]
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


class ChatStream:
    """The events of one streamed answer. Each method returns whole events, blank line included."""

    def __init__(self, request: GenerateRequest) -> None:
        self._id = completion_id(request)
        self._request = request

    def start(self, start: Start) -> bytes:
        """Our mark, and OpenAI's first chunk: the role."""
        return START_MARK + _encoder.encode(start) + b"\n\n" + self._chunk(_Delta(role="assistant", content=""))

    def delta(self, text: str) -> bytes:
        return self._chunk(_Delta(content=text))

    def end(self, end: End) -> bytes:
        """The finish chunk if the answer is whole, and our mark."""
        finish = self._chunk(_Delta(), end.finish_reason) if end.outcome == "completed" else b""
        return finish + END_MARK + _encoder.encode(end) + b"\n\n"

    def _chunk(self, delta: _Delta, finish_reason: FinishReason | None = None) -> bytes:
        chunk = _Chunk(
            id=self._id,
            created=self._request.created,
            model=self._request.model,
            choices=(_ChunkChoice(delta, finish_reason=finish_reason),),
            usage=None if self._request.include_usage else UNSET,
        )
        return b"data: " + _encoder.encode(chunk) + b"\n\n"


def completion_id(request: GenerateRequest) -> str:
    return f"chatcmpl-{request.request_id}"


def completion(request: GenerateRequest, text: str, end: End) -> bytes:
    """The body of an answer in one piece."""
    return _encoder.encode(
        _Completion(
            id=completion_id(request),
            created=request.created,
            model=request.model,
            choices=(_Choice(_Message(text), end.finish_reason),),
            usage=_usage(end.counts),
        )
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
