"""Lists with Stripe's cursors, and its search language."""

import operator
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from chappe_local.stripe_stand_in.errors import Json, invalid, missing
from chappe_local.stripe_stand_in.world import World, visible

_MOST: Final = 100
_USUAL: Final = 10
_ALIVE: Final = (("deleted", "IS", None),)
_COMPARED: Final = {"gt": ">", "gte": ">=", "lt": "<", "lte": "<="}
_ORDERED: Final = {">": operator.gt, ">=": operator.ge, "<": operator.lt, "<=": operator.le}
_CLAUSE: Final = re.compile(
    r"""\s*(?P<not>-)?(?:metadata\[(?P<q>["'])(?P<key>[^"']+)(?P=q)\]|(?P<field>[a-z_]+))"""
    r"""\s*(?P<op>:|~|>=|<=|>|<|=)\s*(?:"(?P<double>(?:[^"\\]|\\.)*)"|'(?P<single>(?:[^'\\]|\\.)*)'|(?P<bare>[0-9]+|null))\s*"""
)
_JOINED: Final = re.compile(r"(AND|OR)\b", re.IGNORECASE)


def page(
    world: World,
    kind: str,
    url: str,
    params: Mapping[str, Any],
    filters: Mapping[str, Any] | None = None,
    *,
    conditions: Sequence[tuple[str, str, object]] = (),
) -> Json:
    """A list object, newest first. `filters` are equalities by path; `created` in `params` bounds the time; further
    `conditions` are as the store takes them."""
    wanted = [*conditions, *((path, "=", value) for path, value in (filters or {}).items() if value is not None)]
    wanted += [("created", _COMPARED[bound], at) for bound, at in params.get("created", {}).items()]
    limit = limit_of(params)
    before, after = params.get("starting_after"), params.get("ending_before")
    if before and after:
        raise invalid("You can only pass one of starting_after and ending_before.", param="starting_after")
    found = world.store.select(
        kind,
        [*wanted, *_ALIVE],
        before=_place(world, kind, before, "starting_after"),
        after=_place(world, kind, after, "ending_before"),
        oldest_first=after is not None,
        limit=limit + 1,
    )
    shown = found[:limit] if after is None else found[:limit][::-1]
    return list_object(shown, url, has_more=len(found) > limit)


def list_object(objects: list[Json], url: str, *, has_more: bool = False) -> Json:
    return {"object": "list", "data": [visible(one) for one in objects], "has_more": has_more, "url": url}


def search(world: World, kind: str, url: str, params: Mapping[str, Any], searchable: frozenset[str]) -> Json:
    """A search result. Here it is exact at once; Stripe's own lags by up to a minute. `page` is the last id shown."""
    clauses, any_of = _parse(params["query"], searchable)
    join = any if any_of else all
    limit = limit_of(params)
    newest_before = _place(world, kind, params.get("page"), "page")
    found = [
        one
        for one in world.store.select(kind, before=newest_before)
        if not one.get("deleted") and join(_holds(clause, one) for clause in clauses)
    ]
    shown = found[:limit]
    return {
        "object": "search_result",
        "data": [visible(one) for one in shown],
        "has_more": len(found) > limit,
        "next_page": shown[-1]["id"] if len(found) > limit else None,
        "url": url,
    }


def limit_of(params: Mapping[str, Any]) -> int:
    limit = int(params.get("limit", _USUAL))
    if not 1 <= limit <= _MOST:
        raise invalid(f"Invalid integer: {limit}; must be from 1 to {_MOST}", param="limit")
    return limit


def _place(world: World, kind: str, object_id: str | None, param: str) -> int | None:
    if object_id is None:
        return None
    place = world.store.place(object_id)
    if place is None:
        raise missing(kind, object_id, param)
    return place


def _parse(query: str, searchable: frozenset[str]) -> tuple[list[re.Match[str]], bool]:
    clauses: list[re.Match[str]] = []
    joins: set[str] = set()
    place = 0
    while True:
        clause = _CLAUSE.match(query, place)
        if clause is None:
            raise invalid(f"The search query is malformed at: {query[place : place + 20]}", param="query")
        if clause["field"] and clause["field"] not in searchable:
            raise invalid(f"Field `{clause['field']}` is an unsupported search field.", param="query")
        clauses.append(clause)
        place = clause.end()
        if place == len(query):
            break
        join = _JOINED.match(query, place)
        if join is None:
            raise invalid(f"The search query is malformed at: {query[place : place + 20]}", param="query")
        joins.add(join[1].upper())
        place = join.end()
    if len(joins) > 1:
        raise invalid("A search query cannot combine AND and OR.", param="query")
    return clauses, joins == {"OR"}


def _holds(clause: re.Match[str], one: Json) -> bool:
    actual = one["metadata"].get(clause["key"]) if clause["key"] else one.get(clause["field"])
    quoted = clause["double"] if clause["double"] is not None else clause["single"]
    wanted = clause["bare"] if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
    return _compares(actual, clause["op"], wanted, is_null=clause["bare"] == "null") != bool(clause["not"])


def _compares(actual: Any, sign: str, wanted: str, *, is_null: bool) -> bool:
    if is_null or actual is None:
        return is_null and actual is None
    if sign in _ORDERED:
        return bool(_ORDERED[sign](int(actual), int(wanted)))
    found, sought = str(actual).casefold(), wanted.casefold()
    return sought in found if sign == "~" else sought == found
