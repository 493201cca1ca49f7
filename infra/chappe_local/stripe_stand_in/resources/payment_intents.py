"""Payment intents."""

from typing import Final

from chappe_local.stripe_stand_in import paying
from chappe_local.stripe_stand_in.errors import Json, invalid
from chappe_local.stripe_stand_in.listing import page, search
from chappe_local.stripe_stand_in.parameters import (
    PAGE,
    Spec,
    amount,
    created_range,
    currency,
    fields,
    flag,
    integer,
    metadata,
    name,
    one_of,
    text,
)
from chappe_local.stripe_stand_in.resources import cash
from chappe_local.stripe_stand_in.resources.common import SHIPPING, change, new_metadata
from chappe_local.stripe_stand_in.resources.payment_methods import CHOICE, NEW, check_redirects, make, offered, resolve
from chappe_local.stripe_stand_in.routing import Route
from chappe_local.stripe_stand_in.world import World, new_id, random_text

SMALLEST_AMOUNT: Final = 50
LARGEST_AMOUNT: Final = 99_999_999
_SEARCHABLE: Final = frozenset({"amount", "created", "currency", "customer", "status"})
FUTURE_USE: Final = one_of("", "off_session", "on_session")
METHOD_OPTIONS: Final = fields(
    card=fields(request_three_d_secure=one_of("any", "automatic", "challenge"), setup_future_usage=FUTURE_USE),
    customer_balance=fields(
        bank_transfer=cash.BANK_TRANSFER, funding_type=one_of("bank_transfer"), setup_future_usage=one_of("none")
    ),
    sepa_debit=fields(setup_future_usage=FUTURE_USE),
)
_WRITABLE: Final[dict[str, Spec]] = {
    "amount": amount,
    "currency": currency,
    "customer": name,
    "description": text,
    "metadata": metadata,
    "payment_method": name,
    "payment_method_data": NEW,
    "payment_method_options": METHOD_OPTIONS,
    **CHOICE,
    "receipt_email": text,
    "setup_future_usage": FUTURE_USE,
    "shipping": SHIPPING,
    "statement_descriptor": text,
    "statement_descriptor_suffix": text,
    "transfer_group": text,
}
_PLAIN: Final = _WRITABLE.keys() - {"payment_method", "payment_method_data", "payment_method_options", *CHOICE}
"""What an update just takes over."""
_CONFIRMING: Final[dict[str, Spec]] = {"off_session": flag, "return_url": name, "error_on_requires_action": flag}
_CREATE: Final[dict[str, Spec]] = {
    **_WRITABLE,
    **_CONFIRMING,
    "automatic_payment_methods": fields(("enabled",), enabled=flag, allow_redirects=one_of("always", "never")),
    "capture_method": one_of("automatic", "automatic_async"),
    "confirm": flag,
    "confirmation_method": one_of("automatic", "manual"),
}
_CONFIRM: Final[dict[str, Spec]] = {
    **_CONFIRMING,
    **{key: _WRITABLE[key] for key in ("payment_method", "payment_method_data", "payment_method_options")},
    **{key: _WRITABLE[key] for key in ("receipt_email", "setup_future_usage", "shipping")},
    **CHOICE,
}


def create(world: World, params: Json) -> Json:
    intent = new(world, params)
    if params.get("confirm"):
        return _confirm(world, intent, params)
    if _CONFIRMING.keys() & params.keys() - {"return_url"}:
        raise invalid("This parameter is only for a PaymentIntent that is confirmed at once.", param="confirm")
    return intent


def new(world: World, params: Json) -> Json:
    """An intent that is kept and announced, not confirmed. Raises `StripeError` for amounts out of bounds."""
    check_amount(params["amount"], params["currency"])
    if "customer" in params:
        world.get("customer", params["customer"], "customer")
    intent_id = new_id("pi")
    automatic = params.get("automatic_payment_methods") or {}
    intent: Json = {
        "id": intent_id,
        "object": "payment_intent",
        "amount": params["amount"],
        "amount_capturable": 0,
        "amount_details": {"tip": {}},
        "amount_received": 0,
        "application": None,
        "application_fee_amount": None,
        "automatic_payment_methods": {"allow_redirects": "always", "enabled": True, **automatic},
        "canceled_at": None,
        "cancellation_reason": None,
        "capture_method": params.get("capture_method", "automatic_async"),
        "client_secret": f"{intent_id}_secret_{random_text(25)}",
        "confirmation_method": params.get("confirmation_method", "automatic"),
        "created": world.now,
        "currency": params["currency"],
        "customer": params.get("customer"),
        "customer_account": None,
        "description": params.get("description"),
        "allowed_payment_method_types": params.get("allowed_payment_method_types"),
        "excluded_payment_method_types": params.get("excluded_payment_method_types"),
        "last_payment_error": None,
        "latest_charge": None,
        "livemode": False,
        "managed_payments": None,
        "metadata": new_metadata(params),
        "next_action": None,
        "on_behalf_of": None,
        "payment_method": None,
        "payment_method_configuration_details": None,
        "payment_method_options": {},
        "payment_method_types": offered(params, params["currency"]),
        "payment_record": None,
        "processing": None,
        "receipt_email": params.get("receipt_email"),
        "review": None,
        "setup_future_usage": params.get("setup_future_usage") or None,
        "shipping": params.get("shipping"),
        "source": None,
        "statement_descriptor": params.get("statement_descriptor"),
        "statement_descriptor_suffix": params.get("statement_descriptor_suffix"),
        "status": "requires_payment_method",
        "transfer_data": None,
        "transfer_group": params.get("transfer_group"),
    }
    _put_method(world, intent, params)
    world.save(intent)
    world.announce("payment_intent.created", intent)
    return intent


