"""Gateway ↔ engine, over HTTP/1.1 through Ray Serve: `POST {serving_url}/{deployment}/{generate|embed|count}`.

A streamed answer is OpenAI's own event stream, ready to be relayed byte for byte, between two events that only the
gateway reads: one `chappe.start` when prefill is done, and exactly one `chappe.end` at the very end (no `[DONE]`:
the gateway writes it, after it has settled). JSON never contains a raw newline, so neither marker can be forged by
what a model writes. An answer in one piece carries the same `End` in the header `x-chappe-end`.
A stream without `chappe.end` is an engine that died.

A refusal is a 4xx or 5xx with an `EngineError` as its body.
"""

from typing import Literal

from msgspec import Raw, Struct

from chappe_kernel.rating import Counts

START_MARK = b"event: chappe.start\ndata: "
END_MARK = b"event: chappe.end\ndata: "
END_HEADER = "x-chappe-end"
RECORD_STREAM = "chappe:engine-records"
"""The region's Redis stream of `EngineRecord`s; only engines may write it (an ACL says so)."""
RECORD_FIELD = "record"

FinishReason = Literal["stop", "length", "tool_calls"]
Feature = Literal["tools", "response_format", "n", "logprobs", "logit_bias"]
"""What not every engine can, by the name of OpenAI's parameter for it."""


class ToolCall(Struct, frozen=True):
    """A function that the model called. `arguments` is a JSON object's text."""

    id: str
    name: str
    arguments: str


class Message(Struct, frozen=True, omit_defaults=True):
    """`tool_calls` are an assistant's; a `tool`'s message answers the one that `tool_call_id` names."""

    role: Literal["system", "user", "assistant", "developer", "tool"]
    content: str
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None


class Tool(Struct, frozen=True, omit_defaults=True):
    """A function that the model is told of. `parameters` is a JSON Schema; `strict`: all of it is kept to."""

    name: str
    description: str | None = None
    parameters: Raw = Raw(b"{}")
    strict: bool = False


class Calling(Struct, frozen=True):
    """Which tools the model is shown, and which of them it may or must call."""

    tools: tuple[Tool, ...]
    choice: Literal["auto", "required"] = "auto"
    names: tuple[str, ...] = ()
    """Those that may be called; empty: all."""
    parallel: bool = True
    """Whether one answer may have several calls."""


class ResponseFormat(Struct, frozen=True):
    """The answer is JSON by this JSON Schema; `strict`: all of the schema is kept to."""

    schema: Raw
    strict: bool = False


class Sampling(Struct, frozen=True, omit_defaults=True):
    """OpenAI's sampling parameters with OpenAI's meanings; `None` is the engine's default."""

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    """Anthropic's and Mistral's; OpenAI has none."""
    seed: int | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    stop: tuple[str, ...] = ()
    logit_bias: tuple[tuple[int, float], ...] = ()
    """Pairs of one of the model's own tokens and what is added to its logit, from -100 (never) to 100."""


Prompt = str | tuple[int, ...]
"""A prompt that no chat template touches: a text, or the model's own tokens."""


class GenerateRequest(Struct, frozen=True):
    """One chat completion, or one completion of a bare `prompt`.

    The engine refuses before prefill a prompt over `max_prompt_tokens`
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
    slip: str = ""
    """The gateway's sealed slip, which the engine returns in its records as it came."""
    prompt: Prompt | None = None
    """Instead of `messages`, which are empty then."""
    calling: Calling | None = None
    response_format: ResponseFormat | None = None
    n: int = 1
    """How many answers, each of up to `max_completion_tokens`. The prompt is computed, and counts, once."""
    logprobs: int | None = None
    """Log probabilities of each token, and of so many of the likeliest beside it."""

    @property
    def needs(self) -> tuple[Feature, ...]:
        """What an engine must be able to do for this."""
        asked: dict[Feature, bool] = {
            "tools": self.calling is not None or any(_is_about_tools(message) for message in self.messages),
            "response_format": self.response_format is not None,
            "n": self.n > 1,
            "logprobs": self.logprobs is not None,
            "logit_bias": bool(self.sampling.logit_bias),
        }
        return tuple(feature for feature, is_asked in asked.items() if is_asked)

    @property
    def prompt_param(self) -> str:
        """What the client calls the part that became the prompt."""
        return "messages" if self.prompt is None else "prompt"


def _is_about_tools(message: Message) -> bool:
    return bool(message.tool_calls) or message.role == "tool"


class EmbedRequest(Struct, frozen=True):
    """Embeddings of `inputs`, in order."""

    request_id: str
    attempt: int
    model: str
    inputs: tuple[str, ...]
    max_prompt_tokens: int
    encoding_format: Literal["float", "base64"] = "float"
    slip: str = ""
    dimensions: int | None = None
    """How long each vector shall be; a model that cannot refuses it, and names it."""


class CountRequest(Struct, frozen=True):
    """How many tokens the prompt has, without running it: one of the fields."""

    messages: tuple[Message, ...] = ()
    inputs: tuple[str, ...] = ()
    prompt: Prompt | None = None
    tools: tuple[Tool, ...] = ()
    """Those that the model is shown with the messages."""


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
    stopped_by: int | None = None
    """Which of `Sampling.stop` ended it, by its place there: its text would go into records, and is the tenant's."""


class EngineRecord(Struct, frozen=True):
    """The engine's own witness: cumulative counts, written each second while it generates, and once with `end`.

    `slip` is what the gateway sealed at admission: ids and numbers by which the request is settled when its gateway
    is gone. Only gateways can read it, or make one.
    """

    request_id: str
    attempt: int
    counts: Counts
    end: End | None = None
    slip: str = ""


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
    features: tuple[str, ...] = ()
    """`Feature`s, and whatever a newer engine adds to them."""
