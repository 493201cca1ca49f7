"""Where a page of sorted tenants ends: an opaque cursor that names the last row by what it is sorted by."""

import base64
import binascii
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import TypeVar
from uuid import UUID

import msgspec
from msgspec import Struct

from chappe_kernel.errors import Invalid
from chappe_tenants.organisations.lifecycle import TenantState

E = TypeVar("E", bound=StrEnum)

MAX_SEARCH_LENGTH = 100
MAX_CURSOR_LENGTH = 1000
# PostgreSQL's bigint; what is beyond was never in a row.
_MAX_NUMBER = 2**63


class Sort(StrEnum):
    """What tenants can be sorted by; `value` is how the address says it."""

    NAME = "name"
    BALANCE = "balance"
    SPEND = "spend"


class Order(StrEnum):
    ASCENDING = "asc"
    DESCENDING = "desc"


class After(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The last row of the page before. Ids break ties, so that no two rows are in the same place."""

    sort: Sort
    order: Order
    value: str | int
    tenant_id: UUID


class Listing(Struct, frozen=True):
    """Which tenants, in which order, from where on."""

    search: str = ""
    state: TenantState | None = None
    sort: Sort = Sort.NAME
    order: Order = Order.ASCENDING
    after: After | None = None


def read_listing(query: Mapping[str, str]) -> Listing:
    """What an address asks for. Raises `Invalid` for what no link of ours says."""
    search = query.get("q", "").strip()
    if len(search) > MAX_SEARCH_LENGTH or "\0" in search:
        raise Invalid(f"a search has at most {MAX_SEARCH_LENGTH} characters", code="invalid_search", param="q")
    state = _choice(TenantState, query, "state", TenantState.ACTIVE) if query.get("state") else None
    sort = _choice(Sort, query, "sort", Sort.NAME)
    order = _choice(Order, query, "order", Order.ASCENDING)
    after = _decode(query["cursor"]) if query.get("cursor") else None
    if after is not None and (after.sort, after.order) != (sort, order):
        raise _bad_cursor()
    return Listing(search, state, sort, order, after)


def encode_after(after: After) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode(after)).decode().rstrip("=")


def _decode(text: str) -> After:
    try:
        if len(text) > MAX_CURSOR_LENGTH or not text.isascii():
            raise _bad_cursor()
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        after = msgspec.json.decode(raw, type=After)
    except (ValueError, binascii.Error):
        # msgspec's errors and bad UTF-8 are ValueErrors too.
        raise _bad_cursor() from None
    if isinstance(after.value, str) != (after.sort is Sort.NAME) or not _can_be_stored(after.value):
        raise _bad_cursor()
    return after


def _can_be_stored(value: str | int) -> bool:
    return "\0" not in value if isinstance(value, str) else -_MAX_NUMBER <= value < _MAX_NUMBER


def _choice(choices: Callable[[str], E], query: Mapping[str, str], name: str, default: E) -> E:
    try:
        return choices(query.get(name) or default)
    except ValueError:
        raise Invalid(f"{name} has a value that is none of ours", code="invalid_parameter", param=name) from None


def _bad_cursor() -> Invalid:
    return Invalid("the cursor is not one of ours", code="invalid_cursor", param="cursor")
