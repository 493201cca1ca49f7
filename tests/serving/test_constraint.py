"""The grammar, and the reading along, without a model: what is allowed, where calls begin, and how they are read."""

from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chappe_kernel.errors import Invalid
from chappe_kernel.rating import NO_COUNTS
from chappe_kernel.wire.engine import Calling, ResponseFormat, Tool
from chappe_serving.engine import Delta
from chappe_serving.engines.constraint import Witness, grammar
from chappe_serving.engines.llama_cpp_generation import Died, Words
from chappe_serving.engines.llama_cpp_server import Chunk
from chappe_serving.engines.tool_calls import Arguments, Begin, CallReader, Piece, Text
from tests.serving.conftest import chat


def raw(schema: Any) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(schema))


INTEGER = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
TOOLS = (Tool("f", parameters=raw(INTEGER)), Tool("g"))
F = '<tool_call>\n{"name": "f", "arguments": {"a": 1}}\n</tool_call>'
G = '<tool_call>\n{"name": "g", "arguments": {}}\n</tool_call>'


@pytest.mark.parametrize(
    ("calling", "said", "may_begin", "may_end"),
    [
        (Calling(TOOLS), "hello", True, True),
        (Calling(TOOLS), "hello " + F, True, True),
        (Calling(TOOLS), F + "\n" + G, True, True),
        (Calling(TOOLS), "a <tool_call> b", True, True),
        (Calling(TOOLS), F[:-3], True, False),
        (Calling(TOOLS), F + " and more", False, None),
        (Calling(TOOLS), F.replace('"f"', '"h"'), False, None),
        (Calling(TOOLS), F.replace("1", '"x"'), False, None),
        (Calling(TOOLS, "required"), "hello", False, None),
        (Calling(TOOLS, "required"), F, True, True),
        (Calling(TOOLS, "required", ("g",)), F, False, None),
        (Calling(TOOLS, "required", ("g",)), G, True, True),
        (Calling(TOOLS, "required", parallel=False), F + "\n" + G, False, None),
    ],
)
def test_what_a_calling_allows(calling: Calling, said: str, may_begin: bool, may_end: bool | None) -> None:
    rules = grammar(calling, None)
    assert rules is not None
    witness = Witness(rules)
    assert witness.allows(said) is may_begin
    if may_end is not None:
        assert witness.is_whole is may_end


def test_a_format_beside_tools_leaves_the_choice_between_both() -> None:
    rules = grammar(Calling(TOOLS), ResponseFormat(raw(INTEGER)))
    assert rules is not None
    for said, allowed in (('{"a": 7}', True), (G, True), ("hello", False)):
        assert Witness(rules).allows(said) is allowed


def test_what_the_grammar_forbids_is_seen_in_whatever_pieces_it_comes() -> None:
    rules = grammar(None, ResponseFormat(raw(INTEGER)))
    assert rules is not None
    witness = Witness(rules)
    assert all(witness.allows(character) for character in '{"a": 12')
    assert not witness.is_whole
    assert not witness.allows("x")


@pytest.mark.parametrize("schema", [{"$ref": "#/nowhere"}, {"type": "frob"}, {"minimum": "x"}])
def test_a_schema_that_cannot_be_is_refused(schema: Any) -> None:
    with pytest.raises(Invalid) as refusal:
        grammar(None, ResponseFormat(raw(schema)))
    assert refusal.value.param == "response_format"
    with pytest.raises(Invalid) as refusal:
        grammar(Calling((Tool("f", parameters=raw({"properties": {"a": schema}})),)), None)
    assert refusal.value.param == "tools"


def test_an_engine_that_dropped_its_grammar_is_not_believed() -> None:
    request = chat("x", response_format=ResponseFormat(raw(INTEGER)))
    words = Words(request, grammar(None, request.response_format))
    [begun] = words.read(Chunk(content='{"a": '), NO_COUNTS)
    assert isinstance(begun, Delta)
    with pytest.raises(Died):
        words.finish_reason(Chunk(stop=True, stop_type="eos"))
    assert words.finish_reason(Chunk(stop=True, stop_type="limit")) == "length"
    with pytest.raises(Died):
        words.read(Chunk(content="Sure!"), NO_COUNTS)


def _read(parts: list[str]) -> list[Piece]:
    reader = CallReader()
    return [piece for part in parts for piece in reader.feed(part)] + reader.end()


def _told(pieces: list[Piece]) -> tuple[str, list[tuple[str, str]]]:
    text, calls = "", list[tuple[str, str]]()
    for piece in pieces:
        match piece:
            case Text(more):
                assert not calls
                text += more
            case Begin(name):
                calls.append((name, ""))
            case Arguments(more):
                calls[-1] = (calls[-1][0], calls[-1][1] + more)
    return text, calls


_values = st.recursive(
    st.none() | st.integers() | st.text(), lambda v: st.lists(v) | st.dictionaries(st.text(), v), max_leaves=5
)


@settings(max_examples=50)
@given(
    text=st.text().filter(lambda text: "<tool_call>\n" not in text and not text.endswith("<")),
    calls=st.lists(st.tuples(st.sampled_from(["f", "get_it"]), st.dictionaries(st.text(), _values)), max_size=3),
    cuts=st.lists(st.integers(0, 300), max_size=20),
)
def test_calls_are_read_whole_however_they_are_cut(
    text: str, calls: list[tuple[str, dict[str, Any]]], cuts: list[int]
) -> None:
    written = [(name, msgspec.json.encode(arguments).decode()) for name, arguments in calls]
    said = text + "\n".join(
        f'<tool_call>\n{{"name": "{name}", "arguments": {arguments}}}\n</tool_call>' for name, arguments in written
    )
    edges = sorted({0, len(said), *(min(cut, len(said)) for cut in cuts)})
    parts = [said[start:end] for start, end in pairwise(edges)]
    assert _told(_read(parts)) == (text, written)


def test_a_call_that_was_cut_off_is_told_as_far_as_it_came() -> None:
    assert _told(_read([F.removesuffix("1}}\n</tool_call>")])) == ("", [("f", '{"a": ')])
    assert _told(_read(["hello <tool_"])) == ("hello <tool_", [])


@pytest.mark.parametrize("end", ["", "}", "}\n", "}\n</tool_c"])
def test_a_call_that_was_cut_off_within_its_end_has_whole_arguments(end: str) -> None:
    assert _told(_read([F.removesuffix("}\n</tool_call>") + end])) == ("", [("f", '{"a": 1}')])
