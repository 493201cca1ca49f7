"""OpenAI's request bodies, decoded strictly: what is not served is refused by its name, never ignored.

A field that OpenAI knows and Chappe does not serve passes only with a value that changes nothing (`store: false`).
`user`, `safety_identifier` and `prompt_cache_key` pass because they change no answer; they are dropped here and go
nowhere. `metadata` is refused unless empty: its sender expects it to be stored. `top_k`, `random_seed`, `safe_prompt`
and a message's `prefix` are Mistral's. A key given twice counts with its last value, as in every common JSON parser;
the engine never sees the client's bytes, so no other reading of them exists.
"""

from typing import Any, Literal

import msgspec
from msgspec import UNSET, Struct, UnsetType

from chappe_gateway.dialects.chat_extras import read_calls, read_extras
from chappe_gateway.dialects.decoding import (
    SAMPLING_RANGES,
    SEED_RANGE,
    StreamOptions,
    check_positive,
    check_ranges,
    check_text,
    decode_body,
    named_model,
    none_given,
    none_of,
    read_include_usage,
    read_stops,
    refuse_unserved,
)
from chappe_gateway.dialects.extras import Extras, check_results, read_logit_bias
from chappe_kernel.errors import Invalid
from chappe_kernel.wire.engine import Message, Prompt, Sampling

MAX_INPUTS = 2048
_EncodingFormat = Literal["float", "base64"]


class _MessageBody(Struct, forbid_unknown_fields=True):
    role: str
    content: str | list[dict[str, Any]] | None = None
    name: Any = None
    refusal: Any = None
    annotations: Any = None
    audio: Any = None
    tool_calls: list[Any] | None = None
    tool_call_id: str | None = None
    function_call: Any = None
    prefix: Any = None


class _ChatBody(Struct, forbid_unknown_fields=True, kw_only=True):
    model: str | UnsetType = UNSET
    messages: list[_MessageBody]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    seed: int | None = None
    random_seed: int | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    stop: str | list[str] | None = None
    user: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    n: int | None = None
    tools: list[Any] | None = None
    tool_choice: Any = None
    parallel_tool_calls: bool | None = None
    response_format: Any = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    logit_bias: dict[str, float] | None = None
    audio: Any = None
    function_call: Any = None
    functions: Any = None
    metadata: Any = None
    modalities: Any = None
    moderation: Any = None
    prediction: Any = None
    prompt_cache_options: Any = None
    prompt_cache_retention: Any = None
    reasoning_effort: Any = None
    safe_prompt: Any = None
    service_tier: Any = None
    store: Any = None
    verbosity: Any = None
    web_search_options: Any = None


class _EmbeddingsBody(Struct, forbid_unknown_fields=True, kw_only=True):
    model: str | UnsetType = UNSET
    input: Any
    encoding_format: _EncodingFormat | None = None
    user: str | None = None
    dimensions: int | None = None


# The values with which a field that is not served still passes, besides null.
_HARMLESS_CHAT: dict[str, tuple[Any, ...]] = {
    "audio": (),
    "function_call": ("none", "auto"),
    "functions": ([],),
    "metadata": ({},),
    "modalities": (["text"],),
    "moderation": (),
    "prediction": (),
    "prompt_cache_options": ({},),
    "prompt_cache_retention": ("in_memory", "in-memory"),
    "reasoning_effort": ("none",),
    "safe_prompt": (False,),
    "service_tier": ("auto", "default", "standard_only"),
    "store": (False,),
    "verbosity": ("medium",),
    "web_search_options": (),
}
_ASKING = (
    "n",
    "tools",
    "tool_choice",
    "parallel_tool_calls",
    "response_format",
    "logprobs",
    "top_logprobs",
    "logit_bias",
)
_HARMLESS_MESSAGE: dict[str, tuple[Any, ...]] = {
    "name": (),
    "refusal": (),
    "annotations": ([],),
    "audio": (),
    "function_call": (),
    "prefix": (False,),
}
_HARMLESS_RESULT = {name: values for name, values in _HARMLESS_MESSAGE.items() if name != "name"}
_CHAT_RANGES: dict[str, tuple[float, float]] = {
    **SAMPLING_RANGES,
    "random_seed": SEED_RANGE,
    "top_k": (0, 2**31 - 1),
}

