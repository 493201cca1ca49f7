"""What a generation is asked for beyond text, the same for all APIs: tools, a format, several answers, probabilities.

An API's module takes its own body apart; here are the rules that hold whatever the API calls a thing. Nearly every
request asks for none of it, and then has no `Extras` at all.
"""

import json
import re
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import msgspec
from msgspec import Struct, structs

from chappe_gateway.dialects.decoding import check_text
from chappe_kernel.errors import Invalid
from chappe_kernel.json_schema import enforceable
from chappe_kernel.wire.engine import Calling, Feature, Message, ResponseFormat, Tool, ToolCall

MAX_TOOLS = 64
MAX_CHOICES = 8
MAX_LIKELIEST = 20
MAX_BIASES = 300
MAX_SCHEMA_BYTES = 64 * 1024
_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}\Z")
_BIAS = 100
_MAX_TOKEN = 2**31 - 1
# What the engine's template writes around each, in bytes, generously.
_AROUND_TOOLS = 512
_AROUND_ONE = 128
_NO_PARAMETERS: dict[str, Any] = {"type": "object", "properties": {}}
Choice = Literal["none", "auto", "required"]


class Extras(Struct, frozen=True):
    """`needs` are the engine's features without which this cannot be served, by the names of OpenAI's parameters."""

    needs: tuple[Feature, ...]
    calling: Calling | None = None
    response_format: ResponseFormat | None = None
    n: int = 1
    logprobs: int | None = None


NO_EXTRAS = Extras(())


def shown_tools(extras: Extras | None) -> tuple[Tool, ...]:
    """The tools that stand in the prompt."""
    return () if extras is None or extras.calling is None else extras.calling.tools


def collect_extras(  # one argument for each thing that can be asked for
    messages: Iterable[Message],
    *,
    calling: Calling | None = None,
    response_format: ResponseFormat | None = None,
    n: int = 1,
    logprobs: int | None = None,
    logit_bias: tuple[tuple[int, float], ...] = (),
) -> Extras | None:
    """None when nothing is asked for beyond text."""
    asked: dict[Feature, bool] = {
        "tools": calling is not None or _have_tools(messages),
        "response_format": response_format is not None,
        "n": n > 1,
        "logprobs": logprobs is not None,
        "logit_bias": bool(logit_bias),
    }
    needs = tuple([feature for feature, is_asked in asked.items() if is_asked])
    return Extras(needs, calling, response_format, n, logprobs) if needs else None


def with_context(extras: Extras | None, before: Sequence[Message]) -> Extras | None:
    """What is needed when this was said before the messages too."""
    if not _have_tools(before):
        return extras
    if extras is None:
        return collect_extras(before)
    return extras if "tools" in extras.needs else structs.replace(extras, needs=("tools", *extras.needs))


def _have_tools(messages: Iterable[Message]) -> bool:
    return any(message.tool_calls or message.role == "tool" for message in messages)


def read_tool(
    name: str, description: str | None, parameters: Any, *, strict: bool, path: str, schema_param: str
) -> Tool:
    """One function. `path`: where its name stands; `schema_param`: where its parameters do. Raises `Invalid`."""
    _check_name(name, f"{path}.name")
    if description is not None:
        check_text(description, f"{path}.description")
    schema = _NO_PARAMETERS if parameters is None else parameters
    return Tool(name, description, _checked_schema(schema, schema_param, strict=strict), strict)


def read_calling(
    tools: Sequence[Tool], choice: Choice, *, names: tuple[str, ...] = (), parallel: bool = True, choice_param: str
) -> Calling | None:
    """What may be called; None if nothing: a model that may not call is not told of tools. Raises `Invalid`."""
    if len(tools) > MAX_TOOLS:
        raise Invalid(f"`tools` may have at most {MAX_TOOLS} entries", code="array_too_long", param="tools")
    if sum(len(bytes(tool.parameters)) for tool in tools) > MAX_SCHEMA_BYTES:
        raise Invalid(
            f"the schemas in `tools` may have {MAX_SCHEMA_BYTES} bytes in all",
            code="invalid_json_schema",
            param="tools",
        )
    known = {tool.name for tool in tools}
    if len(known) < len(tools):
        raise Invalid("`tools` has two functions of one name", code="invalid_value", param="tools")
    if not known.issuperset(names):
        raise Invalid(
            f"`{choice_param}` names a function that is not in `tools`", code="invalid_value", param=choice_param
        )
    if not tools and choice == "required":
        raise Invalid(f"`{choice_param}` needs `tools`", code="invalid_value", param=choice_param)
    if not tools or choice == "none":
        return None
    return Calling(tuple(tools), choice, names, parallel)


