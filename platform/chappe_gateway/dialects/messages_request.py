"""Anthropic's request bodies, decoded strictly into the gateway's own: what is not served is refused by its name.

`cache_control` passes as a hint that changes no answer: prompts are cached here without being asked, within the tenant.
`metadata.user_id` passes and goes nowhere, as OpenAI's `user`.
"""

from typing import Any, Literal, NoReturn

import msgspec
from msgspec import Struct

from chappe_gateway.dialects.decoding import (
    check_positive,
    check_ranges,
    check_text,
    decode_body,
    decode_part,
    read_stops,
    refuse,
    refuse_unserved,
)
from chappe_gateway.dialects.extras import Extras, check_results, read_call
from chappe_gateway.dialects.messages_extras import CacheControl, MessagesChoice, MessagesOutput, read_messages_extras
from chappe_gateway.dialects.openai_request import ChatRequest
from chappe_kernel.errors import Invalid
from chappe_kernel.wire.engine import Message, Sampling, ToolCall

_MAX_STOPS = 64
_MAX_TOP_K = 2**31 - 1
Role = Literal["user", "assistant"]


class _Block(Struct):
    """Any block: its other fields depend on its type, and only text is served."""

    type: str
    text: str | None = None
    cache_control: CacheControl | None = None


class _ToolUse(Struct, forbid_unknown_fields=True, tag_field="type", tag="tool_use"):
    id: str
    name: str
    input: dict[str, Any]
    cache_control: CacheControl | None = None


class _ToolResult(Struct, forbid_unknown_fields=True, tag_field="type", tag="tool_result"):
    tool_use_id: str
    content: str | list[dict[str, Any]] | None = None
    is_error: bool | None = None
    cache_control: CacheControl | None = None


class _MessageBody(Struct, forbid_unknown_fields=True):
    role: str
    content: str | list[dict[str, Any]]


class _Metadata(Struct, forbid_unknown_fields=True):
    user_id: str | None = None


class _CountBody(Struct, forbid_unknown_fields=True, kw_only=True):
    """What `count_tokens` takes; `/v1/messages` takes the same and more."""

    model: str
    messages: list[_MessageBody]
    system: str | list[dict[str, Any]] | None = None
    cache_control: CacheControl | None = None
    output_config: MessagesOutput | None = None
    tool_choice: MessagesChoice | None = None
    tools: list[Any] | None = None
    speed: Any = None
    thinking: Any = None
    user_profile_id: Any = None
    workspace_id: Any = None


class _MessagesBody(_CountBody, forbid_unknown_fields=True, kw_only=True):
    max_tokens: int
    stream: bool | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    stop_sequences: list[str] | None = None
    metadata: _Metadata | None = None
    container: Any = None
    context_management: Any = None
    diagnostics: Any = None
    inference_geo: Any = None
    mcp_servers: Any = None
    service_tier: Any = None


# The values with which a field that is not served still passes, besides null.
_HARMLESS_COUNT: dict[str, tuple[Any, ...]] = {
    "speed": ("standard",),
    "thinking": ({"type": "disabled"},),
    "user_profile_id": (),
    "workspace_id": (),
}
_HARMLESS: dict[str, tuple[Any, ...]] = {
    **_HARMLESS_COUNT,
    "container": (),
    "context_management": (),
    "diagnostics": (),
    # Where it may run is said with `x-chappe-region`, which is kept to.
    "inference_geo": (),
    "mcp_servers": ([],),
    "service_tier": ("auto", "standard_only"),
}
_RANGES: dict[str, tuple[float, float]] = {"temperature": (0, 1), "top_p": (0, 1), "top_k": (0, _MAX_TOP_K)}
_BLOCK_FIELDS = ("type", "text", "cache_control", "citations")

_decoder = msgspec.json.Decoder(_MessagesBody)
_count_decoder = msgspec.json.Decoder(_CountBody)


class Counting(Struct, frozen=True):
    """A prompt whose tokens are asked for."""

    model: str
    messages: tuple[Message, ...]
    extras: Extras | None


def decode_messages(body: bytes) -> ChatRequest:
    """Raises `Invalid` naming the parameter."""
    request = decode_body(_decoder, body)
    refuse_unserved(request, _HARMLESS, "")
    check_ranges(request, _RANGES)
    check_positive(request.max_tokens, "max_tokens")
    messages = _conversation(request)
    return ChatRequest(
        model=request.model,
        messages=messages,
        sampling=Sampling(
            temperature=request.temperature,
            top_p=request.top_p,
            top_k=request.top_k,
            stop=read_stops(request.stop_sequences, "stop_sequences", at_most=_MAX_STOPS),
        ),
        stream=bool(request.stream),
        include_usage=False,
        max_tokens=request.max_tokens,
        max_tokens_param="max_tokens",
        extras=_extras(request, messages),
    )


