"""What an object of Stripe's looks like: by the SDK's annotations, and by Stripe's fixtures where they are there."""

import builtins
import json
import os
import sys
from collections.abc import Iterator
from decimal import Decimal
from functools import cache
from importlib import import_module
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, ForwardRef, Literal, Union, get_args, get_origin

import pytest
import stripe
from stripe import ListObject, StripeObject
from stripe._object_classes import OBJECT_CLASSES, get_object_class

_NOT_ALWAYS = {"charge.refunds", "invoice.subscription"}
"""In the fixtures, and not in answers of the version that the SDK speaks: the first only if it is asked for, the second
no more."""
_OF_ANY_KIND = {"event.data.object"}
_BESIDE = Path(__file__).parents[3] / "shared" / "specs" / "stripe-fixtures3.json"


def fixtures_path() -> Path:
    return Path(os.environ.get("CHAPPE_TEST_STRIPE_FIXTURES", _BESIDE))


needs_fixtures = pytest.mark.skipif(not fixtures_path().exists(), reason="Stripe's fixtures are not beside the project")


def unlike_the_sdk(body: Any) -> Iterator[str]:
    """What is wrong with `body`: a field missing that the SDK says is always there, one that it does not know, one of
    another type. Objects inside are looked at the same way."""
    return _object(get_object_class("V1", body["object"]), body, body["object"])


def unlike_the_fixture(body: Any, name: str) -> Iterator[str]:
    """What is wrong with `body`: a key of the fixture missing, or of another JSON type where neither is null."""
    return _like(_fixtures()[name], body, name)


@cache
def _fixtures() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(fixtures_path().read_text())["resources"]
    return found


def _like(fixture: Any, body: Any, where: str, *, top: bool = True) -> Iterator[str]:
    if fixture is None or body is None or _is_expanded(fixture, body):
        return
    if _json_type(fixture) is not _json_type(body):
        yield f"{where} is a {_json_type(body).__name__}, the fixture's a {_json_type(fixture).__name__}"
    elif isinstance(fixture, dict) and (top or fixture.get("object")) and where not in _OF_ANY_KIND:
        for key, value in fixture.items():
            if key in body:
                yield from _like(value, body[key], f"{where}.{key}", top=False)
            elif f"{where}.{key}" not in _NOT_ALWAYS and not _is_of_another_type(fixture, body, key):
                yield f"{where}.{key} is missing"


def _is_expanded(fixture: Any, body: Any) -> bool:
    """An object where the fixture has its id."""
    return isinstance(fixture, str) and isinstance(body, dict) and "object" in body


def _is_of_another_type(fixture: dict[str, Any], body: dict[str, Any], key: str) -> bool:
    """A payment method of type `card` has `card`, one of another type does not."""
    return key == fixture.get("type") != body.get("type")


def _json_type(value: Any) -> type:
    if isinstance(value, Decimal):
        return str  # as the SDK reads some texts
    return float if isinstance(value, int) and not isinstance(value, bool) else type(value)


def _object(kind: type, body: Any, where: str) -> Iterator[str]:
    if not isinstance(body, dict):
        yield f"{where} is no object but {body!r}"
        return
    hints = _annotations(kind)
    for name, hint in hints.items():
        if name in body:
            yield from _value(hint, body[name], f"{where}.{name}", kind)
        elif not _optional(hint, kind):
            yield f"{where}.{name} is missing"
    if hints:
        yield from (f"{where}.{name} is unknown" for name in body if name not in hints)


@cache
def _annotations(kind: type) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for base in reversed(kind.__mro__):
        if issubclass(base, StripeObject) and base is not StripeObject:
            found |= {
                name: hint
                for name, hint in base.__annotations__.items()
                if "ClassVar" not in str(hint) and not name.startswith("_")
            }
    return found


def _optional(hint: Any, kind: type) -> bool:
    """Whether it may be missing: what the SDK calls optional is null or absent."""
    return NoneType in _alternatives(hint, kind)


def _alternatives(hint: Any, kind: type) -> list[Any]:
    hint = _resolved(hint, kind)
    if get_origin(hint) in (Union, UnionType):
        return [inner for part in get_args(hint) for inner in _alternatives(part, kind)]
    return [hint]


def _resolved(hint: Any, kind: type) -> Any:
    text = hint.__forward_arg__ if isinstance(hint, ForwardRef) else hint
    if not isinstance(text, str):
        return hint
    names = _Names({**_classes(), **vars(sys.modules[kind.__module__]), **vars(kind)})
    return eval(text, {}, names)  # noqa: S307 -- the SDK's own annotations


class _Names(dict[str, Any]):
    """A few classes have another name where they are imported for type checkers alone: any object will do for them."""

    def __missing__(self, key: str) -> type:
        if hasattr(builtins, key):
            raise KeyError(key)
        return StripeObject


@cache
def _classes() -> dict[str, Any]:
    """Every class of the SDK by its bare name: its modules import each other for type checkers alone."""
    found: dict[str, Any] = {}
    for module, name in OBJECT_CLASSES.values():
        found.setdefault(name, getattr(import_module(module), name))
    return {**found, "CardResource": stripe.Card}


def _value(hint: Any, value: Any, where: str, kind: type) -> Iterator[str]:
    found = [list(_one(choice, value, where, kind)) for choice in _alternatives(hint, kind)]
    if not any(problems == [] for problems in found):
        # The alternative that came nearest tells what is wrong.
        yield from min((problems for problems in found), key=len)


def _one(choice: Any, value: Any, where: str, kind: type) -> Iterator[str]:
    origin = get_origin(choice)
    if origin in (list, ListObject) or choice is ListObject:
        yield from _list(origin or choice, get_args(choice), value, where, kind)
    elif isinstance(choice, type) and origin is None and issubclass(choice, StripeObject):
        yield from _object(choice, value, where)
    elif not _is_a(choice, origin, value):
        yield f"{where} is {value!r}, not {choice}"


def _is_a(choice: Any, origin: Any, value: Any) -> bool:
    if choice is Any:
        return True
    if choice is NoneType:
        return value is None
    if origin is Literal:
        return value in get_args(choice)
    if origin is not None:
        return isinstance(value, dict)
    return isinstance(value, _plain(choice)) and (not isinstance(value, bool) or choice is bool)


def _plain(choice: Any) -> Any:
    return {float: (int, float), Decimal: (str, Decimal)}.get(choice, choice)


def _list(origin: Any, arguments: tuple[Any, ...], value: Any, where: str, kind: type) -> Iterator[str]:
    entries = value
    if origin is ListObject:
        if (
            not isinstance(value, dict)
            or value.get("object") != "list"
            or "has_more" not in value
            or "url" not in value
        ):
            yield f"{where} is no list object"
            return
        entries = value["data"]
    if not isinstance(entries, list):
        yield f"{where} is no list"
        return
    for place, entry in enumerate(entries):
        for argument in arguments:
            yield from _value(argument, entry, f"{where}[{place}]", kind)