def read_format(schema: Any, *, strict: bool, path: str) -> ResponseFormat:
    """An answer that is JSON by `schema`, whose place is `path`. Raises `Invalid`."""
    return ResponseFormat(_checked_schema(schema, path, strict=strict), strict)


ANY_OBJECT = ResponseFormat(msgspec.Raw(b'{"type":"object"}'))


def check_format_name(name: str, path: str) -> None:
    """Raises `Invalid`."""
    _check_name(name, path)


def read_call(call_id: str, name: str, arguments: Any, path: str) -> ToolCall:
    """A call that the model made earlier. `arguments`: a JSON object, or its text. Raises `Invalid`."""
    _check_name(name, f"{path}.name")
    check_text(call_id, path)
    if isinstance(arguments, str):
        try:
            arguments = msgspec.json.decode(arguments or "{}")
        except (msgspec.DecodeError, RecursionError):
            arguments = None
    if not isinstance(arguments, dict):
        raise Invalid(
            f"`{path}.arguments` must be the text of a JSON object", code="invalid_value", param=f"{path}.arguments"
        )
    return ToolCall(call_id, name, msgspec.json.encode(arguments).decode())


def check_results(messages: Sequence[Message], path: str) -> None:
    """Every tool's message answers a call of the assistant's before it. Raises `Invalid`. `path`: the messages'."""
    called: set[str] = set()
    for index, message in enumerate(messages):
        if message.role == "tool" and message.tool_call_id not in called:
            raise Invalid(
                f"`{path}`: a tool's result (number {index + 1}) answers no call before it",
                code="invalid_value",
                param=path,
            )
        called.update(call.id for call in message.tool_calls)


def read_choices(n: int | None) -> int:
    """Raises `Invalid`."""
    if n is not None and not 1 <= n <= MAX_CHOICES:
        raise Invalid(f"`n` must be from 1 to {MAX_CHOICES}", code="invalid_value", param="n")
    return 1 if n is None else n


def read_likeliest(likeliest: int | None, *, is_asked: bool, switch: str) -> int | None:
    """How many of the likeliest are told beside each token; None if probabilities are not asked for at all. `switch`:
    what asks for them. Raises `Invalid`."""
    if likeliest is not None and not 0 <= likeliest <= MAX_LIKELIEST:
        raise Invalid(f"`top_logprobs` must be from 0 to {MAX_LIKELIEST}", code="invalid_value", param="top_logprobs")
    if is_asked:
        return likeliest or 0
    if likeliest:
        raise Invalid(f"`top_logprobs` needs `{switch}`", code="invalid_value", param="top_logprobs")
    return None


def read_logit_bias(bias: dict[str, float] | None) -> tuple[tuple[int, float], ...]:
    """Raises `Invalid`."""
    if not bias:
        return ()
    if len(bias) > MAX_BIASES:
        raise Invalid(f"`logit_bias` may have at most {MAX_BIASES} entries", code="invalid_value", param="logit_bias")
    pairs: list[tuple[int, float]] = []
    for token, value in bias.items():
        if not (token.isascii() and token.isdigit() and int(token[:11]) <= _MAX_TOKEN and -_BIAS <= value <= _BIAS):
            raise Invalid(
                f"`logit_bias` maps the model's token numbers to values from -{_BIAS} to {_BIAS}",
                code="invalid_value",
                param="logit_bias",
            )
        pairs.append((int(token), value))
    return tuple(pairs)


def prompt_allowance(extras: Extras, messages: Iterable[Message]) -> int:
    """How many tokens tools may add to a prompt beyond its body's bytes: no token is less than a byte, and templates
    write JSON anew, with blanks, escapes and words around it."""
    tools = shown_tools(extras)
    shown = sum(_AROUND_ONE + _rendered(tool.parameters) + 6 * len(tool.description or "") for tool in tools)
    said = sum(
        _AROUND_ONE + sum(_AROUND_ONE + _rendered(call.arguments) for call in message.tool_calls)
        for message in messages
        if message.tool_calls or message.role == "tool"
    )
    return (_AROUND_TOOLS if tools else 0) + shown + said


def _rendered(text: "msgspec.Raw | str") -> int:
    # Python writes JSON as templates do, and escapes what they may.
    return len(json.dumps(msgspec.json.decode(text)))


def _checked_schema(schema: Any, path: str, *, strict: bool) -> msgspec.Raw:
    enforceable(schema, param=path, strict=strict)
    encoded = msgspec.json.encode(schema)
    if len(encoded) > MAX_SCHEMA_BYTES:
        raise Invalid(f"`{path}` may have {MAX_SCHEMA_BYTES} bytes", code="invalid_json_schema", param=path)
    return msgspec.Raw(encoded)


def _check_name(name: str, path: str) -> None:
    if not _NAME.match(name):
        raise Invalid(f"`{path}` must be 1 to 64 letters, digits, _ or -", code="invalid_value", param=path)
