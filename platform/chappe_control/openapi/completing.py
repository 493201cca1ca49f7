"""What the framework leaves out of the document: an example of everything that is sent, and that bodies are strict.

Examples are built from the schemas, with values by the field's name from `examples.py`. So a new route has them by
itself, and a test says which name lacks a value that fits.
"""

import copy
import re
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any

from chappe_control.openapi.examples import BY_FIELD, BY_PATTERN, ID, PROBLEM_CODES, TIME
from chappe_control.problems import PROBLEM_JSON

Node = dict[str, Any]

_METHODS = ("get", "post", "put", "patch", "delete")
_REFERENCE = "#/components/schemas/"
_ID_PATTERN = re.compile(r"\^([a-z]+_)")
_NO_VALUE = object()
_TYPES = {int: "integer", float: "number", bool: "boolean", dict: "object"}


def complete(document: Node) -> Node:
    """A copy with examples of parameters, bodies and answers, in which no body takes a field that it does not name."""
    done = copy.deepcopy(document)
    schemas: Node = done["components"]["schemas"]
    for name in _sent_only(done):
        if schemas[name].get("type") == "object":
            schemas[name]["additionalProperties"] = False
    for operation in operations(done):
        _complete_operation(operation, schemas)
    return done


def operations(document: Node) -> Iterator[Node]:
    for path in document["paths"].values():
        yield from (path[method] for method in _METHODS if method in path)


def _complete_operation(operation: Node, schemas: Node) -> None:
    for parameter in operation.get("parameters", ()):
        parameter.setdefault("example", example_of(parameter["schema"], schemas, parameter["name"]))
    for media in operation.get("requestBody", {}).get("content", {}).values():
        media.setdefault("example", example_of(media["schema"], schemas))
    for status, response in operation["responses"].items():
        for kind, media in response.get("content", {}).items():
            if kind == PROBLEM_JSON:
                media["example"] = _problem(HTTPStatus(int(status)), response["description"])
            elif "schema" in media:
                media.setdefault("example", example_of(media["schema"], schemas))


def example_of(schema: Node, schemas: Node, field: str = "", owner: str = "") -> Any:
    """A value that the schema allows: the one for the field's name (in this owner, or anywhere) if it fits."""
    if "$ref" in schema:
        return example_of(schemas[schema["$ref"].removeprefix(_REFERENCE)], schemas, field, owner)
    if "allOf" in schema:
        # A reference with a description of its own.
        return example_of(schema["allOf"][0], schemas, field, owner)
    wanted = BY_FIELD.get(f"{owner}.{field}", BY_FIELD.get(field, _NO_VALUE))
    variants = [*schema.get("oneOf", ()), *schema.get("anyOf", ())]
    if wanted is None and any(variant.get("type") == "null" for variant in variants):
        return None
    for variant in variants:
        if variant.get("type") != "null":
            return example_of({**schema, "oneOf": (), "anyOf": (), **variant}, schemas, field, owner)
    if "enum" in schema:
        return wanted if wanted in schema["enum"] else schema["enum"][0]
    return wanted if _fits(wanted, schema) else _example_of_type(schema, schemas, field)


def _fits(value: Any, schema: Node) -> bool:
    if isinstance(value, str):
        dated = schema.get("format") == "date-time"
        return schema.get("type") == "string" and not dated and bool(re.search(schema.get("pattern", ""), value))
    if isinstance(value, list):
        return schema.get("type") == "array" and schema.get("items", {}).get("type") == "string"
    return value is not _NO_VALUE and schema.get("type") == _TYPES.get(type(value))


def _example_of_type(schema: Node, schemas: Node, field: str) -> Any:
    match schema.get("type"):
        case "object":
            properties: Node = schema.get("properties", {})
            owner = schema.get("title", "")
            return {name: example_of(each, schemas, name, owner) for name, each in properties.items()}
        case "array":
            return [example_of(schema.get("items", {}), schemas, field)]
        case "boolean":
            return True
        case "integer" | "number":
            return int(schema.get("minimum", 1))
        case "string":
            return _example_of_text(schema, field)
    return None


def _example_of_text(schema: Node, field: str) -> str:
    if schema.get("format") == "date-time":
        return TIME
    if schema.get("format") == "date":
        return TIME[:10]
    # An id says its prefix in its pattern: `^key_`.
    pattern = schema.get("pattern", "")
    id_prefix = _ID_PATTERN.fullmatch(pattern)
    return f"{id_prefix[1]}{ID}" if id_prefix else BY_PATTERN.get(pattern, field)


def _problem(status: HTTPStatus, detail: str) -> Node:
    return {"title": status.phrase, "status": status.value, "detail": detail, "code": PROBLEM_CODES[status]}


def _sent_only(document: Node) -> set[str]:
    """Names of the schemas that bodies are made of, and no answer is."""
    sent, answered = set[str](), set[str]()
    for operation in operations(document):
        sent |= _reached(operation.get("requestBody", {}), document)
        answered |= _reached(operation["responses"], document)
    return sent - answered


def _reached(node: Any, document: Node) -> set[str]:
    """Names of all schemas that a part of the document refers to, directly or through others."""
    found, waiting = set[str](), [node]
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict):
            name = str(part.get("$ref", "")).removeprefix(_REFERENCE)
            if name and name not in found:
                found.add(name)
                waiting.append(document["components"]["schemas"][name])
            waiting += part.values()
        elif isinstance(part, list):
            waiting += part
    return found
