"""The Responses API's request bodies, decoded strictly into the gateway's own."""

from typing import Any, Literal

import msgspec
from msgspec import UNSET, Struct, UnsetType
from msgspec.structs import replace

from chappe_gateway.dialects.decoding import (
    SAMPLING_RANGES,
    StreamOptions,
    check_fields,
    check_metadata,
    check_positive,
    check_ranges,
    check_text,
    decode_body,
    decode_part,
    named_model,
    read_include_usage,
    refuse,
    refuse_unserved,
)
from chappe_gateway.dialects.extras import check_results, read_call, read_likeliest, with_context
from chappe_gateway.dialects.openai_request import ChatRequest
from chappe_gateway.dialects.responses_extras import Echo, ResponsesText, read_responses_extras
from chappe_kernel.errors import Invalid
from chappe_kernel.wire.engine import Message, Sampling

_RANGES = {name: SAMPLING_RANGES[name] for name in ("temperature", "top_p")}
_TEXT_PARTS = {"user": "input_text", "system": "input_text", "developer": "input_text", "assistant": "output_text"}


class _Body(Struct, forbid_unknown_fields=True, kw_only=True):
    model: str | UnsetType = UNSET
    input: str | list[dict[str, Any]]
    instructions: str | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_output_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    parallel_tool_calls: bool | None = None
    user: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    text: ResponsesText | None = None
    tool_choice: Any = None
    tools: list[Any] | None = None
    access_programs: Any = None
    background: Any = None
    background_options: Any = None
    context_management: Any = None
    conversation: Any = None
    image: Any = None
    include: list[Any] | None = None
    max_tool_calls: Any = None
    metadata: dict[str, str] | None = None
    moderation: Any = None
    previous_response_id: str | None = None
    prompt: Any = None
    prompt_cache_options: Any = None
    prompt_cache_retention: Any = None
    reasoning: Any = None
    service_tier: Any = None
    store: bool | None = None
    top_logprobs: int | None = None
    truncation: Any = None


# The values with which a field that is not served still passes, besides null.
_HARMLESS: dict[str, tuple[Any, ...]] = {
    "access_programs": ({},),
    "background": (False,),
    "background_options": ({},),
    "context_management": ([],),
    "conversation": (),
    "image": (),
    "max_tool_calls": (),
    "moderation": (),
    "prompt": (),
    "prompt_cache_options": ({},),
    "prompt_cache_retention": ("in_memory",),
    "reasoning": tuple(
        {**effort, **summary}
        for effort in ({}, {"effort": None}, {"effort": "none"})
        for summary in ({}, {"summary": None})
    ),
    "service_tier": ("auto", "default"),
    "truncation": ("disabled",),
}
# What stands in an answer's message when a client sends it back as input, and changes nothing.
_HARMLESS_ITEM: dict[str, tuple[Any, ...]] = {
    "type": ("message",),
    "phase": ("final_answer",),
    "status": ("completed", "incomplete"),
}
_HARMLESS_PART: dict[str, tuple[Any, ...]] = {"annotations": ([],), "logprobs": ([],)}
INCLUDABLE = "message.output_text.logprobs"
_COUNTED = frozenset(
    {
        "model",
        "input",
        "instructions",
        "parallel_tool_calls",
        "previous_response_id",
        "reasoning",
        "text",
        "tool_choice",
        "tools",
        "truncation",
        "conversation",
    }
)
_decoder = msgspec.json.Decoder(_Body)
_fields_decoder = msgspec.json.Decoder(dict[str, msgspec.Raw])


class _FunctionCall(Struct, forbid_unknown_fields=True, tag_field="type", tag="function_call"):
    call_id: str
    name: str
    arguments: str
    id: str | None = None
    status: Literal["in_progress", "completed", "incomplete"] | None = None


class _FunctionCallOutput(Struct, forbid_unknown_fields=True, tag_field="type", tag="function_call_output"):
    call_id: str
    output: str | list[dict[str, Any]]
    id: str | None = None
    status: Literal["in_progress", "completed", "incomplete"] | None = None


class Asked(Struct, frozen=True):
    """A request, and what of it the answer repeats."""

    chat: ChatRequest
    own: tuple[Message, ...]
    """The messages of its own input."""
    instructions: str | None
    max_output_tokens: int | None
    parallel_tool_calls: bool
    echo: Echo
    store: bool | None
    metadata: dict[str, str]
    likeliest: int | None
    """Of `top_logprobs`, as it was asked."""
    previous: str | None
    """The id of the response that it follows."""

    def after(self, before: tuple[Message, ...]) -> "Asked":
        """The same, with what was said before between its instructions and its own input. Instructions are this
        turn's alone, as OpenAI has it."""
        if not before:
            return self
        check_results((*before, *self.own), "input")
        instructions = self.chat.messages[: len(self.chat.messages) - len(self.own)]
        chat = replace(
            self.chat,
            messages=(*instructions, *before, *self.own),
            extras=with_context(self.chat.extras, before),
        )
        return replace(self, chat=chat)


