"""What an answer must look like, as a grammar of llguidance, which is part of llama.cpp here.

llama.cpp goes on without a grammar that it does not understand, or that became too ambiguous, and says nothing. So a
grammar is checked before the engine gets it, and the same grammar reads every answer along (`Witness`): what it does
not allow never reaches a client.
"""

import json
from typing import Any

import msgspec
from llguidance import LLMatcher, LLTokenizer

from chappe_kernel.errors import Invalid
from chappe_kernel.json_schema import enforceable
from chappe_kernel.wire.engine import Calling, ResponseFormat, Tool
from chappe_serving.engines.tool_calls import BEGIN, BETWEEN, END, head_of

MAX_CALLS = 16
"""In one answer."""
_COMPACT = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": ", "coerce_one_of": True}
"""White space without end is all that a weak model may find to say inside JSON."""
_HEAD = "%llguidance {}"
_FREE = "/(.|\\n)*/"
_bytes = LLTokenizer("byte")


def grammar(calling: Calling | None, response_format: ResponseFormat | None) -> str | None:
    """None when nothing constrains the answer. Raises `Invalid` naming the parameter."""
    if calling is None and response_format is None:
        return None
    rules: list[str] = []
    starts: list[str] = []
    if response_format is not None and (calling is None or calling.choice == "auto"):
        schema = enforceable(_decoded(response_format.schema), param="response_format", strict=response_format.strict)
        rules.append(f"answer: {_json(schema, 'response_format')}")
        starts.append("answer")
    if calling is not None:
        rules += _call_rules(calling)
        starts += _call_starts(calling, has_answer=bool(starts))
        if "text" in starts:
            rules += [f"text: TEXT\nTEXT: {_FREE}", f"head[lazy]: TEXT {_literal(BEGIN)}"]
    return "\n".join([_HEAD, "start: " + " | ".join(starts), *rules, ""])


def _call_starts(calling: Calling, *, has_answer: bool) -> list[str]:
    more = f" ({_literal(BETWEEN + BEGIN)} call){{0,{MAX_CALLS - 1}}}" if calling.parallel else ""
    if calling.choice == "required" or has_answer:
        return [f"{_literal(BEGIN)} call{more}"]
    return ["text", f"head call{more}"]


def _call_rules(calling: Calling) -> list[str]:
    tools = [tool for tool in calling.tools if not calling.names or tool.name in calling.names]
    rules = ["call: " + " | ".join(f"call{index}" for index in range(len(tools)))]
    for index, tool in enumerate(tools):
        rules.append(f"call{index}: {_literal(head_of(tool.name))} arguments{index} {_literal(END)}")
        rules.append(f"arguments{index}: {_json(_parameters(tool), 'tools')}")
    return rules


def _parameters(tool: Tool) -> dict[str, Any]:
    schema = enforceable(_decoded(tool.parameters), param="tools", strict=tool.strict)
    # No schema means no arguments; whatever it says, they are an object.
    return (
        {"properties": {}, "additionalProperties": False, **schema, "type": "object"}
        if "$ref" not in schema
        else schema
    )


def _decoded(schema: msgspec.Raw) -> Any:
    return msgspec.json.decode(schema)


def _json(schema: dict[str, Any], param: str) -> str:
    rule = "%json " + json.dumps({**schema, "x-guidance": _COMPACT}, ensure_ascii=False)
    is_bad, _ = LLMatcher.validate_grammar_with_warnings(f"{_HEAD}\nstart: {rule}\n")
    if is_bad:
        # Its own words quote the whole schema.
        raise Invalid("this JSON Schema cannot be kept to: it contradicts itself or is not supported", param=param)
    return rule


def _literal(text: str) -> str:
    return json.dumps(text)


class Witness:
    """Reads an answer along, and says whether the grammar allows it."""

    def __init__(self, grammar: str) -> None:
        self._matcher = LLMatcher(_bytes, grammar)

    def allows(self, more: str) -> bool:
        """Whether the answer may begin like this, with what was read before."""
        tokens = _bytes.tokenize_bytes(more.encode())
        return bool(self._matcher.try_consume_tokens(tokens) == len(tokens))

    @property
    def is_whole(self) -> bool:
        """Whether the answer may end here."""
        return bool(self._matcher.is_accepting())