def decode_count(body: bytes) -> Counting:
    """Raises `Invalid` naming the parameter."""
    request = decode_body(_count_decoder, body)
    refuse_unserved(request, _HARMLESS_COUNT, "")
    messages = _conversation(request)
    return Counting(request.model, messages, _extras(request, messages))


def _extras(request: _CountBody, messages: tuple[Message, ...]) -> Extras | None:
    return read_messages_extras(request.tools, request.tool_choice, request.output_config, messages)


def _conversation(request: _CountBody) -> tuple[Message, ...]:
    """The system's words first; what one side says in several messages in a row is one turn, as Anthropic has it."""
    if not request.messages:
        raise Invalid("`messages` must not be empty", code="empty_array", param="messages")
    turns: list[Message] = []
    if request.system:
        turns.append(Message("system", _text(request.system, "system")))
    for index, message in enumerate(request.messages):
        path = f"messages[{index}]"
        role = _role(message.role, f"{path}.role")
        for said in _said(role, message.content, f"{path}.content"):
            _append(turns, said)
    check_results(turns, "messages")
    return tuple(turns)


def _append(turns: list[Message], said: Message) -> None:
    last = turns[-1] if turns else None
    if last is None or last.role != said.role or said.role == "tool":
        turns.append(said)
        return
    text = "\n".join(filter(None, (last.content, said.content)))
    turns[-1] = Message(last.role, text, (*last.tool_calls, *said.tool_calls))


def _said(role: Role, content: str | list[dict[str, Any]], path: str) -> list[Message]:
    """One message of a client's is several of an engine's when it brings tools' results."""
    if isinstance(content, str):
        return [Message(role, _text(content, path))]
    said: list[Message] = []
    for index, block in enumerate(content):
        where = f"{path}[{index}]"
        match role, block.get("type"):
            case "assistant", "tool_use":
                said.append(Message("assistant", "", (_called(block, where),)))
            case "user", "tool_result":
                said.append(_result(block, where))
            case _:
                said.append(Message(role, _text([block], path, index)))
    if not said:
        raise Invalid(f"`{path}` must not be empty", code="invalid_value", param=path)
    return said


def _called(block: dict[str, Any], path: str) -> ToolCall:
    called = decode_part(block, _ToolUse, path)
    return read_call(called.id, called.name, called.input, path)


def _result(block: dict[str, Any], path: str) -> Message:
    result = decode_part(block, _ToolResult, path)
    check_text(result.tool_use_id, f"{path}.tool_use_id")
    text = _text(result.content, f"{path}.content") if result.content else ""
    return Message("tool", f"Error: {text}" if result.is_error else text, tool_call_id=result.tool_use_id)


def _role(role: str, path: str) -> Role:
    match role:
        case "user" | "assistant":
            return role
        case _:
            raise Invalid(f"`{path}` must be user or assistant", code="invalid_value", param=path)


def _text(content: str | list[dict[str, Any]], path: str, first: int = 0) -> str:
    """`first`: the number of the first of these blocks."""
    if isinstance(content, list):
        content = "\n".join(_block_text(block, f"{path}[{index}]") for index, block in enumerate(content, first))
    if not content:
        raise Invalid(f"`{path}` must not be empty", code="invalid_value", param=path)
    check_text(content, path)
    return content


def _block_text(block: dict[str, Any], path: str) -> str:
    if block.get("type") != "text":
        raise Invalid("blocks of this type are not supported here", code="unsupported_value", param=f"{path}.type")
    for name in block:
        if name not in _BLOCK_FIELDS:
            raise Invalid(f"unknown parameter `{path}.{name}`", code="unknown_parameter", param=f"{path}.{name}")
    if block.get("citations"):
        refuse(f"{path}.citations")
    try:
        text = msgspec.convert(block, _Block).text
    except msgspec.ValidationError:
        _refuse_block(path)
    if text is None:
        _refuse_block(path)
    return text


def _refuse_block(path: str) -> NoReturn:
    raise Invalid(
        f"`{path}` must have a `text`, and may have a `cache_control` of type `ephemeral`",
        code="invalid_type",
        param=path,
    )
