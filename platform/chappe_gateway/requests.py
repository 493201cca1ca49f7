"""OpenAI's request bodies, decoded strictly: what is not served is refused by its name, never ignored.

A field that OpenAI knows and Chappe does not serve passes only with a value that changes nothing (`n: 1`, `tools: []`).
`user`, `safety_identifier` and `prompt_cache_key` pass because they change no answer; they are dropped here and go
nowhere. `metadata` is refused unless empty: its sender expects it to be stored. `top_k`, `random_seed`, `safe_prompt`
and a message's `prefix` are Mistral's. A key given twice counts with its last value, as in every common JSON parser;
the engine never sees the client's bytes, so no other reading of them exists.
"""

import re
from collections.abc import Callable
from functools import cache
from operator import attrgetter
from typing import Any, Literal, NoReturn, TypeVar

import msgspec
from msgspec import UNSET, Struct, UnsetType

from chappe_kernel.errors import Invalid
from chappe_kernel.wire.engine import Message, Prompt, Sampling

T = TypeVar("T")

MAX_INPUTS = 2048
_MAX_STOPS = 4
_SEED_RANGE = (-(2**63), 2**63 - 1)
_EncodingFormat = Literal["float", "base64"]


class StreamOptions(Struct, forbid_unknown_fields=True):
    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class _MessageBody(Struct, forbid_unknown_fields=True):
    role: str
    content: str | list[dict[str, Any]] | None = None
    name: Any = None
    refusal: Any = None
    annotations: Any = None
    audio: Any = None
    tool_calls: Any = None
    tool_call_id: Any = None
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
    n: Any = None
    audio: Any = None
    function_call: Any = None
    functions: Any = None
    logit_bias: Any = None
    logprobs: Any = None
    metadata: Any = None
    modalities: Any = None
    moderation: Any = None
    parallel_tool_calls: Any = None
    prediction: Any = None
    prompt_cache_options: Any = None
    prompt_cache_retention: Any = None
    reasoning_effort: Any = None
    safe_prompt: Any = None
    response_format: Any = None
    service_tier: Any = None
    store: Any = None
    tool_choice: Any = None
    tools: Any = None
    top_logprobs: Any = None
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
    "n": (1,),
    "audio": (),
    "function_call": ("none", "auto"),
    "functions": ([],),
    "logit_bias": ({},),
    "logprobs": (False,),
    "metadata": ({},),
    "modalities": (["text"],),
    "moderation": (),
    "parallel_tool_calls": (True, False),
    "prediction": (),
    "prompt_cache_options": ({},),
    "prompt_cache_retention": ("in_memory", "in-memory"),
    "reasoning_effort": ("none",),
    "response_format": ({"type": "text"},),
    "safe_prompt": (False,),
    "service_tier": ("auto", "default", "standard_only"),
    "store": (False,),
    "tool_choice": ("none", "auto"),
    "tools": ([],),
    "top_logprobs": (0,),
    "verbosity": ("medium",),
    "web_search_options": (),
}
_HARMLESS_MESSAGE: dict[str, tuple[Any, ...]] = {
    "name": (),
    "refusal": (),
    "annotations": ([],),
    "audio": (),
    "tool_calls": ([],),
    "tool_call_id": (),
    "function_call": (),
    "prefix": (False,),
}
SAMPLING_RANGES: dict[str, tuple[float, float]] = {
    "temperature": (0, 2),
    "top_p": (0, 1),
    "frequency_penalty": (-2, 2),
    "presence_penalty": (-2, 2),
    "seed": _SEED_RANGE,
}
_CHAT_RANGES: dict[str, tuple[float, float]] = {
    **SAMPLING_RANGES,
    "random_seed": _SEED_RANGE,
    "top_k": (0, 2**31 - 1),
}

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
    refuse_unserved(request, _HARMLESS_CHAT, "")
    check_ranges(request, _CHAT_RANGES)
    if not request.messages:
        raise Invalid("`messages` must not be empty", code="empty_array", param="messages")
    max_tokens, max_tokens_param = _max_tokens(request)
    return ChatRequest(
        model=model,
        messages=tuple([_message(message, f"messages[{index}]") for index, message in enumerate(request.messages)]),
        sampling=Sampling(
            temperature=request.temperature,
            top_p=request.top_p,
            top_k=request.top_k,
            seed=_seed(request),
            frequency_penalty=request.frequency_penalty,
            presence_penalty=request.presence_penalty,
            stop=read_stops(request.stop),
        ),
        stream=bool(request.stream),
        include_usage=read_include_usage(request.stream, request.stream_options),
        max_tokens=max_tokens,
        max_tokens_param=max_tokens_param,
    )


def decode_embeddings(body: bytes, model: str | None = None) -> EmbeddingsRequest:
    """`model`, when the path names it, is the one, whatever the body says. Raises `Invalid` naming the parameter."""
    request = decode_body(_embeddings_decoder, body)
    model = named_model(request.model, model)
    if request.dimensions is not None and request.dimensions < 1:
        raise Invalid("`dimensions` must be at least 1", code="invalid_value", param="dimensions")
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


def named_model(in_body: str | UnsetType, in_path: str | None) -> str:
    """Raises `Invalid` when neither names one."""
    if in_path is not None:
        return in_path
    if isinstance(in_body, UnsetType):
        raise Invalid("`model` is missing", code="missing_required_parameter", param="model")
    return in_body


