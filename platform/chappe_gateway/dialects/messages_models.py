"""The list of models as Anthropic's packages read it: who sends `anthropic-version` gets this one."""

from collections.abc import Sequence
from datetime import UTC, datetime
from urllib.parse import parse_qsl

import msgspec
from msgspec import Struct

from chappe_gateway.dialects.messages import VERSION_HEADER
from chappe_gateway.edge.errors import Headers
from chappe_kernel.errors import Invalid
from chappe_kernel.wire.control import Listing

_DEFAULT_LIMIT = 20
_MAX_LIMIT = 1000
_PLACES = ("after_id", "before_id")


class _Model(Struct):
    id: str
    display_name: str
    created_at: str
    max_input_tokens: int
    max_tokens: int
    type: str = "model"
    lifecycle: str = "active"
    deprecated_at: None = None
    capabilities: None = None
    line: None = None


class _Page(Struct):
    data: list[_Model]
    has_more: bool
    first_id: str | None
    last_id: str | None


def wants_messages_form(headers: Headers) -> bool:
    return any(name == VERSION_HEADER for name, _ in headers)


def messages_model(listing: Listing) -> bytes:
    return msgspec.json.encode(_model(listing))


def messages_page(listings: Sequence[Listing], query: bytes) -> bytes:
    """Raises `Invalid` for what is not understood."""
    limit, places = _read_query(query)
    names = [listing.name for listing in listings]
    begin, end = 0, len(names)
    for param, name in places.items():
        if name not in names:
            raise Invalid(f"`{param}` is no id of this list's", code="invalid_value", param=param)
        at = names.index(name)
        begin, end = (at + 1, end) if param == "after_id" else (begin, at)
    found = list(listings[begin:end])
    # Before an id, the page is the one that ends there.
    page = found[-limit:] if "before_id" in places and "after_id" not in places else found[:limit]
    told = _Page(
        [_model(listing) for listing in page],
        len(found) > len(page),
        page[0].name if page else None,
        page[-1].name if page else None,
    )
    return msgspec.json.encode(told)


def _read_query(query: bytes) -> tuple[int, dict[str, str]]:
    limit, places = _DEFAULT_LIMIT, {}
    for name, value in parse_qsl(query.decode("latin-1"), keep_blank_values=True):
        if name in _PLACES:
            places[name] = value
        elif name != "limit":
            raise Invalid(f"unknown parameter `{name[:100]}`", code="unknown_parameter", param=name[:100])
        elif not (value.isascii() and value.isdigit() and len(value) <= len(str(_MAX_LIMIT))):
            raise Invalid("`limit` must be a number", code="invalid_value", param="limit")
        else:
            limit = int(value)
    if not 1 <= limit <= _MAX_LIMIT:
        raise Invalid(f"`limit` must be from 1 to {_MAX_LIMIT}", code="invalid_value", param="limit")
    return limit, places


def _model(listing: Listing) -> _Model:
    created_at = datetime.fromtimestamp(listing.created, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return _Model(listing.name, listing.name, created_at, listing.context_tokens, listing.max_output_tokens)
