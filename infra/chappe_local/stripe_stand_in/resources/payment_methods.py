"""Payment methods: cards and SEPA debits, made from test numbers alone, and bank transfers."""

import hashlib
from collections.abc import Mapping
from typing import Any, Final

from chappe_local.stripe_stand_in import instruments
from chappe_local.stripe_stand_in.errors import Json, invalid
from chappe_local.stripe_stand_in.instruments import NAMED_CARDS
from chappe_local.stripe_stand_in.listing import page
from chappe_local.stripe_stand_in.parameters import PAGE, Spec, fields, integer, items, metadata, name, one_of, text
from chappe_local.stripe_stand_in.resources.common import ADDRESS, address, change, new_metadata
from chappe_local.stripe_stand_in.routing import Route
from chappe_local.stripe_stand_in.world import World, new_id, random_text

_ENABLED: Final = ("card", "sepa_debit")
"""What the account offers where a call does not say; bank transfers are asked for by name."""


def _refuse_types(_raw: Any, param: str) -> Any:
    raise invalid(
        "payment_method_types is no longer supported. Use allowed_payment_method_types, "
        "excluded_payment_method_types, or the payment methods of your Dashboard.",
        code="payment_method_types_no_longer_supported",
        param=param,
    )


TYPES: Final = ("card", "customer_balance", "sepa_debit")
"""The types of payment method that this Stripe knows."""
_BILLING: Final = fields(address=ADDRESS, email=text, name=text, phone=text)
_DISPLAY: Final = one_of("always", "limited", "unspecified")
DATA: Final[dict[str, Spec]] = {
    "type": one_of(*TYPES),
    "allow_redisplay": _DISPLAY,
    "billing_details": _BILLING,
    "card": fields((), number=name, exp_month=integer, exp_year=integer, cvc=name),
    "customer_balance": fields(),
    "metadata": metadata,
    "sepa_debit": fields(("iban",), iban=name),
}
NEW: Final = fields(("type",), **{key: spec for key, spec in DATA.items() if key != "card"})
"""`payment_method_data`: cards' numbers have their own call."""
CHOICE: Final[dict[str, Spec]] = {
    "allowed_payment_method_types": items(one_of(*TYPES)),
    "excluded_payment_method_types": items(one_of(*TYPES)),
    "payment_method_types": _refuse_types,
}
_UPDATABLE: Final[dict[str, Spec]] = {
    "allow_redisplay": _DISPLAY,
    "billing_details": _BILLING,
    "card": fields(exp_month=integer, exp_year=integer),
    "metadata": metadata,
}
_EXPIRES_IN_YEARS: Final = 5
_SECONDS_PER_YEAR: Final = 31_556_952


def offered(params: Mapping[str, Any], currency: str | None) -> list[str]:
    """The types that a payment or a setup can use: those of `CHOICE` that go with the currency. None of it is left:
    `StripeError`."""
    wanted = params.get("allowed_payment_method_types") or _ENABLED
    excluded = params.get("excluded_payment_method_types") or ()
    found = [one for one in wanted if one not in excluded and (one == "card" or currency in (None, "eur"))]
    if not found:
        raise invalid(
            "No valid payment method types for this Payment Intent. Please ensure that you have activated payment "
            "methods compatible with your chosen currency in your dashboard or supply compatible "
            "allowed_payment_method_types.",
            param="allowed_payment_method_types",
        )
    return found


def check_redirects(intent: Mapping[str, Any]) -> None:
    """Whoever may be sent elsewhere must be able to come back. That none of our types would send them does not matter:
    those of the account's dashboard could."""
    redirects = intent["automatic_payment_methods"]["allow_redirects"] == "always"
    if redirects and not intent["allowed_payment_method_types"] and "_return_url" not in intent:
        noun = "PaymentIntent" if intent["object"] == "payment_intent" else "SetupIntent"
        raise invalid(
            f"This {noun} is configured to accept payment methods enabled in your Dashboard. Because some of these "
            "payment methods might redirect your customer off of your page, you must provide a `return_url`. If you "
            "don't want to accept redirect-based payment methods and don't want to provide a `return_url`, set "
            "`automatic_payment_methods[enabled]` to `true` and `automatic_payment_methods[allow_redirects]` to "
            "`never` when creating Setup Intents and Payment Intents.",
            param="return_url",
        )


def create(world: World, params: Json) -> Json:
    return make(world, params)