def check_amount(given: int, of_currency: str) -> None:
    if given < SMALLEST_AMOUNT:
        raise invalid(
            f"Amount must be at least {SMALLEST_AMOUNT / 100:.2f} {of_currency}",
            code="amount_too_small",
            param="amount",
        )
    if given > LARGEST_AMOUNT:
        raise invalid(
            f"Amount must be no more than {LARGEST_AMOUNT / 100:,.2f} {of_currency}",
            code="amount_too_large",
            param="amount",
        )


def retrieve(world: World, params: Json, intent_id: str) -> Json:
    intent = world.get("payment_intent", intent_id)
    if params.get("client_secret", intent["client_secret"]) != intent["client_secret"]:
        raise invalid("The client_secret provided does not match.", param="client_secret")
    return intent


def update(world: World, params: Json, intent_id: str) -> Json:
    intent = world.get("payment_intent", intent_id)
    if intent["status"] not in paying.CONFIRMABLE:
        raise paying.unexpected_state(intent, "update")
    check_amount(params["amount"] if "amount" in params else intent["amount"], intent["currency"])
    if "customer" in params:
        if intent["customer"] not in (None, params["customer"]):
            raise invalid("You cannot change the customer of this PaymentIntent.", param="customer")
        world.get("customer", params["customer"], "customer")
    _put_method(world, intent, params)
    world.save(intent)
    return change(world, intent, {key: params[key] for key in params if key in _PLAIN})


def confirm(world: World, params: Json, intent_id: str) -> Json:
    return _confirm(world, world.get("payment_intent", intent_id), params)


def cancel(world: World, params: Json, intent_id: str) -> Json:
    intent = world.get("payment_intent", intent_id)
    if intent["status"] not in paying.CONFIRMABLE:
        raise paying.unexpected_state(intent, "cancel")
    cash.give_back(world, intent)
    intent |= {
        "status": "canceled",
        "canceled_at": world.now,
        "cancellation_reason": params.get("cancellation_reason"),
        "next_action": None,
    }
    world.save(intent)
    world.announce("payment_intent.canceled", intent)
    world.payment_changed(intent)
    return intent


def list_all(world: World, params: Json) -> Json:
    return page(world, "payment_intent", "/v1/payment_intents", params, {"customer": params.get("customer")})


def search_all(world: World, params: Json) -> Json:
    return search(world, "payment_intent", "/v1/payment_intents/search", params, _SEARCHABLE)


def _confirm(world: World, intent: Json, params: Json) -> Json:
    if intent["status"] not in paying.CONFIRMABLE:
        raise paying.unexpected_state(intent, "confirm")
    _put_method(world, intent, params)
    if "return_url" in params:
        intent["_return_url"] = params["return_url"]
    if "setup_future_usage" in params:
        intent["setup_future_usage"] = params["setup_future_usage"] or None
    check_redirects(intent)
    off_session = params.get("off_session", False)
    if off_session:
        _check_off_session(world, intent)
    return paying.confirm(world, intent, off_session=off_session or params.get("error_on_requires_action", False))


def _check_off_session(world: World, intent: Json) -> None:
    """Only a saved method of the intent's customer can be charged while they are away."""
    method = world.optional("payment_method", intent["payment_method"])
    if method is not None and method["type"] != "customer_balance" and method["customer"] is None:
        raise invalid(
            "A payment can only be made off session with a PaymentMethod that is attached to a customer.",
            param="payment_method",
        )


def _put_method(world: World, intent: Json, params: Json) -> None:
    if CHOICE.keys() & params.keys():
        chosen = {
            key: params.get(key, intent[key]) for key in CHOICE if key in intent and key != "payment_method_types"
        }
        intent |= {**chosen, "payment_method_types": offered(chosen, intent["currency"])}
    if "payment_method_options" in params:
        intent["payment_method_options"] |= params["payment_method_options"] or {}
    if "payment_method_data" in params:
        method = make(world, params["payment_method_data"])
    elif "payment_method" in params:
        method = resolve(world, params["payment_method"])
    else:
        return
    if method["type"] not in intent["payment_method_types"]:
        raise invalid(
            f"The PaymentMethod provided ({method['type']}) is not allowed for this PaymentIntent. Please attempt "
            "to confirm again with a payment method of an allowed type.",
            param="payment_method",
        )
    if method["customer"] not in (None, intent["customer"]):
        raise invalid(
            "The provided PaymentMethod cannot be attached. To reuse a PaymentMethod, you must attach it to a Customer "
            f"first. It belongs to {method['customer']}: provide that customer with the PaymentIntent.",
            param="payment_method",
        )
    intent["payment_method"] = method["id"]
    if intent["status"] == "requires_payment_method":
        intent["status"] = "requires_confirmation"


ROUTES: Final = (
    Route("POST", "/v1/payment_intents", create, _CREATE, required=("amount", "currency")),
    Route(
        "GET",
        "/v1/payment_intents/search",
        search_all,
        {"query": name, "limit": integer, "page": name},
        required=("query",),
    ),
    Route("GET", "/v1/payment_intents", list_all, {**PAGE, "created": created_range, "customer": name}),
    Route("GET", "/v1/payment_intents/{id}", retrieve, {"client_secret": name}),
    Route("POST", "/v1/payment_intents/{id}", update, _WRITABLE),
    Route("POST", "/v1/payment_intents/{id}/confirm", confirm, _CONFIRM),
    Route(
        "POST",
        "/v1/payment_intents/{id}/cancel",
        cancel,
        {"cancellation_reason": one_of("abandoned", "duplicate", "fraudulent", "requested_by_customer")},
    ),
)
