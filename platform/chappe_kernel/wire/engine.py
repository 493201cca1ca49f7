"""Gateway ↔ engine, over HTTP/1.1 through Ray Serve: `POST {serving_url}/{deployment}/{generate|embed|count}`.

A streamed answer is OpenAI's own event stream, ready to be relayed byte for byte, between two events that only the
gateway reads: one `chappe.start` when prefill is done, and exactly one `chappe.end` at the very end (no `[DONE]`:
the gateway writes it, after it has settled). JSON never contains a raw newline, so neither marker can be forged by
what a model writes. An answer in one piece carries the same `End` in the header `x-chappe-end`.
A stream without `chappe.end` is an engine that died.

A refusal is a 4xx or 5xx with an `EngineError` as its body.
"""

from typing import Literal

from msgspec import Struct

from chappe_kernel.rating import Counts

START_MARK = b"event: chappe.start\ndata: "
END_MARK = b"event: chappe.end\ndata: "
END_HEADER = "x-chappe-end"
RECORD_STREAM = "chappe:engine-records"
"""The region's Redis stream of `EngineRecord`s; only engines may write it (an ACL says so)."""
RECORD_FIELD = "record"

FinishReason = Literal["stop", "length"]


class Message(Struct, frozen=True):
    role: Literal["system", "user", "assistant", "developer"]
    content: str


class Sampling(Struct, frozen=True, omit_defaults=True):
    """OpenAI's sampling parameters with OpenAI's meanings; `None` is the engine's default."""

    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    stop: tuple[str, ...] = ()


class GenerateRequest(Struct, frozen=True):
    """One chat completion. The engine refuses before prefill a prompt over `max_prompt_tokens`
    (code `context_length_exceeded`), and stops after `max_completion_tokens`."""

    request_id: str
    attempt: int
    model: str
    messages: tuple[Message, ...]
    max_prompt_tokens: int
    max_completion_tokens: int
    max_tokens_given: bool
    """Whether the client chose the number: then prompt + maximum must fit the context, as OpenAI has it."""
    created: int
    """Unix seconds for the answer's `created`."""
    sampling: Sampling = Sampling()
    stream: bool = False
    include_usage: bool = False
    """Whether each chunk carries `"usage": null`, as OpenAI's do when the client asked for the usage chunk."""
    cache_scope: str = ""
    """Among whose prompts a cached prefix may be found again: an opaque name of the tenant. Empty: nobody's."""


class EmbedRequest(Struct, frozen=True):
    """Embeddings of `inputs`, in order."""

    request_id: str
    attempt: int
    model: str
    inputs: tuple[str, ...]
    max_prompt_tokens: int
    encoding_format: Literal["float", "base64"] = "float"


class CountRequest(Struct, frozen=True):
    """How many tokens the prompt has, without running it: either field, not both."""

    messages: tuple[Message, ...] = ()
    inputs: tuple[str, ...] = ()


class CountReply(Struct, frozen=True):
    prompt_tokens: int


class Start(Struct, frozen=True):
    """Prefill is done: what the prompt cost."""

    prompt_tokens: int
    cached_tokens: int


class End(Struct, frozen=True):
    """The engine's last word on one attempt."""

    outcome: Literal["completed", "aborted", "failed"]
    counts: Counts
    finish_reason: FinishReason | None = None


class EngineRecord(Struct, frozen=True):
    """The engine's own witness: cumulative counts, written each second while it generates, and once with `end`."""

    request_id: str
    attempt: int
    counts: Counts
    end: End | None = None


class EngineError(Struct, frozen=True):
    """`code`: context_length_exceeded, invalid_request, overloaded or internal."""

    code: Literal["context_length_exceeded", "invalid_request", "overloaded", "internal"]
    message: str
    param: str | None = None


class EngineHealth(Struct, frozen=True):
    """The answer of `GET {serving_url}/{deployment}/health`."""

    engine: str
    context_tokens: int
    running: int
