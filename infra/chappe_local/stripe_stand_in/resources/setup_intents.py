"""Setup intents: saving a payment method for later."""

from typing import Final

from chappe_local.stripe_stand_in import instruments, paying
from chappe_local.stripe_stand_in.errors import Json, StripeError, invalid
from chappe_local.stripe_stand_in.instruments import Refusal
from chappe_local.stripe_stand_in.listing import page
from chappe_local.stripe_stand_in.parameters import (
    PAGE,
    Spec,
    created_range,
    fields,
    flag,
    metadata,
    name,
    one_of,
    text,
)
from chappe_local.stripe_stand_in.resources.common import change, new_metadata
from chappe_local.stripe_stand_in.resources.payment_methods import (
    CHOICE,
    NEW,
    attach_to,
    check_redirects,
    make,
    make_mandate,
    offered,
    resolve,
)
from chappe_local.stripe_stand_in.routing import Route
from chappe_local.stripe_stand_in.world import World, new_id, random_text, visible

_FAILED: Final = Refusal(
    "setup_intent_authentication_failure",
    None,
    "The latest attempt to set up the payment method has failed because authentication failed.",
)
_WRITABLE: Final[dict[str, Spec]] = {
    "customer": name,
    "description": text,
    "metadata": metadata,
    "payment_method": name,
    "payment_method_data": NEW,
    **CHOICE,
}
_CREATE: Final[dict[str, Spec]] = {
    **_WRITABLE,
    "automatic_payment_methods": fields(("enabled",), enabled=flag, allow_redirects=one_of("always", "never")),
    "confirm": flag,
    "return_url": name,
    "usage": one_of("off_session", "on_session"),
}


def create(world: World, params: Json) -> Json:
    intent = new(world, params)
    return _confirm(world, intent, params) if params.get("confirm") else intent


def new(world: World, params: Json) -> Json:
    if "customer" in params:
        world.get("customer", params["customer"], "customer")
    intent_id = new_id("seti")
    automatic = params.get("automatic_payment_methods") or {}
    intent: Json = {
        "id": intent_id,
        "object": "setup_intent",
        "application": None,
        "automatic_payment_methods": {"allow_redirects": "always", "enabled": True, **automatic},
        "cancellation_reason": None,
        "client_secret": f"{intent_id}_secret_{random_text(29)}",
        "created": world.now,
        "customer": params.get("customer"),
        "customer_account": None,
        "description": params.get("description"),
        "allowed_payment_method_types": params.get("allowed_payment_method_types"),
        "excluded_payment_method_types": params.get("excluded_payment_method_types"),
        "flow_directions": None,
        "last_setup_error": None,
        "latest_attempt": None,
        "livemode": False,
        "mandate": None,
        "metadata": new_metadata(params),
        "next_action": None,
        "on_behalf_of": None,
        "payment_method": None,
        "payment_method_configuration_details": None,
        "payment_method_options": {},
        "payment_method_types": offered(params, None),
        "single_use_mandate": None,
        "status": "requires_payment_method",
        "usage": params.get("usage", "off_session"),
    }
    _put_method(world, intent, params)
    world.save(intent)
    world.announce("setup_intent.created", intent)
    return intent


def confirm_with(world: World, intent: Json, *, authenticated: bool = False) -> Json:
    """Save the intent's method for its customer. Raises the bank's refusal, which is kept."""
    if intent["status"] not in paying.CONFIRMABLE:
        raise paying.unexpected_state(intent, "confirm")
    if intent["payment_method"] is None:
        raise invalid(
            "You cannot confirm this SetupIntent because it's missing a payment method.",
            code="setup_intent_unexpected_state",
            setup_intent=visible(intent),
        )
    method = world.get("payment_method", intent["payment_method"])
    intent |= {"next_action": None, "last_setup_error": None}
    if method["type"] == "card":
        card = instruments.card(method["_number"])
        if card.authentication != "never" and not authenticated and not method.get("_set_up"):
            intent |= {"status": "requires_action", "next_action": paying.authentication_step(world, intent)}
            world.save(intent)
            world.announce("setup_intent.requires_action", intent)
            return intent
        if card.refusal is not None and card.refuses_when_saved:
            raise note_failure(world, intent, card.refusal)
    elif method["type"] == "sepa_debit":
        intent["mandate"] = make_mandate(world, method)["id"]
    if intent["customer"] is not None:
        attach_to(world, method["id"], intent["customer"], authenticated=authenticated)
    elif authenticated:
        world.save({**method, "_set_up": True})
    intent["status"] = "succeeded"
    world.save(intent)
    world.announce("setup_intent.succeeded", intent)
    world.payment_changed(intent)
    return intent