def make(world: World, params: Mapping[str, Any]) -> Json:
    """A payment method out of what was typed. Raises `StripeError` for what is no test card and no test account."""
    kind = params["type"]
    method: Json = {
        "id": new_id("pm"),
        "object": "payment_method",
        "allow_redisplay": params.get("allow_redisplay", "unspecified"),
        "billing_details": _billing(params.get("billing_details")),
        "created": world.now,
        "customer": None,
        "customer_account": None,
        "livemode": False,
        "metadata": new_metadata(params),
        "type": kind,
    }
    if kind == "card":
        _put_card(world, method, params.get("card") or {})
    elif kind == "sepa_debit":
        _put_account(method, params.get("sepa_debit") or {})
    else:
        method["customer_balance"] = {}
    return world.save(method)


def resolve(world: World, method_id: str, param: str = "payment_method") -> Json:
    """The payment method of an id; `pm_card_visa` and its like stand for a new one."""
    if method_id in NAMED_CARDS:
        return make(world, {"type": "card", "card": {"number": NAMED_CARDS[method_id]}})
    return world.get("payment_method", method_id, param)


def attach_to(world: World, method_id: str, customer_id: str, *, authenticated: bool = False) -> Json:
    """Save a method for a customer. Its bank may refuse that, and a method is one customer's for good."""
    method = resolve(world, method_id)
    world.get("customer", customer_id, "customer")
    if method["customer"] == customer_id:
        return method
    if method["customer"] is not None or method.get("_detached"):
        raise invalid(
            "The payment method you provided has already been attached to a customer."
            if method["customer"]
            else "This PaymentMethod was previously used without being attached to a Customer or was detached from a "
            "Customer, and may not be used again.",
            param="payment_method",
        )
    if method["type"] == "card":
        card = instruments.card(method["_number"])
        if card.refusal is not None and card.refuses_when_saved:
            raise card.refusal.error()
    method["customer"] = customer_id
    method["_set_up"] = method.get("_set_up", False) or authenticated
    world.save(method)
    world.announce("payment_method.attached", method)
    return method


def attach(world: World, params: Json, method_id: str) -> Json:
    return attach_to(world, method_id, params["customer"])


def detach(world: World, _params: Json, method_id: str) -> Json:
    method = world.get("payment_method", method_id)
    customer_id = method["customer"]
    if customer_id is None:
        raise invalid("The payment method you provided is not attached to a customer so detachment is impossible.")
    method["customer"], method["_detached"] = None, True
    world.save(method)
    world.announce("payment_method.detached", method, {"customer": customer_id})
    customer = world.get("customer", customer_id)
    settings = customer["invoice_settings"]
    if settings["default_payment_method"] == method_id:
        change(
            world,
            customer,
            {"invoice_settings": {**settings, "default_payment_method": None}},
            event="customer.updated",
        )
    return method


def retrieve(world: World, _params: Json, method_id: str) -> Json:
    return world.get("payment_method", method_id)


def retrieve_of(world: World, _params: Json, customer_id: str, method_id: str) -> Json:
    world.get("customer", customer_id, "customer")
    method = world.get("payment_method", method_id)
    if method["customer"] != customer_id:
        raise invalid(f"No such PaymentMethod: '{method_id}'", code="resource_missing", param="payment_method")
    return method


def update(world: World, params: Json, method_id: str) -> Json:
    method = world.get("payment_method", method_id)
    if method["customer"] is None:
        raise invalid("You must save this PaymentMethod to a customer before you can update it.")
    given = dict(params)
    if "card" in given:
        given["card"] = {**method["card"], **(given["card"] or {})}
    if "billing_details" in given:
        given["billing_details"] = _billing(given["billing_details"])
    return change(world, method, given, event="payment_method.updated")


def list_all(world: World, params: Json) -> Json:
    filters = {"customer": params.get("customer"), "type": params.get("type")}
    return page(world, "payment_method", "/v1/payment_methods", params, filters)


def list_of(world: World, params: Json, customer_id: str) -> Json:
    world.get("customer", customer_id)
    filters = {"customer": customer_id, "type": params.get("type")}
    return page(world, "payment_method", f"/v1/customers/{customer_id}/payment_methods", params, filters)


def label(method: Mapping[str, Any]) -> str:
    """How a person recognizes it."""
    if method["type"] == "card":
        card = method["card"]
        return f"{card['brand'].capitalize()} …{card['last4']}, {card['exp_month']:02}/{card['exp_year']}"
    if method["type"] == "sepa_debit":
        debit = method["sepa_debit"]
        return f"SEPA Direct Debit, {debit['country']} …{debit['last4']}"
    return "Bank transfer"


