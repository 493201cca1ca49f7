"""What of a schema is held to, and how large one may be."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chappe_kernel import json_schema
from chappe_kernel.errors import Invalid
from chappe_kernel.json_schema import enforceable


def nested(depth: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "integer"}
    for _ in range(depth - 1):
        schema = {"type": "array", "items": schema}
    return schema


@pytest.mark.parametrize(
    ("schema", "kept"),
    [
        ({}, {}),
        ({"type": "string", "title": "T", "description": "d", "default": "x"}, {"type": "string"}),
        (
            {"type": "object", "properties": {"a": {"type": "integer"}}},
            {"type": "object", "properties": {"a": {"type": "integer"}}, "additionalProperties": False},
        ),
        (
            {"properties": {}, "additionalProperties": True},
            {"properties": {}, "additionalProperties": True},
        ),
        (
            {"allOf": [{"$ref": "#/$defs/a"}], "$defs": {"a": {}}},
            {"anyOf": [{"$ref": "#/$defs/a"}], "$defs": {"a": {}}},
        ),
        ({"properties": {"title": {"title": "x"}}}, {"properties": {"title": {}}, "additionalProperties": False}),
    ],
)
def test_annotations_go_and_objects_are_closed(schema: Any, kept: Any) -> None:
    assert enforceable(schema, param="s", strict=True) == kept


@pytest.mark.parametrize(
    ("schema", "where"),
    [
        ({"pattern": "(a|b)*"}, "s.pattern"),
        ({"properties": {"a": {"multipleOf": 7}}}, "s.properties.a.multipleOf"),
        ({"anyOf": [{}, {"not": {}}]}, "s.anyOf[1].not"),
        ({"items": {"maxLength": 10**9}}, "s.items.maxLength"),
        ({"format": "regex"}, "s.format"),
        ({"allOf": [{}, {}]}, "s.allOf"),
        ({"x-guidance": {"lenient": True}}, "s.x-guidance"),
    ],
)
def test_what_no_grammar_holds_is_refused_if_strict_and_dropped_otherwise(schema: Any, where: str) -> None:
    with pytest.raises(Invalid) as refusal:
        enforceable(schema, param="s", strict=True)
    assert (refusal.value.code, refusal.value.param) == ("unsupported_parameter", where)
    assert where.rpartition(".")[2] not in str(enforceable(schema, param="s", strict=False))


@pytest.mark.parametrize(
    "schema",
    [
        nested(json_schema.MAX_DEPTH + 1),
        {"properties": {str(n): {} for n in range(json_schema.MAX_SCHEMAS)}},
        {"anyOf": [{}] * (json_schema.MAX_ALTERNATIVES + 1)},
        {"enum": list(range(json_schema.MAX_ENUM_VALUES + 1))},
        {"enum": ["x" * (json_schema.MAX_ENUM_CHARACTERS + 1)]},
        {"const": {"a": 1}},
        {"items": 7},
        {"properties": {"a": True}},
        [],
    ],
)
@pytest.mark.parametrize("strict", [False, True])
def test_too_large_or_no_schema_is_refused(schema: Any, strict: bool) -> None:
    with pytest.raises(Invalid) as refusal:
        enforceable(schema, param="s", strict=strict)
    assert refusal.value.param is not None
    assert refusal.value.param.startswith("s")


def test_the_largest_of_each_is_taken() -> None:
    enforceable(nested(json_schema.MAX_DEPTH), param="s", strict=True)
    enforceable({"anyOf": [{}] * json_schema.MAX_ALTERNATIVES}, param="s", strict=True)
    enforceable({"enum": list(range(json_schema.MAX_ENUM_VALUES))}, param="s", strict=True)


_words = st.sampled_from(
    ["type", "items", "properties", "anyOf", "allOf", "enum", "const", "not", "$ref", "minLength", "x"]
)
_any_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_words, inner, max_size=4),
    max_leaves=30,
)


@given(schema=_any_json, strict=st.booleans())
def test_anything_gives_a_smaller_schema_or_a_refusal_that_names_its_place(schema: Any, strict: bool) -> None:
    try:
        kept = enforceable(schema, param="s", strict=strict)
    except Invalid as refusal:
        assert refusal.param is not None
        assert refusal.param.startswith("s")
    else:
        assert enforceable(kept, param="s", strict=True) == kept