def decode_response(body: bytes, model: str | None = None) -> Asked:
    """`model`, when the path names it, is the one. Raises `Invalid` naming the parameter."""
    request = decode_body(_decoder, body)
    model = named_model(request.model, model)
    refuse_unserved(request, _HARMLESS, "")
    check_ranges(request, _RANGES)
    check_positive(request.max_output_tokens, "max_output_tokens")
    check_metadata(request.metadata)
    _check_stream_options(request)
    own = _messages(request)
    messages = (*_instructions(request), *own)
    extras, echo = read_responses_extras(
        request.tools,
        request.tool_choice,
        request.text,
        messages,
        parallel=request.parallel_tool_calls is not False,
        logprobs=_logprobs(request),
    )
    chat = ChatRequest(
        model=model,
        messages=messages,
        sampling=Sampling(temperature=request.temperature, top_p=request.top_p),
        stream=bool(request.stream),
        include_usage=False,
        max_tokens=request.max_output_tokens,
        max_tokens_param="max_output_tokens",
        extras=extras,
    )
    return Asked(
        chat=chat,
        own=own,
        instructions=request.instructions,
        max_output_tokens=request.max_output_tokens,
        parallel_tool_calls=request.parallel_tool_calls is not False,
        echo=echo,
        store=request.store,
        metadata=request.metadata or {},
        likeliest=request.top_logprobs,
        previous=request.previous_response_id,
    )


def decode_counted(body: bytes) -> Asked:
    """A request whose prompt is to be counted: it says nothing of the answer. Raises `Invalid`."""
    asked = decode_response(body)
    for name in decode_body(_fields_decoder, body):
        if name not in _COUNTED:
            raise Invalid(f"unknown parameter `{name}`", code="unknown_parameter", param=name)
    return asked


def _check_stream_options(request: _Body) -> None:
    options = request.stream_options
    if options is None:
        return
    if options.include_usage is not None:
        raise Invalid(
            "unknown parameter `stream_options.include_usage`: the usage is always told",
            code="unknown_parameter",
            param="stream_options.include_usage",
        )
    # The rest is as in every other API of OpenAI's.
    read_include_usage(request.stream, options)


def _logprobs(request: _Body) -> int | None:
    included = request.include or ()
    for index, name in enumerate(included):
        if name != INCLUDABLE:
            refuse(f"include[{index}]")
    return read_likeliest(request.top_logprobs, is_asked=bool(included), switch=f'include: ["{INCLUDABLE}"]')


def _instructions(request: _Body) -> tuple[Message, ...]:
    if not request.instructions:
        return ()
    check_text(request.instructions, "instructions")
    return (Message("developer", request.instructions),)


def _messages(request: _Body) -> tuple[Message, ...]:
    messages: list[Message] = []
    if isinstance(request.input, str):
        check_text(request.input, "input")
        messages.append(Message("user", request.input))
    else:
        for index, item in enumerate(request.input):
            _append(messages, _item(item, f"input[{index}]"))
        if request.previous_response_id is None:
            # Else they may answer what was called in an earlier turn, which is not known yet.
            check_results(messages, "input")
    if not request.input:
        raise Invalid("`input` must not be empty", code="empty_array", param="input")
    return tuple(messages)


def _append(messages: list[Message], said: Message) -> None:
    """Calls belong to the assistant's turn that they follow."""
    last = messages[-1] if messages else None
    if said.tool_calls and last is not None and last.role == "assistant":
        messages[-1] = Message("assistant", last.content, (*last.tool_calls, *said.tool_calls))
    else:
        messages.append(said)


def _item(item: dict[str, Any], path: str) -> Message:
    match item.get("type"):
        case None | "message":
            return _message(item, path)
        case "function_call":
            called = decode_part(item, _FunctionCall, path)
            return Message("assistant", "", (read_call(called.call_id, called.name, called.arguments, path),))
        case "function_call_output":
            result = decode_part(item, _FunctionCallOutput, path)
            check_text(result.call_id, f"{path}.call_id")
            text = _text(result.output, "input_text", f"{path}.output")
            return Message("tool", text, tool_call_id=result.call_id)
        case _:
            raise Invalid("items of this type are not supported", code="unsupported_value", param=f"{path}.type")


def _message(item: dict[str, Any], path: str) -> Message:
    check_fields(item, ("role", "content", "id"), _HARMLESS_ITEM, path)
    match item.get("role"):
        case "system" | "user" | "assistant" | "developer" as role:
            return Message(role, _text(item.get("content"), _TEXT_PARTS[role], f"{path}.content"))
        case _:
            raise Invalid(
                f"`{path}.role` must be system, developer, user or assistant",
                code="invalid_value",
                param=f"{path}.role",
            )


def _text(content: Any, kind: str, path: str) -> str:
    if isinstance(content, list) and content:
        content = "\n".join(_part(part, kind, f"{path}[{index}]") for index, part in enumerate(content))
    if not isinstance(content, str):
        raise Invalid(f"`{path}` must be a text, or parts of type `{kind}`", code="invalid_type", param=path)
    check_text(content, path)
    return content


def _part(part: Any, kind: str, path: str) -> str:
    if not isinstance(part, dict) or not isinstance(part.get("text"), str | None):
        raise Invalid(f"`{path}` must be a part with a text", code="invalid_type", param=path)
    if part.get("type") != kind:
        raise Invalid(f"only parts of type `{kind}` are supported here", code="unsupported_value", param=f"{path}.type")
    served: tuple[str, ...] = ("type", "text")
    if kind == "output_text" and isinstance(part.get("logprobs"), list):
        # What an answer said of its own words comes back with them, and tells the model nothing.
        served = (*served, "logprobs")
    check_fields({name: value for name, value in part.items() if name not in served}, (), _HARMLESS_PART, path)
    text = part.get("text")
    if not isinstance(text, str):
        raise Invalid(f"`{path}.text` must be a text", code="invalid_type", param=f"{path}.text")
    return text
