"""What of a tenant's JSON Schema an engine's grammar is made of, and how large one may be. Pure.

A grammar is run for every token, by a loop that all of an engine's tenants share. So what can make one slow is bounded
here, or kept out of it: regular expressions, divisibility, intersections, long repetitions. The bounds were measured
(docs/decisions/0031).
"""

from typing import Any, NoReturn

from chappe_kernel.errors import Invalid

MAX_DEPTH = 16
"""Schemas inside schemas."""
MAX_SCHEMAS = 500
"""Schemas in all, each property and each alternative one of them."""
MAX_ALTERNATIVES = 64
"""Of all `anyOf` and `oneOf` together."""
MAX_ENUM_VALUES = 500
MAX_ENUM_CHARACTERS = 16_000
MAX_LENGTH = 1000
"""The longest text that a length may ask for."""
MAX_ITEMS = 100
"""The longest array that a length may ask for."""

MAX_PATH = 200
"""How much of a place is told."""

_ANNOTATIONS = frozenset(
    (
        *("title", "description", "default", "example", "examples", "deprecated", "readOnly", "writeOnly"),
        *("$schema", "$id", "$comment"),
    )
)
_VALUES = frozenset(("type", "required", "$ref", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"))
_LENGTHS = {"minLength": MAX_LENGTH, "maxLength": MAX_LENGTH, "minItems": MAX_ITEMS, "maxItems": MAX_ITEMS}
_FORMATS = ("date-time", "date", "time", "duration", "email", "hostname", "ipv4", "ipv6", "uuid")


def enforceable(schema: Any, *, param: str, strict: bool) -> dict[str, Any]:
    """The part of a schema that a grammar holds an answer to: annotations are dropped, objects are closed unless they
    say otherwise. What no grammar here holds (`pattern`, `not`) is dropped as well, and is refused if `strict`.

    Raises `Invalid` naming the place below `param`, also for a schema that is too large, or no schema.
    """
    return _Walk(strict=strict).schema(schema, param, depth=1)


class _Walk:
    """One schema, with what was counted in it so far."""

    def __init__(self, *, strict: bool) -> None:
        self._strict = strict
        self._schemas = 0
        self._alternatives = 0
        self._values = 0
        self._characters = 0

    def schema(self, schema: Any, path: str, *, depth: int) -> dict[str, Any]:
        path = path[:MAX_PATH]
        if not isinstance(schema, dict):
            raise Invalid(f"`{path}` must be a JSON Schema, an object", code="invalid_type", param=path)
        self._schemas += 1
        if depth > MAX_DEPTH or self._schemas > MAX_SCHEMAS:
            raise Invalid(
                f"`{path}`: a schema may nest {MAX_DEPTH} deep and have {MAX_SCHEMAS} parts",
                code="invalid_json_schema",
                param=path,
            )
        kept: dict[str, Any] = {}
        for keyword, value in schema.items():
            self._keep(kept, keyword, value, f"{path}.{keyword}"[:MAX_PATH], depth)
        if "properties" in kept:
            kept.setdefault("additionalProperties", False)
        return kept

    def _keep(self, kept: dict[str, Any], keyword: str, value: Any, path: str, depth: int) -> None:
        """Put what is held of one keyword into `kept`."""
        if keyword in _ANNOTATIONS or self._keep_schemas(kept, keyword, value, path, depth):
            return
        if keyword in ("const", "enum"):
            self._count_values([value] if keyword == "const" else value, path)
        elif keyword in _LENGTHS:
            if type(value) is not int or not 0 <= value <= _LENGTHS[keyword]:
                self._cannot(path, f"`{path}` must be from 0 to {_LENGTHS[keyword]}")
                return
        elif keyword not in _VALUES and not (keyword == "format" and value in _FORMATS):
            self._cannot(path, f"`{path}` with this value is not supported in a schema")
            return
        kept[keyword] = value

    def _keep_schemas(self, kept: dict[str, Any], keyword: str, value: Any, path: str, depth: int) -> bool:
        """The same for a keyword that has schemas inside; false for all others."""
        match keyword, value:
            case (("properties" | "$defs" | "definitions"), dict()):
                kept[keyword] = {
                    name: self.schema(each, f"{path}.{name}", depth=depth + 1) for name, each in value.items()
                }
            case (("anyOf" | "oneOf"), [_, *_]):
                kept[keyword] = self._several(value, path, depth)
            case "allOf", [_]:
                # Of one, as generators write it around a `$ref`: the same as `anyOf`.
                kept.setdefault("anyOf", self._several(value, path, depth))
            case "prefixItems", list():
                kept[keyword] = self._all(value, path, depth)
            case "additionalProperties", bool():
                kept[keyword] = value
            case (("items" | "additionalProperties"), _):
                kept[keyword] = self.schema(value, path, depth=depth + 1)
            case _:
                return False
        return True

    def _several(self, schemas: list[Any], path: str, depth: int) -> list[dict[str, Any]]:
        self._alternatives += len(schemas)
        if self._alternatives > MAX_ALTERNATIVES:
            raise Invalid(
                f"`{path}`: a schema may have {MAX_ALTERNATIVES} alternatives in all",
                code="invalid_json_schema",
                param=path,
            )
        return self._all(schemas, path, depth)

    def _all(self, schemas: list[Any], path: str, depth: int) -> list[dict[str, Any]]:
        return [self.schema(each, f"{path}[{index}]", depth=depth + 1) for index, each in enumerate(schemas)]

    def _count_values(self, values: Any, path: str) -> None:
        if not isinstance(values, list) or not values or any(isinstance(value, dict | list) for value in values):
            raise Invalid(f"`{path}` must be texts, numbers, booleans or null", code="invalid_json_schema", param=path)
        self._values += len(values)
        self._characters += sum(len(value) for value in values if isinstance(value, str))
        if self._values > MAX_ENUM_VALUES or self._characters > MAX_ENUM_CHARACTERS:
            raise Invalid(
                f"`{path}`: a schema may name {MAX_ENUM_VALUES} values with {MAX_ENUM_CHARACTERS} characters in all",
                code="invalid_json_schema",
                param=path,
            )

    def _cannot(self, path: str, message: str) -> None:
        if self._strict:
            _refuse(path, message)


def _refuse(path: str, message: str) -> NoReturn:
    raise Invalid(message, code="unsupported_parameter", param=path)