_is_plain = none_of(*_HARMLESS_CHAT, *_ASKING, *_CHAT_RANGES, "stop")
"""Whether nothing is asked for but text, sampled as usual: nothing of that needs a look, then."""
_is_text = none_of(*_HARMLESS_MESSAGE, "tool_calls", "tool_call_id")
_SPEAKERS: dict[str, Literal["system", "user", "assistant", "developer"]] = {
    "system": "system",
    "user": "user",
    "assistant": "assistant",
    "developer": "developer",
}
_AS_USUAL = Sampling()

_chat_decoder = msgspec.json.Decoder(_ChatBody)
_embeddings_decoder = msgspec.json.Decoder(_EmbeddingsBody)


class ChatRequest(Struct, frozen=True):
    """A chat completion, or a completion of a bare `prompt`, that can be served as far as its form goes."""

    model: str
    messages: tuple[Message, ...]
    sampling: Sampling
    stream: bool
    include_usage: bool
    max_tokens: int | None
    max_tokens_param: str
    prompt: Prompt | None = None
    """Instead of messages."""
    extras: Extras | None = None
    """None: nothing but text."""

    @property
    def choices(self) -> int:
        """How many answers."""
        return 1 if self.extras is None else self.extras.n


class EmbeddingsRequest(Struct, frozen=True):
    """Embeddings that can be served as far as the form goes."""

    model: str
    inputs: tuple[str, ...]
    encoding_format: _EncodingFormat
    dimensions: int | None = None


def decode_chat(body: bytes, model: str | None = None) -> ChatRequest:
    """`model`, when the path names it, is the one, whatever the body says. Raises `Invalid` naming the parameter."""
    request = decode_body(_chat_decoder, body)
    model = named_model(request.model, model)
    is_plain = _is_plain(request)
    if not is_plain:
        refuse_unserved(request, _HARMLESS_CHAT, "")
        check_ranges(request, _CHAT_RANGES)
    if not request.messages:
        raise Invalid("`messages` must not be empty", code="empty_array", param="messages")
    max_tokens, max_tokens_param = _max_tokens(request)
    messages = tuple(
        [_text(message) or _message(message, f"messages[{index}]") for index, message in enumerate(request.messages)]
    )
    logit_bias: tuple[tuple[int, float], ...] = ()
    extras = None
    asks_more = not (is_plain or none_given(request, _ASKING))
    if asks_more or any(message.role == "tool" or message.tool_calls for message in messages):
        check_results(messages, "messages")
        logit_bias = read_logit_bias(request.logit_bias)
        extras = read_extras(request, messages, logit_bias)
    return ChatRequest(
        model=model,
        messages=messages,
        sampling=_AS_USUAL if is_plain else _sampling(request, logit_bias),
        stream=bool(request.stream),
        include_usage=read_include_usage(request.stream, request.stream_options),
        max_tokens=max_tokens,
        max_tokens_param=max_tokens_param,
        extras=extras,
    )


def _sampling(request: _ChatBody, logit_bias: tuple[tuple[int, float], ...]) -> Sampling:
    return Sampling(
        temperature=request.temperature,
        top_p=request.top_p,
        top_k=request.top_k,
        seed=_seed(request),
        frequency_penalty=request.frequency_penalty,
        presence_penalty=request.presence_penalty,
        stop=read_stops(request.stop),
        logit_bias=logit_bias,
    )


def decode_embeddings(body: bytes, model: str | None = None) -> EmbeddingsRequest:
    """`model`, when the path names it, is the one, whatever the body says. Raises `Invalid` naming the parameter."""
    request = decode_body(_embeddings_decoder, body)
    model = named_model(request.model, model)
    check_positive(request.dimensions, "dimensions")
    inputs = [request.input] if isinstance(request.input, str) else request.input
    if not isinstance(inputs, list) or not inputs:
        raise Invalid("`input` must be a string or a list of strings", code="invalid_type", param="input")
    if len(inputs) > MAX_INPUTS:
        raise Invalid(f"`input` may have at most {MAX_INPUTS} entries", code="array_too_long", param="input")
    for text in inputs:
        if not isinstance(text, str):
            raise Invalid(
                "`input` must be a string or a list of strings; token arrays are not supported",
                code="unsupported_value",
                param="input",
            )
        if not text:
            raise Invalid("`input` must not have an empty string", code="invalid_value", param="input")
        check_text(text, "input")
    return EmbeddingsRequest(model, tuple(inputs), request.encoding_format or "float", request.dimensions)