def _put_card(world: World, method: Json, given: Mapping[str, Any]) -> None:
    if "number" not in given:
        raise invalid("Missing required param: card[number].", code="parameter_missing", param="card[number]")
    card = instruments.card(given["number"])
    this_year = 1970 + world.now // _SECONDS_PER_YEAR
    month, year = given.get("exp_month", 12), given.get("exp_year", this_year + _EXPIRES_IN_YEARS)
    if not 1 <= month <= 12:  # noqa: PLR2004 -- months
        raise instruments.Refusal("invalid_expiry_month", None, "Your card's expiration month is invalid.").error(
            param="exp_month"
        )
    if year < this_year:
        raise instruments.Refusal("invalid_expiry_year", None, "Your card's expiration year is invalid.").error(
            param="exp_year"
        )
    method["_number"] = card.number
    method["card"] = {
        "brand": card.brand,
        "checks": {
            "address_line1_check": None,
            "address_postal_code_check": None,
            "cvc_check": "pass" if "cvc" in given else None,
        },
        "country": "US",
        "display_brand": card.brand,
        "exp_month": month,
        "exp_year": year,
        "fingerprint": _fingerprint(card.number),
        "funding": "credit",
        "generated_from": None,
        "last4": card.number[-4:],
        "networks": {"available": [card.brand], "preferred": None},
        "regulated_status": "unregulated",
        "three_d_secure_usage": {"supported": True},
        "wallet": None,
    }


def _put_account(method: Json, given: Mapping[str, Any]) -> None:
    if "iban" not in given:
        raise invalid("Missing required param: sepa_debit[iban].", code="parameter_missing", param="sepa_debit[iban]")
    iban = instruments.account(given["iban"]).iban
    for wanted in ("name", "email"):
        if not method["billing_details"][wanted]:
            param = f"billing_details[{wanted}]"
            raise invalid(f"Missing required param: {param}.", code="parameter_missing", param=param)
    method["_iban"] = iban
    method["sepa_debit"] = {
        "bank_code": iban[4:12],
        "branch_code": "",
        "country": iban[:2],
        "fingerprint": _fingerprint(iban),
        "generated_from": {"charge": None, "setup_attempt": None},
        "last4": iban[-4:],
    }


def make_mandate(world: World, method: Json) -> Json:
    """The customer's permission to debit a SEPA account."""
    return world.save(
        {
            "id": new_id("mandate"),
            "object": "mandate",
            "customer_acceptance": {
                "accepted_at": world.now,
                "online": {"ip_address": "127.0.0.1", "user_agent": "stand-in"},
                "type": "online",
            },
            "livemode": False,
            "multi_use": {},
            "payment_method": method["id"],
            "payment_method_details": {
                "sepa_debit": {"reference": random_text(16).upper(), "url": f"{world.public_url}/mandate"},
                "type": "sepa_debit",
            },
            "status": "active",
            "type": "multi_use",
        }
    )


def retrieve_mandate(world: World, _params: Json, mandate_id: str) -> Json:
    return world.get("mandate", mandate_id)


def _billing(given: Mapping[str, Any] | None) -> Json:
    given = given or {}
    known = {part: given.get(part) for part in ("email", "name", "phone")}
    return {"address": address(given.get("address")), **known, "tax_id": None}


def _fingerprint(number: str) -> str:
    """The same for the same number, and says nothing else: 16 characters."""
    return hashlib.sha256(number.encode()).hexdigest()[:16]


_OF_CUSTOMER: Final[dict[str, Spec]] = {**PAGE, "type": one_of(*TYPES)}
ROUTES: Final = (
    Route("POST", "/v1/payment_methods", create, DATA, required=("type",)),
    Route("GET", "/v1/payment_methods", list_all, {**_OF_CUSTOMER, "customer": name}),
    Route("GET", "/v1/payment_methods/{id}", retrieve),
    Route("POST", "/v1/payment_methods/{id}", update, _UPDATABLE),
    Route("POST", "/v1/payment_methods/{id}/attach", attach, {"customer": name}, required=("customer",)),
    Route("POST", "/v1/payment_methods/{id}/detach", detach),
    Route("GET", "/v1/customers/{id}/payment_methods", list_of, _OF_CUSTOMER),
    Route("GET", "/v1/customers/{id}/payment_methods/{method}", retrieve_of),
    Route("GET", "/v1/mandates/{id}", retrieve_mandate),
)
