"""What the address of the request log asks for. Pure: it refuses what cannot be meant, and looks nothing up."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from msgspec import Struct

from chappe_control.cursors import decode_cursor
from chappe_kernel.errors import Invalid
from chappe_kernel.ids import KEY, RequestId, decode_id
from chappe_kernel.rating import Outcome

LIMITS = (25, 50, 100)
DEFAULT_LIMIT = 50
FILTERS = ("model", "region", "key", "outcome")
_MAX_LENGTH = 100


class LogQuery(Struct, frozen=True):
    """`model` and `region` are names that may not exist; `after` is the request that the page before ended with."""

    model: str | None = None
    region: str | None = None
    key_id: UUID | None = None
    outcome: Outcome | None = None
    oldest_first: bool = False
    limit: int = DEFAULT_LIMIT
    after: RequestId | None = None


def read_log_query(parameters: Mapping[str, Any]) -> LogQuery:
    """An empty parameter is one that is not there: so do forms send what nobody filled in. Others than those of the
    log are ignored. Raises `Invalid` naming the parameter."""
    given = {name: value for name, value in parameters.items() if isinstance(value, str) and value}
    for name in FILTERS:
        if len(given.get(name, "")) > _MAX_LENGTH or "\0" in given.get(name, ""):
            raise _invalid(name)
    return LogQuery(
        model=given.get("model"),
        region=given.get("region"),
        key_id=_key_id(given.get("key")),
        outcome=_outcome(given.get("outcome")),
        oldest_first=_oldest_first(given.get("sort"), given.get("order")),
        limit=_limit(given.get("limit")),
        after=_after(given.get("cursor")),
    )


def _key_id(text: str | None) -> UUID | None:
    if text is None:
        return None
    try:
        return decode_id(KEY, text)
    except Invalid:
        raise _invalid("key") from None


def _outcome(text: str | None) -> Outcome | None:
    if text is None:
        return None
    try:
        return Outcome(text)
    except ValueError:
        raise _invalid("outcome") from None


def _oldest_first(sort: str | None, order: str | None) -> bool:
    if sort not in {None, "time"}:
        raise _invalid("sort")
    if order not in {None, "asc", "desc"}:
        raise _invalid("order")
    # The first click on a column's title sorts ascending, as everywhere.
    return order == "asc" or (sort is not None and order is None)


def _limit(text: str | None) -> int:
    if text is None:
        return DEFAULT_LIMIT
    known = {str(limit): limit for limit in LIMITS}
    if text not in known:
        raise _invalid("limit")
    return known[text]


def _after(cursor: str | None) -> RequestId | None:
    if cursor is not None and len(cursor) > _MAX_LENGTH:
        raise _invalid("cursor")
    last = decode_cursor(cursor)
    return None if last is None else RequestId(last)


def _invalid(param: str) -> Invalid:
    return Invalid(f"{param} has no such value", param=param)