def _max_tokens(request: _ChatBody) -> tuple[int | None, str]:
    old, new = request.max_tokens, request.max_completion_tokens
    if old is not None and new is not None and old != new:
        raise Invalid(
            "`max_tokens` and `max_completion_tokens` differ; send one of them",
            code="invalid_value",
            param="max_tokens",
        )
    value, param = (new, "max_completion_tokens") if new is not None else (old, "max_tokens")
    check_positive(value, param)
    return value, param


def _seed(request: _ChatBody) -> int | None:
    """`random_seed` is Mistral's name of it."""
    if request.seed is not None and request.random_seed is not None and request.seed != request.random_seed:
        raise Invalid("`seed` and `random_seed` differ; send one of them", code="invalid_value", param="random_seed")
    return request.random_seed if request.seed is None else request.seed


def _text(message: _MessageBody) -> Message | None:
    """A message of text alone, as nearly all are; None for any other, and for whatever is wrong."""
    role, content = _SPEAKERS.get(message.role), message.content
    if role is None or not isinstance(content, str) or "\x00" in content or not _is_text(message):
        return None
    return Message(role, content)


def _message(message: _MessageBody, path: str) -> Message:
    if message.role == "tool":
        return _result(message, path)
    refuse_unserved(message, _HARMLESS_MESSAGE, path + ".")
    if message.tool_call_id is not None:
        raise Invalid("only a tool's message has it", code="invalid_value", param=f"{path}.tool_call_id")
    match message.role:
        case "assistant" if message.tool_calls:
            text = _content(message.content, path + ".content") if message.content else ""
            return Message("assistant", text, read_calls(message.tool_calls, path + ".tool_calls"))
        case "system" | "user" | "assistant" | "developer" if not message.tool_calls:
            return Message(message.role, _content(message.content, path + ".content"))
        case "system" | "user" | "developer":
            raise Invalid("only an assistant's message has it", code="invalid_value", param=f"{path}.tool_calls")
        case _:
            raise Invalid(
                f"`{path}.role` must be system, developer, user, assistant or tool",
                code="invalid_value",
                param=f"{path}.role",
            )


def _result(message: _MessageBody, path: str) -> Message:
    """What a tool gave. Its `name`, which Mistral's clients send, is known by the call."""
    refuse_unserved(message, _HARMLESS_RESULT, path + ".")
    if message.tool_calls:
        raise Invalid("only an assistant's message has it", code="invalid_value", param=f"{path}.tool_calls")
    if message.tool_call_id is None:
        param = f"{path}.tool_call_id"
        raise Invalid(f"`{param}` is missing", code="missing_required_parameter", param=param)
    check_text(message.tool_call_id, f"{path}.tool_call_id")
    text = _content(message.content, path + ".content") if message.content != "" else ""
    return Message("tool", text, tool_call_id=message.tool_call_id)


def _content(content: str | list[dict[str, Any]] | None, path: str) -> str:
    if content is None or content == []:
        raise Invalid(f"`{path}` must be a text", code="invalid_type", param=path)
    if isinstance(content, list):
        content = "\n".join(_part(part, f"{path}[{index}]") for index, part in enumerate(content))
    check_text(content, path)
    return content


def _part(part: dict[str, Any], path: str) -> str:
    if part.get("type") != "text":
        raise Invalid("only parts of type `text` are supported", code="unsupported_value", param=f"{path}.type")
    text = part.get("text")
    if not isinstance(text, str):
        raise Invalid(f"`{path}.text` must be a text", code="invalid_type", param=f"{path}.text")
    for name in part:
        if name not in ("type", "text"):
            raise Invalid(f"unknown parameter `{path}.{name}`", code="unknown_parameter", param=f"{path}.{name}")
    return text