def decode_body(decoder: "msgspec.json.Decoder[T]", body: bytes) -> T:
    """Decode without letting the cause through: it may quote the body."""
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        failure = _explain(str(error))
    except msgspec.DecodeError:
        failure = Invalid("the body is not valid JSON", code="invalid_json")
    except UnicodeDecodeError:
        failure = Invalid("the body is not valid UTF-8", code="invalid_json")
    except RecursionError:
        failure = Invalid("the body is nested too deeply", code="invalid_json")
    raise failure from None


_WHERE = re.compile(r" - at `(?:key in )?\$\.?([^`]*)`$")
_FIELD = re.compile(r"(unknown|missing required) field `([^`]*)`")


def _explain(message: str) -> Invalid:
    """msgspec's message, with the parameter's name taken out of it."""
    where = _WHERE.search(message)
    path = where.group(1) if where else ""
    what = message[: where.start()] if where else message
    field = _FIELD.search(what)
    if field is None:
        return Invalid(f"{f'`{path}`: ' if path else ''}{what}", code="invalid_type", param=path or None)
    param = f"{path}.{field.group(2)}" if path else field.group(2)
    if field.group(1) == "unknown":
        return Invalid(f"unknown parameter `{param}`", code="unknown_parameter", param=param)
    return Invalid(f"`{param}` is missing", code="missing_required_parameter", param=param)


def check_ranges(body: Struct, ranges: dict[str, tuple[float, float]]) -> None:
    """Raises `Invalid`."""
    for name, (low, high) in ranges.items():
        value = getattr(body, name)
        if value is not None and not low <= value <= high:
            raise Invalid(f"`{name}` must be from {low} to {high}", code="invalid_value", param=name)


@cache
def _reader(names: tuple[str, ...]) -> tuple[Callable[[Any], Any], tuple[None, ...]]:
    """What reads all these fields at once, and what that gives if none is named."""
    # One twice, so that a tuple comes out of a single one too.
    return attrgetter(*names, names[0]), (None,) * (len(names) + 1)


def refuse_unserved(body: Struct, harmless: dict[str, tuple[Any, ...]], path: str) -> None:
    """Raises `Invalid` for a field with a value that would have to change the answer."""
    # Nearly every request names none of them, and finds that out at once.
    read, nothing = _reader(tuple(harmless))
    if read(body) == nothing:
        return
    for name, values in harmless.items():
        value = getattr(body, name)
        # The type counts too: to Python `true` equals 1.
        if value is not None and not any(type(value) is type(one) and value == one for one in values):
            refuse(path + name)


def refuse(param: str) -> NoReturn:
    """Raises `Invalid`."""
    raise Invalid(f"`{param}` with this value is not supported", code="unsupported_parameter", param=param)


def _max_tokens(request: _ChatBody) -> tuple[int | None, str]:
    old, new = request.max_tokens, request.max_completion_tokens
    if old is not None and new is not None and old != new:
        raise Invalid(
            "`max_tokens` and `max_completion_tokens` differ; send one of them",
            code="invalid_value",
            param="max_tokens",
        )
    value, param = (new, "max_completion_tokens") if new is not None else (old, "max_tokens")
    if value is not None and value < 1:
        raise Invalid(f"`{param}` must be at least 1", code="invalid_value", param=param)
    return value, param


def _seed(request: _ChatBody) -> int | None:
    """`random_seed` is Mistral's name of it."""
    if request.seed is not None and request.random_seed is not None and request.seed != request.random_seed:
        raise Invalid("`seed` and `random_seed` differ; send one of them", code="invalid_value", param="random_seed")
    return request.random_seed if request.seed is None else request.seed


def read_include_usage(stream: bool | None, options: StreamOptions | None) -> bool:  # noqa: FBT001  # the field's value
    """Raises `Invalid`."""
    if options is None:
        return False
    if not stream:
        raise Invalid("`stream_options` needs `stream: true`", code="invalid_value", param="stream_options")
    if options.include_obfuscation:
        refuse("stream_options.include_obfuscation")
    return bool(options.include_usage)


def read_stops(stop: str | list[str] | None, param: str = "stop", *, at_most: int = _MAX_STOPS) -> tuple[str, ...]:
    """Raises `Invalid`."""
    stops = () if stop is None else (stop,) if isinstance(stop, str) else tuple(stop)
    if len(stops) > at_most or not all(stops):
        raise Invalid(f"`{param}` takes up to {at_most} texts, none empty", code="invalid_value", param=param)
    for text in stops:
        check_text(text, param)
    return stops


def _message(message: _MessageBody, path: str) -> Message:
    refuse_unserved(message, _HARMLESS_MESSAGE, path + ".")
    match message.role:
        case "system" | "user" | "assistant" | "developer":
            return Message(message.role, _content(message.content, path + ".content"))
        case "tool" | "function":
            raise Invalid("tools are not supported", code="unsupported_value", param=f"{path}.role")
        case _:
            raise Invalid(
                f"`{path}.role` must be system, developer, user or assistant",
                code="invalid_value",
                param=f"{path}.role",
            )


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


def check_text(text: str, param: str) -> None:
    """Raises `Invalid`."""
    # Lone surrogates do not come so far: the decoder refuses them.
    if "\x00" in text:
        raise Invalid(f"`{param}` has a NUL character", code="invalid_value", param=param)
