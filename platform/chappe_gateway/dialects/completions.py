"""POST /v1/completions: text that goes on from a prompt, without a chat template."""

from functools import partial
from typing import Any

import msgspec
from msgspec import UNSET, Struct, UnsetType

from chappe_gateway.admission import identify
from chappe_gateway.dialects.chat import generate
from chappe_gateway.dialects.decoding import (
    SAMPLING_RANGES,
    StreamOptions,
    check_positive,
    check_ranges,
    check_text,
    decode_body,
    named_model,
    read_include_usage,
    read_stops,
    refuse,
    refuse_unserved,
)
from chappe_gateway.dialects.dialect import Words, read_events, read_whole
from chappe_gateway.dialects.extras import collect_extras, read_choices, read_logit_bias
from chappe_gateway.dialects.openai_request import ChatRequest
from chappe_gateway.edge.call import Call
from chappe_gateway.edge.errors import answer_for
from chappe_gateway.engines.events import BadStream
from chappe_gateway.gateway import Gateway
from chappe_kernel.errors import ChappeError, Invalid
from chappe_kernel.rating import Counts
from chappe_kernel.wire.control import UsageEvent
from chappe_kernel.wire.engine import End, FinishReason, Prompt, Sampling, Start

PATH = "/v1/completions"
_DEFAULT_MAX_TOKENS = 16
"""OpenAI's."""
_PARAMS = {"max_completion_tokens": "max_tokens"}
"""An engine knows only its own name of it."""
_MAX_TOKEN = 2**31 - 1
_MAX_LIKELIEST = 5
_DONE = b"data: [DONE]\n\n"


class _Body(Struct, forbid_unknown_fields=True, kw_only=True):
    model: str | UnsetType = UNSET
    prompt: Any
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    stop: str | list[str] | None = None
    user: str | None = None
    n: int | None = None
    logprobs: int | None = None
    logit_bias: dict[str, float] | None = None
    best_of: Any = None
    echo: Any = None
    suffix: Any = None


# The values with which a field that is not served still passes, besides null.
_HARMLESS: dict[str, tuple[Any, ...]] = {
    "best_of": (1,),
    "echo": (False,),
    "suffix": ("",),
}
_decoder = msgspec.json.Decoder(_Body)


async def serve_completions(gateway: Gateway, call: Call, path: str = PATH, model: str | None = None) -> None:
    """Answer one completion. `model`: the path's. Raises what the client is to be told."""
    call.error_answer = partial(answer_for, names=_PARAMS)
    call.expect_method("POST")
    visitor = await identify(gateway, call, path)
    body = await call.read_json_body(gateway.settings.max_body_bytes, gateway.settings.body_timeout_s)
    request = decode_completion(body, model)
    told = _Telling(call.public_id, int(call.started_at.timestamp()), request)
    await generate(gateway, call, visitor, request, body=body, dialect=told)


def decode_completion(body: bytes, model: str | None = None) -> ChatRequest:
    """Raises `Invalid` naming the parameter."""
    request = decode_body(_decoder, body)
    model = named_model(request.model, model)
    refuse_unserved(request, _HARMLESS, "")
    check_ranges(request, SAMPLING_RANGES)
    check_positive(request.max_tokens, "max_tokens")
    if request.logprobs is not None and not 0 <= request.logprobs <= _MAX_LIKELIEST:
        raise Invalid(f"`logprobs` must be from 0 to {_MAX_LIKELIEST}", code="invalid_value", param="logprobs")
    logit_bias = read_logit_bias(request.logit_bias)
    extras = collect_extras((), n=read_choices(request.n), logprobs=request.logprobs, logit_bias=logit_bias)
    return ChatRequest(
        model=model,
        messages=(),
        sampling=Sampling(
            temperature=request.temperature,
            top_p=request.top_p,
            seed=request.seed,
            frequency_penalty=request.frequency_penalty,
            presence_penalty=request.presence_penalty,
            stop=read_stops(request.stop),
            logit_bias=logit_bias,
        ),
        stream=bool(request.stream),
        include_usage=read_include_usage(request.stream, request.stream_options),
        max_tokens=_DEFAULT_MAX_TOKENS if request.max_tokens is None else request.max_tokens,
        max_tokens_param="max_tokens",
        prompt=_prompt(request.prompt),
        extras=extras,
    )


