"""Stripe's form encoding: `a[b][c]=1&d[0]=x&d[]=y` to nested values and back to nothing but text."""

from typing import Any
from urllib.parse import parse_qsl

from chappe_local.stripe_stand_in.errors import invalid

_DEEPEST = 8
_MOST_FIELDS = 2000


def decode(encoded: bytes) -> dict[str, Any]:
    """Dictionaries, lists and text. Raises `StripeError` for a body that is no such form."""
    try:
        pairs = parse_qsl(encoded.decode(), keep_blank_values=True, max_num_fields=_MOST_FIELDS, strict_parsing=True)
    except (UnicodeDecodeError, ValueError):
        if encoded.strip():
            raise invalid("The request's body could not be read as a form.") from None
        pairs = []
    tree: dict[str, Any] = {}
    for name, value in pairs:
        _put(tree, _path(name), value, name)
    return {name: _lists(value) for name, value in tree.items()}


def _path(name: str) -> list[str]:
    first, opened, rest = name.partition("[")
    if not opened:
        return [first]
    if not rest.endswith("]") or not first:
        raise invalid(f"Invalid parameter name: {name}", param=name)
    steps = [first, *rest[:-1].split("][")]
    if len(steps) > _DEEPEST or any("[" in step or "]" in step for step in steps):
        raise invalid(f"Invalid parameter name: {name}", param=name)
    return steps


def _put(tree: dict[str, Any], path: list[str], value: str, name: str) -> None:
    node = tree
    for place, step in enumerate(path):
        # `a[]` stands for the next free place.
        key = str(len(node)) if step == "" and place else step
        if place == len(path) - 1:
            if isinstance(node.get(key), dict):
                raise invalid(f"Parameter given as a value and as a hash: {name}", param=name)
            node[key] = value
            return
        inner = node.setdefault(key, {})
        if not isinstance(inner, dict):
            raise invalid(f"Parameter given as a value and as a hash: {name}", param=name)
        node = inner


def _lists(value: Any) -> Any:
    """Dictionaries whose keys are 0, 1, 2 … are lists; metadata with such keys is read back by its own spec."""
    if not isinstance(value, dict):
        return value
    inner = {key: _lists(entry) for key, entry in value.items()}
    if inner and all(key.isdecimal() for key in inner):
        return [inner[key] for key in sorted(inner, key=int)]
    return inner
