"""How OpenAI's chat completions ask for more than text; Mistral's words for the same are `any` and an object of
arguments."""

from typing import Any, Literal, Protocol

from msgspec import Struct

from chappe_gateway.dialects.decoding import check_type, decode_part
from chappe_gateway.dialects.extras import (
    ANY_OBJECT,
    Choice,
    Extras,
    check_format_name,
    collect_extras,
    read_call,
    read_calling,
    read_choices,
    read_format,
    read_likeliest,
    read_tool,
)
from chappe_kernel.errors import Invalid
from chappe_kernel.wire.engine import Calling, Message, ResponseFormat, Tool, ToolCall


class _Function(Struct, forbid_unknown_fields=True):
    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class _Tool(Struct, forbid_unknown_fields=True):
    type: Literal["function"]
    function: _Function


class _Named(Struct, forbid_unknown_fields=True):
    name: str


class _NamedTool(Struct, forbid_unknown_fields=True):
    function: _Named
    type: Literal["function"] = "function"


class _AllowedTools(Struct, forbid_unknown_fields=True):
    mode: Literal["auto", "required"]
    tools: list[_NamedTool]


class _Allowed(Struct, forbid_unknown_fields=True, tag_field="type", tag="allowed_tools"):
    allowed_tools: _AllowedTools


class _Forced(Struct, forbid_unknown_fields=True, tag_field="type", tag="function"):
    function: _Named


class _JsonSchema(Struct, forbid_unknown_fields=True):
    name: str
    schema: dict[str, Any] | None = None
    description: str | None = None
    strict: bool | None = None


class _TextFormat(Struct, forbid_unknown_fields=True, tag_field="type", tag="text"):
    pass


class _ObjectFormat(Struct, forbid_unknown_fields=True, tag_field="type", tag="json_object"):
    pass


class _SchemaFormat(Struct, forbid_unknown_fields=True, tag_field="type", tag="json_schema"):
    json_schema: _JsonSchema


_Format = _TextFormat | _ObjectFormat | _SchemaFormat


class _CalledFunction(Struct, forbid_unknown_fields=True):
    name: str
    arguments: str | dict[str, Any]


class _Called(Struct, forbid_unknown_fields=True):
    id: str
    function: _CalledFunction
    type: Literal["function"] = "function"
    index: int | None = None


class Asking(Protocol):
    """A body's fields that ask for more than text."""

    n: int | None
    tools: list[Any] | None
    tool_choice: Any
    parallel_tool_calls: bool | None
    response_format: Any
    logprobs: bool | None
    top_logprobs: int | None


def read_extras(
    body: Asking, messages: tuple[Message, ...], logit_bias: tuple[tuple[int, float], ...]
) -> Extras | None:
    """Raises `Invalid` naming the parameter."""
    return collect_extras(
        messages,
        calling=_calling(body),
        response_format=_response_format(body.response_format),
        n=read_choices(body.n),
        logprobs=read_likeliest(body.top_logprobs, is_asked=bool(body.logprobs), switch="logprobs: true"),
        logit_bias=logit_bias,
    )


def read_calls(calls: list[Any], path: str) -> tuple[ToolCall, ...]:
    """An assistant's calls in a prompt. Raises `Invalid`."""
    read: list[ToolCall] = []
    for index, value in enumerate(calls):
        called = decode_part(value, _Called, f"{path}[{index}]")
        where = f"{path}[{index}].function"
        read.append(read_call(called.id, called.function.name, called.function.arguments, where))
    return tuple(read)


def _calling(body: Asking) -> Calling | None:
    tools = [_tool(value, f"tools[{index}]") for index, value in enumerate(body.tools or ())]
    choice, names = _choice(body.tool_choice)
    return read_calling(
        tools,
        choice,
        names=names,
        parallel=body.parallel_tool_calls is not False and not isinstance(body.tool_choice, dict),
        choice_param="tool_choice",
    )


def _tool(value: Any, path: str) -> Tool:
    check_type(value, ("function",), path)
    function = decode_part(value, _Tool, path).function
    path += ".function"
    return read_tool(
        function.name,
        function.description,
        function.parameters,
        strict=bool(function.strict),
        path=path,
        schema_param=f"{path}.parameters",
    )


def _choice(value: Any) -> tuple[Choice, tuple[str, ...]]:
    match value:
        case None | "auto":
            return "auto", ()
        case "none":
            return "none", ()
        case "required" | "any":
            return "required", ()
        case dict():
            chosen: _Forced | _Allowed = decode_part(value, _Forced | _Allowed, "tool_choice")
            if isinstance(chosen, _Forced):
                return "required", (chosen.function.name,)
            allowed = chosen.allowed_tools
            return allowed.mode, tuple(tool.function.name for tool in allowed.tools)
        case _:
            raise Invalid(
                "`tool_choice` must be none, auto, required or a function", code="invalid_value", param="tool_choice"
            )


def _response_format(value: Any) -> ResponseFormat | None:
    if value is None:
        return None
    check_type(value, ("text", "json_object", "json_schema"), "response_format")
    read: _Format = decode_part(value, _Format, "response_format")
    match read:
        case _SchemaFormat(json_schema=asked):
            check_format_name(asked.name, "response_format.json_schema.name")
            path = "response_format.json_schema.schema"
            return read_format({} if asked.schema is None else asked.schema, strict=bool(asked.strict), path=path)
        case _ObjectFormat():
            return ANY_OBJECT
        case _:
            return None