def fail_authentication(world: World, intent: Json) -> StripeError:
    """The customer did not pass the bank's page."""
    return note_failure(world, intent, _FAILED)


def note_failure(world: World, intent: Json, refusal: Refusal) -> StripeError:
    method = world.get("payment_method", intent["payment_method"])
    error = refusal.error(payment_method=visible(method))
    intent |= {
        "status": "requires_payment_method",
        "payment_method": None,
        "next_action": None,
        "last_setup_error": error.body,
    }
    world.save(intent)
    world.announce("setup_intent.setup_failed", intent)
    return refusal.error(payment_method=visible(method), setup_intent=visible(intent))


def retrieve(world: World, _params: Json, intent_id: str) -> Json:
    return world.get("setup_intent", intent_id)


def update(world: World, params: Json, intent_id: str) -> Json:
    intent = world.get("setup_intent", intent_id)
    if intent["status"] not in paying.CONFIRMABLE:
        raise paying.unexpected_state(intent, "update")
    _put_method(world, intent, params)
    world.save(intent)
    return change(world, intent, {key: params[key] for key in ("customer", "description", "metadata") if key in params})


def confirm(world: World, params: Json, intent_id: str) -> Json:
    return _confirm(world, world.get("setup_intent", intent_id), params)


def cancel(world: World, params: Json, intent_id: str) -> Json:
    intent = world.get("setup_intent", intent_id)
    if intent["status"] not in paying.CONFIRMABLE:
        raise paying.unexpected_state(intent, "cancel")
    intent |= {"status": "canceled", "cancellation_reason": params.get("cancellation_reason"), "next_action": None}
    world.save(intent)
    world.announce("setup_intent.canceled", intent)
    return intent


def list_all(world: World, params: Json) -> Json:
    filters = {key: params.get(key) for key in ("customer", "payment_method")}
    return page(world, "setup_intent", "/v1/setup_intents", params, filters)


def _confirm(world: World, intent: Json, params: Json) -> Json:
    _put_method(world, intent, params)
    if "return_url" in params:
        intent["_return_url"] = params["return_url"]
    check_redirects(intent)
    return confirm_with(world, intent)


def _put_method(world: World, intent: Json, params: Json) -> None:
    if CHOICE.keys() & params.keys():
        chosen = {
            key: params.get(key, intent[key]) for key in CHOICE if key in intent and key != "payment_method_types"
        }
        intent |= {**chosen, "payment_method_types": offered(chosen, None)}
    if "payment_method_data" in params:
        method = make(world, params["payment_method_data"])
    elif "payment_method" in params:
        method = resolve(world, params["payment_method"])
    else:
        return
    if method["type"] not in intent["payment_method_types"]:
        raise invalid(f"A payment method of type {method['type']} is not allowed here.", param="payment_method")
    intent["payment_method"] = method["id"]
    if intent["status"] == "requires_payment_method":
        intent["status"] = "requires_confirmation"


ROUTES: Final = (
    Route("POST", "/v1/setup_intents", create, _CREATE),
    Route(
        "GET",
        "/v1/setup_intents",
        list_all,
        {**PAGE, "created": created_range, "customer": name, "payment_method": name},
    ),
    Route("GET", "/v1/setup_intents/{id}", retrieve),
    Route("POST", "/v1/setup_intents/{id}", update, _WRITABLE),
    Route(
        "POST",
        "/v1/setup_intents/{id}/confirm",
        confirm,
        {"payment_method": name, "payment_method_data": _WRITABLE["payment_method_data"], "return_url": name},
    ),
    Route(
        "POST",
        "/v1/setup_intents/{id}/cancel",
        cancel,
        {"cancellation_reason": one_of("abandoned", "duplicate", "requested_by_customer")},
    ),
)