def _prompt(value: Any) -> Prompt:
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], str | list):
        value = value[0]
    if isinstance(value, str):
        check_text(value, "prompt")
    elif isinstance(value, list) and value and all(type(token) is int for token in value):
        if not all(0 <= token <= _MAX_TOKEN for token in value):
            raise Invalid("`prompt` has a number that is no token", code="invalid_value", param="prompt")
        return tuple(value)
    elif isinstance(value, list) and value and all(isinstance(part, str | list) for part in value):
        refuse("prompt")
    else:
        raise Invalid("`prompt` must be a text or an array of tokens", code="invalid_type", param="prompt")
    if not value:
        raise Invalid("`prompt` must not be empty", code="invalid_value", param="prompt")
    return value


class _Logprobs(Struct):
    """OpenAI's older form: columns instead of rows. `text_offset` counts characters of the answer."""

    tokens: list[str]
    token_logprobs: list[float]
    top_logprobs: list[dict[str, float]]
    text_offset: list[int]


class _Choice(Struct):
    text: str
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
    usage: _Usage | UnsetType | None = UNSET
    object: str = "text_completion"


class _Telling:
    """One answer in the words of `/v1/completions`, in one piece or as a stream. Implements `Dialect`, `Telling`."""

    def __init__(self, request_id: str, created: int, request: ChatRequest) -> None:
        self._id = f"cmpl-{request_id}"
        self._created = created
        self._request = request
        self._told_characters = [0] * request.choices

    def whole(self, body: bytes, end: End) -> bytes:
        choices = [self._choice(words) for words in read_whole(body)]
        return msgspec.json.encode(self._completion(choices, _usage(end.counts)))

    def stream(self) -> "_Telling":
        return self

    def events(self, passing: bytes, start: Start) -> bytes:  # the port's; nothing of it is told
        usage = None if self._request.include_usage else UNSET
        said = [
            words for words in read_events(passing) if words.text or words.logprobs or words.finish_reason is not None
        ]
        return b"".join([self._event([self._choice(words)], usage) for words in said])

    def last(self, event: UsageEvent, end: End) -> bytes:  # the port's; the event is what is charged
        return (self._event([], _usage(event.counts)) if self._request.include_usage else b"") + _DONE

    def failure(self, error: ChappeError) -> bytes:
        return b"data: " + answer_for(error).body + b"\n\n"

    def _choice(self, words: Words) -> _Choice:
        if words.choice >= self._request.choices:
            raise BadStream("there is no such choice")
        return _Choice(words.text, words.finish_reason, words.choice, self._logprobs(words))

    def _logprobs(self, words: Words) -> _Logprobs | None:
        asked = None if self._request.extras is None else self._request.extras.logprobs
        if asked is None:
            return None
        told = _Logprobs([], [], [], [])
        for token in words.logprobs:
            told.tokens.append(token.token)
            told.token_logprobs.append(token.logprob)
            told.top_logprobs.append({likely.token: likely.logprob for likely in token.top_logprobs})
            told.text_offset.append(self._told_characters[words.choice])
            self._told_characters[words.choice] += len(token.token)
        return told

    def _event(self, choices: list[_Choice], usage: _Usage | UnsetType | None) -> bytes:
        return b"data: " + msgspec.json.encode(self._completion(choices, usage)) + b"\n\n"

    def _completion(self, choices: list[_Choice], usage: _Usage | UnsetType | None) -> _Completion:
        return _Completion(self._id, self._created, self._request.model, choices, usage)


def _usage(counts: Counts) -> _Usage:
    return _Usage(
        counts.prompt_tokens,
        counts.completion_tokens,
        counts.prompt_tokens + counts.completion_tokens,
        _PromptDetails(counts.cached_tokens),
    )
