"""How Anthropic's API asks for more than text: tools, and a format of the answer."""

from typing import Any, Literal

from msgspec import Struct

from chappe_gateway.dialects.decoding import check_type, decode_part
from chappe_gateway.dialects.extras import Choice, Extras, collect_extras, read_calling, read_format, read_tool
from chappe_kernel.errors import Invalid
from chappe_kernel.wire.engine import Message, ResponseFormat, Tool

_CHOICES: dict[str, Choice] = {"auto": "auto", "none": "none", "any": "required", "tool": "required"}


class MessagesChoice(Struct, forbid_unknown_fields=True):
    type: Literal["auto", "any", "tool", "none"]
    name: str | None = None
    disable_parallel_tool_use: bool | None = None


class _Format(Struct, forbid_unknown_fields=True):
    type: Literal["json_schema"]
    schema: dict[str, Any]


class MessagesOutput(Struct, forbid_unknown_fields=True):
    format: _Format | None = None


class CacheControl(Struct, forbid_unknown_fields=True):
    type: Literal["ephemeral"]
    ttl: Literal["5m", "1h"] | None = None


class _Tool(Struct, forbid_unknown_fields=True):
    name: str
    input_schema: dict[str, Any]
    description: str | None = None
    type: Literal["custom"] | None = None
    strict: bool | None = None
    cache_control: CacheControl | None = None


def read_messages_extras(
    tools: list[Any] | None,
    choice: MessagesChoice | None,
    output: MessagesOutput | None,
    messages: tuple[Message, ...],
) -> Extras | None:
    """Raises `Invalid` naming the parameter."""
    choice = MessagesChoice("auto") if choice is None else choice
    if (choice.type == "tool") != (choice.name is not None):
        raise Invalid("`tool_choice.name` belongs to the type `tool`", code="invalid_value", param="tool_choice.name")
    calling = read_calling(
        [_tool(value, f"tools[{index}]") for index, value in enumerate(tools or ())],
        _CHOICES[choice.type],
        names=() if choice.name is None else (choice.name,),
        parallel=not choice.disable_parallel_tool_use and choice.name is None,
        choice_param="tool_choice",
    )
    return collect_extras(messages, calling=calling, response_format=_response_format(output))


def _tool(value: Any, path: str) -> Tool:
    check_type(value, ("custom", None), path)
    tool: _Tool = decode_part(value, _Tool, path)
    return read_tool(
        tool.name,
        tool.description,
        tool.input_schema,
        strict=bool(tool.strict),
        path=path,
        schema_param=f"{path}.input_schema",
    )


def _response_format(output: MessagesOutput | None) -> ResponseFormat | None:
    if output is None or output.format is None:
        return None
    return read_format(output.format.schema, strict=True, path="output_config.format.schema")
