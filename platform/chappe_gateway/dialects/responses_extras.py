"""How the Responses API asks for more than text, and what of that its answer repeats."""

from typing import Any, Literal

from msgspec import Struct

from chappe_gateway.dialects.decoding import check_type, decode_part
from chappe_gateway.dialects.extras import (
    ANY_OBJECT,
    Choice,
    Extras,
    check_format_name,
    collect_extras,
    read_calling,
    read_format,
    read_tool,
)
from chappe_kernel.errors import Invalid
from chappe_kernel.wire.engine import Message, ResponseFormat, Tool


class _Function(Struct, forbid_unknown_fields=True):
    type: Literal["function"]
    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class _Named(Struct, forbid_unknown_fields=True):
    name: str
    type: Literal["function"]


class _Forced(Struct, forbid_unknown_fields=True, tag_field="type", tag="function"):
    name: str


class _Allowed(Struct, forbid_unknown_fields=True, tag_field="type", tag="allowed_tools"):
    mode: Literal["auto", "required"]
    tools: list[_Named]


class _PlainFormat(Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="text"):
    pass


class _ObjectFormat(Struct, forbid_unknown_fields=True, tag_field="type", tag="json_object"):
    pass


class _SchemaFormat(Struct, forbid_unknown_fields=True, tag_field="type", tag="json_schema"):
    name: str
    schema: dict[str, Any]
    description: str | None = None
    strict: bool | None = None


_Format = _PlainFormat | _ObjectFormat | _SchemaFormat


class ResponsesText(Struct, forbid_unknown_fields=True):
    format: _Format | None = None
    verbosity: Literal["medium"] | None = None


class EchoedFormat(Struct, frozen=True):
    format: _Format = _PlainFormat()


class Echo(Struct, frozen=True):
    """What an answer says again of its request. `strict` is what holds: false where it was left out."""

    tools: tuple[_Function, ...] = ()
    tool_choice: Any = "auto"
    text: EchoedFormat = EchoedFormat()


def read_responses_extras(
    tools: list[Any] | None,
    choice: Any,
    text: ResponsesText | None,
    messages: tuple[Message, ...],
    *,
    parallel: bool,
    logprobs: int | None,
) -> tuple[Extras | None, Echo]:
    """Raises `Invalid` naming the parameter."""
    functions = [_function(value, f"tools[{index}]") for index, value in enumerate(tools or ())]
    mode, names = _choice(choice)
    calling = read_calling(
        [_tool(function, f"tools[{index}]") for index, function in enumerate(functions)],
        mode,
        names=names,
        parallel=parallel and not isinstance(choice, dict),
        choice_param="tool_choice",
    )
    asked = _PlainFormat() if text is None or text.format is None else text.format
    extras = collect_extras(messages, calling=calling, response_format=_response_format(asked), logprobs=logprobs)
    told_choice = ("auto" if functions else "none") if choice is None else choice
    return extras, Echo(tuple(functions), told_choice, EchoedFormat(asked))


def _function(value: Any, path: str) -> _Function:
    check_type(value, ("function",), path)
    function: _Function = decode_part(value, _Function, path)
    function.strict = bool(function.strict)
    return function


def _tool(function: _Function, path: str) -> Tool:
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
        case "required":
            return "required", ()
        case dict():
            chosen: _Forced | _Allowed = decode_part(value, _Forced | _Allowed, "tool_choice")
            if isinstance(chosen, _Forced):
                return "required", (chosen.name,)
            return chosen.mode, tuple(tool.name for tool in chosen.tools)
        case _:
            raise Invalid(
                "`tool_choice` must be none, auto, required or a function", code="invalid_value", param="tool_choice"
            )


def _response_format(asked: _Format) -> ResponseFormat | None:
    match asked:
        case _SchemaFormat():
            check_format_name(asked.name, "text.format.name")
            return read_format(asked.schema, strict=bool(asked.strict), path="text.format.schema")
        case _ObjectFormat():
            return ANY_OBJECT
        case _:
            return None
