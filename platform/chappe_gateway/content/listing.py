"""OpenAI's lists: what of them was asked for, and how they are told."""

from collections.abc import Collection, Sequence
from typing import Any
from urllib.parse import parse_qsl
from uuid import UUID

import msgspec
from msgspec import Struct

from chappe_gateway.content.asking import read_id
from chappe_gateway.content.objects import Kind
from chappe_kernel.errors import Invalid

_DEFAULT_LIMIT = 20
_MAX_LIMIT = 100
# OpenAI's packages write a list's name with brackets.
_INCLUDE = ("include", "include[]")


class AskedPage(Struct, frozen=True):
    limit: int = _DEFAULT_LIMIT
    after: str | None = None
    newest_first: bool = True
    purpose: str | None = None


def read_page(
    query: bytes, known: Collection[str], *, max_limit: int = _MAX_LIMIT, includable: Collection[str] = ()
) -> AskedPage:
    """Raises `Invalid` for what is not understood: it would have to change the answer. `api-version` is Azure's.
    `includable`: what `include` may name, since it is told in any case."""
    asked: dict[str, Any] = {}
    for name, value in parse_qsl(query.decode("latin-1"), keep_blank_values=True):
        if name == "api-version" or (name in _INCLUDE and value in includable):
            continue
        if name not in known:
            raise Invalid(f"unknown parameter `{name[:100]}`", code="unknown_parameter", param=name[:100])
        match name:
            case "limit" if value.isascii() and value.isdigit() and 1 <= int(value) <= max_limit:
                asked["limit"] = int(value)
            case "order" if value in ("asc", "desc"):
                asked["newest_first"] = value == "desc"
            case "after" | "purpose":
                asked[name] = value
            case _:
                raise Invalid(f"`{name}` has no such value", code="invalid_value", param=name)
    return AskedPage(**asked)


def read_after(kind: Kind, asked: AskedPage, region: str) -> UUID | None:
    """The id behind which the page begins. Raises `Invalid`."""
    if asked.after is None:
        return None
    found = read_id(kind, asked.after)
    if found is None or found[1] != region:
        raise Invalid("`after` is no id of this list's", code="invalid_value", param="after")
    return found[0]


def show_page(items: Sequence[Any], limit: int) -> bytes:
    """`items` has one more than `limit` where there are more of them."""
    shown = items[:limit]
    return msgspec.json.encode(
        {
            "object": "list",
            "data": shown,
            "first_id": _id_of(shown[0]) if shown else None,
            "last_id": _id_of(shown[-1]) if shown else None,
            "has_more": len(items) > limit,
        }
    )


def _id_of(item: Any) -> str:
    found: str = item["id"] if isinstance(item, dict) else item.id
    return found
