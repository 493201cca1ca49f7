"""Every route of the API, and what one call of it does: read, act, keep the answer, all in one transaction."""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from chappe_local.stripe_stand_in import paying
from chappe_local.stripe_stand_in.errors import Json, StripeError, invalid
from chappe_local.stripe_stand_in.forms import decode
from chappe_local.stripe_stand_in.parameters import EXPAND, read_all
from chappe_local.stripe_stand_in.resources import (
    balance,
    cash,
    charges,
    checkout,
    customers,
    disputes,
    events,
    invoice_items,
    invoices,
    meters,
    payment_intents,
    payment_methods,
    portal,
    refunds,
    setup_intents,
)
from chappe_local.stripe_stand_in.routing import Route
from chappe_local.stripe_stand_in.world import API_VERSION, World, visible

ROUTES: Final[tuple[Route, ...]] = (
    *customers.ROUTES,
    *cash.ROUTES,
    *payment_methods.ROUTES,
    *payment_intents.ROUTES,
    *setup_intents.ROUTES,
    *charges.ROUTES,
    *refunds.ROUTES,
    *disputes.ROUTES,
    *balance.ROUTES,
    *checkout.ROUTES,
    *invoice_items.ROUTES,
    *invoices.ROUTES,
    *portal.ROUTES,
    *meters.ROUTES,
    *events.ROUTES,
)
FOLLOWERS: Final = (checkout.follow, invoices.follow)
TASKS: Final[Mapping[str, Callable[[World, str], object]]] = {
    "settle_debit": paying.settle_debit,
    "settle_refund": refunds.settle,
    "dispute": disputes.open_later,
    "expire_session": checkout.expire_due,
    "advance_invoice": invoices.advance,
}
"""What happens later, by name; called with the subject's id."""

_INCLUDED: Final[Mapping[tuple[str, str], Callable[[World, Json], Json]]] = {
    ("charge", "refunds"): charges.refunds_of,
    ("checkout.session", "line_items"): checkout.items_of,
    ("invoice", "confirmation_secret"): invoices.confirmation_secret_of,
    ("invoice", "payments"): invoices.payments_of,
}
"""Properties that an object has only when they are asked for by `expand`."""

_DEEPEST_EXPANSION: Final = 4
_KEY_KEPT_S: Final = 24 * 3600
_LONGEST_KEY: Final = 255
_PATTERNS: Final = tuple((route, route.pattern) for route in ROUTES)


@dataclass(frozen=True)
class Call:
    """One HTTP request."""

    method: str
    path: str
    query: bytes
    body: bytes
    idempotency_key: str | None
    version: str | None


@dataclass(frozen=True)
class Answer:
    status: int
    body: bytes
    replayed: bool = False
    executed: bool = True
    """Whether the call got as far as doing something; only then its answer is kept under its key."""


def find_route(method: str, path: str) -> tuple[Route, tuple[str, ...]]:
    """Raises `StripeError` (404) in Stripe's words."""
    for route, pattern in _PATTERNS:
        match = pattern.fullmatch(path)
        if match is not None and route.method == method:
            return route, match.groups()
    raise StripeError(
        404,
        "invalid_request_error",
        f"Unrecognized request URL ({method}: {path}). Please see https://stripe.com/docs or we can help at "
        "https://support.stripe.com/.",
    )


def answer(world: World, call: Call) -> Answer:
    """Do it, or find that it was done. Call it inside a transaction, which is committed whatever comes back."""
    try:
        if call.version not in (None, API_VERSION):
            raise invalid(f"Invalid Stripe API version: {call.version}. This stand-in speaks {API_VERSION} alone.")
        kept = _kept(world, call)
        if kept is not None:
            return kept
        route, path_values = find_route(call.method, call.path)
        params = read_all(decode(call.query if call.method != "POST" else call.body), {**route.known, **EXPAND}, ())
        for wanted in route.required:
            if wanted not in params:
                raise invalid(f"Missing required param: {wanted}.", code="parameter_missing", param=wanted)
    except StripeError as error:
        return _refused(error, executed=False)
    found = _act(world, route, params, path_values)
    if call.idempotency_key is not None and call.method == "POST":
        world.store.keep_answer(call.idempotency_key, _digest(call), found.status, found.body, world.now)
    return found


def _act(world: World, route: Route, params: Json, path_values: tuple[str, ...]) -> Answer:
    paths = params.pop("expand", [])
    kept_error: StripeError | None = None
    try:
        with world.store.attempt():
            try:
                result = visible(route.act(world, params, *path_values))
                for path in paths:
                    result = expanded(world, result, path.split("."), path)
            except StripeError as error:
                if not error.keeps_changes:
                    raise
                kept_error, result = error, {}
    except StripeError as error:
        return _refused(error)
    return _refused(kept_error) if kept_error else Answer(200, to_json(result))


def expanded(world: World, body: Json, steps: list[str], path: str) -> Json:
    """The object with the property at `path` replaced by the object that its id names."""
    if len(path.split(".")) > _DEEPEST_EXPANSION:
        raise invalid(f"You cannot expand more than {_DEEPEST_EXPANSION} levels of a property.", param="expand")
    first, *rest = steps
    if first == "data" and body.get("object") in ("list", "search_result"):
        return {**body, "data": [expanded(world, one, rest, path) for one in body["data"]]}
    include = _INCLUDED.get((str(body.get("object")), first))
    if include is not None and first not in body:
        full = world.store.find(body["id"])
        value: Any = include(world, full or body)
    else:
        value = body.get(first)
        if first not in body:
            raise invalid(f"This property cannot be expanded ({path}).", param="expand")
    if value is None:
        return body
    if isinstance(value, str):
        found = world.store.find(value)
        if found is None:
            raise invalid(f"This property cannot be expanded ({path}).", param="expand")
        value = visible(found)
    elif not isinstance(value, dict) or (not rest and include is None):
        raise invalid(f"This property cannot be expanded ({path}).", param="expand")
    return {**body, first: expanded(world, value, rest, path) if rest else value}


def to_json(body: Json) -> bytes:
    return json.dumps(body, indent=2).encode()


def error_json(error: StripeError) -> bytes:
    return to_json({"error": error.body})


def _kept(world: World, call: Call) -> Answer | None:
    key = call.idempotency_key
    if key is None or call.method != "POST":
        return None
    if not 0 < len(key) <= _LONGEST_KEY:
        raise invalid(f"Idempotency keys may have up to {_LONGEST_KEY} characters.")
    kept = world.store.kept_answer(key, world.now - _KEY_KEPT_S)
    if kept is None:
        return None
    request, status, body = kept
    if request != _digest(call):
        raise StripeError(
            400,
            "idempotency_error",
            "Keys for idempotent requests can only be used with the same parameters they were first used with. Try "
            f"using a key other than '{key}' if you meant to execute a different request.",
        )
    return Answer(status, body, replayed=True)


def _digest(call: Call) -> str:
    """Of what was asked: the address and the parameters, whatever their order."""
    asked = json.dumps([call.method, call.path, decode(call.body)], sort_keys=True)
    return hashlib.sha256(asked.encode()).hexdigest()


def _refused(error: StripeError, *, executed: bool = True) -> Answer:
    return Answer(error.status, error_json(error), executed=executed)
