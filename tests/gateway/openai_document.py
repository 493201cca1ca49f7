"""OpenAI's own OpenAPI document, when it lies beside the project: it is not part of it."""

import os
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import pytest
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]  # its stubs are not locked
from referencing import Registry
from referencing.jsonschema import DRAFT202012

_BESIDE = Path(__file__).parents[3] / "shared" / "specs" / "openai-subset.json"
_URI = "urn:openai"


def document_path() -> Path:
    return Path(os.environ.get("CHAPPE_TEST_OPENAI_DOCUMENT", _BESIDE))


needs_document = pytest.mark.skipif(not document_path().exists(), reason="OpenAI's document is not beside the project")


def check(schema: str, answer: Any) -> None:
    """`answer` is what this schema of the document says."""
    errors = [f"{error.json_path}: {error.message}" for error in _validator(schema).iter_errors(answer)]
    assert not errors, errors


def _nullable(node: Any) -> Any:
    """The document says `nullable`, as OpenAPI 3.0 did; JSON Schema has no such word."""
    if isinstance(node, list):
        return [_nullable(value) for value in node]
    if not isinstance(node, dict):
        return node
    rest = {key: _nullable(value) for key, value in node.items() if key != "nullable"}
    return {"anyOf": [rest, {"type": "null"}]} if node.get("nullable") is True else rest


@cache
def _validator(schema: str) -> Draft202012Validator:
    resource = DRAFT202012.create_resource(_nullable(msgspec.json.decode(document_path().read_bytes())))
    registry: Registry[Any] = Registry().with_resource(_URI, resource)
    return Draft202012Validator({"$ref": f"{_URI}#/components/schemas/{schema}"}, registry=registry)
