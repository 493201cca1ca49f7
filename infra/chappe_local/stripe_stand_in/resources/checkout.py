"""Checkout sessions: a page where somebody pays once, or saves a payment method."""

from collections.abc import Mapping
from typing import Any, Final

from chappe_local.stripe_stand_in import paying
from chappe_local.stripe_stand_in.errors import Json, invalid
from chappe_local.stripe_stand_in.instruments import LATE_S
from chappe_local.stripe_stand_in.listing import list_object, page
from chappe_local.stripe_stand_in.parameters import (
    PAGE,
    Spec,
    amount,
    created_range,
    currency,
    fields,
    flag,
    integer,
    items,
    metadata,
    name,
    one_of,
    text,
)
from chappe_local.stripe_stand_in.resources import customers, payment_intents, setup_intents
from chappe_local.stripe_stand_in.resources.common import change, new_metadata
from chappe_local.stripe_stand_in.resources.payment_intents import FUTURE_USE, METHOD_OPTIONS
from chappe_local.stripe_stand_in.resources.payment_methods import CHOICE, make, offered
from chappe_local.stripe_stand_in.routing import Route
from chappe_local.stripe_stand_in.world import World, new_id, random_text

_SHORTEST_S: Final = 30 * 60
_LONGEST_S: Final = 24 * 3600
_ID_LENGTH: Final = 58
ID_TEMPLATE: Final = "{CHECKOUT_SESSION_ID}"
"""Stands for the session's id in its return addresses."""
_SLACK_S: Final = LATE_S
"""Callers count half an hour by their own clock."""


def create(world: World, params: Json) -> Json:
    mode = params.get("mode", "payment")
    _check(world, mode, params)
    items_of = [_item(line) for line in params.get("line_items", [])]
    total = sum(int(line["amount_total"]) for line in items_of)
    if mode == "payment":
        payment_intents.check_amount(total, items_of[0]["currency"])
    session_id = new_id("cs_test", _ID_LENGTH)
    customer = world.optional("customer", params.get("customer"))
    session: Json = {
        **_NOTHING,
        "id": session_id,
        "object": "checkout.session",
        "amount_subtotal": total if mode == "payment" else None,
        "amount_total": total if mode == "payment" else None,
        "automatic_tax": {"enabled": False, "liability": None, "provider": None, "status": None},
        "billing_address_collection": params.get("billing_address_collection"),
        "cancel_url": params.get("cancel_url"),
        "client_reference_id": params.get("client_reference_id"),
        "created": world.now,
        "currency": items_of[0]["currency"] if items_of else params.get("currency"),
        "custom_fields": [],
        "custom_text": dict.fromkeys(("after_submit", "shipping_address", "submit", "terms_of_service_acceptance")),
        "customer": params.get("customer"),
        "customer_creation": params.get("customer_creation", None if customer else "if_required"),
        "customer_details": _details(customer, params.get("customer_email")),
        "customer_email": params.get("customer_email"),
        "expires_at": params.get("expires_at", world.now + _LONGEST_S),
        "livemode": False,
        "locale": params.get("locale"),
        "metadata": new_metadata(params),
        "mode": mode,
        "payment_method_options": params.get("payment_method_options") or {},
        "allowed_payment_method_types": params.get("allowed_payment_method_types"),
        "excluded_payment_method_types": params.get("excluded_payment_method_types"),
        "payment_method_types": offered(params, items_of[0]["currency"] if items_of else params.get("currency")),
        "payment_status": "unpaid" if mode == "payment" else "no_payment_required",
        "phone_number_collection": {"enabled": False},
        "shipping_options": [],
        "status": "open",
        "submit_type": params.get("submit_type"),
        "success_url": params.get("success_url"),
        "total_details": {"amount_discount": 0, "amount_shipping": 0, "amount_tax": 0} if mode == "payment" else None,
        "ui_mode": "hosted_page",
        "url": f"{world.public_url}/c/pay/{session_id}",
        "_items": items_of,
        "_intent_data": params.get("payment_intent_data") or params.get("setup_intent_data") or {},
    }
    if mode == "setup":
        intent = setup_intents.new(world, {**session["_intent_data"], **_shared(session)})
        world.save({**intent, "_session": session_id})
        session["setup_intent"] = intent["id"]
    world.save(session)
    world.later(session["expires_at"] - world.now, "expire_session", session_id)
    return session


def pay(world: World, session: Json, method_data: Mapping[str, Any]) -> Json:
    """What the page's button does, with what was typed. The session afterwards; it is open still when the bank wants
    to see the customer first. Raises the decline, or `StripeError` for what cannot be paid with."""
    _still_open(session)
    if method_data["type"] not in session["payment_method_types"]:
        raise invalid("This payment method is not offered here.", param="payment_method")
    _ensure_customer(world, session)
    method = make(world, method_data)
    if session["mode"] == "setup":
        intent = world.get("setup_intent", session["setup_intent"])
        intent["payment_method"] = method["id"]
        setup_intents.confirm_with(world, intent)
        return world.get("checkout.session", session["id"])
    intent = _intent_of(world, session)
    intent["payment_method"] = method["id"]
    world.save(intent)
    paying.confirm(world, intent)
    waits = method["type"] == "customer_balance" and intent["status"] == "requires_action"
    if waits or intent["status"] == "processing":
        # The customer has done their part: what is left is the bank's.
        complete(world, session, paid=False)
    return world.get("checkout.session", session["id"])


def complete(world: World, session: Json, *, paid: bool) -> None:
    before = session["status"]
    session |= {"status": "complete", "url": None}
    if session["mode"] == "payment":
        session["payment_status"] = "paid" if paid else "unpaid"
    world.save(session)
    if before == "open":
        world.announce("checkout.session.completed", session)


def follow(world: World, intent: Json) -> None:
    """What a changed intent means for its session."""
    session = world.optional("checkout.session", intent.get("_session"))
    if session is None:
        return
    if session["status"] == "open":
        if intent["status"] == "succeeded":
            complete(world, session, paid=True)
        return
    if session["status"] != "complete" or session["payment_status"] == "paid":
        return
    if intent["status"] == "succeeded":
        session["payment_status"] = "paid"
        world.save(session)
        world.announce("checkout.session.async_payment_succeeded", session)
    elif intent["status"] == "requires_payment_method":
        world.announce("checkout.session.async_payment_failed", session)


def expire_due(world: World, session_id: str) -> None:
    """Its time is over."""
    session = world.get("checkout.session", session_id)
    if session["status"] == "open":
        _expire(world, session)


def expire(world: World, _params: Json, session_id: str) -> Json:
    session = world.get("checkout.session", session_id)
    _still_open(session)
    return _expire(world, session)


def retrieve(world: World, _params: Json, session_id: str) -> Json:
    return world.get("checkout.session", session_id)


def update(world: World, params: Json, session_id: str) -> Json:
    return change(world, world.get("checkout.session", session_id), params)


def list_all(world: World, params: Json) -> Json:
    filters = {key: params.get(key) for key in ("customer", "payment_intent", "status")}
    return page(world, "checkout.session", "/v1/checkout/sessions", params, filters)


def items_of(_world: World, session: Json) -> Json:
    return list_object(session["_items"], f"/v1/checkout/sessions/{session['id']}/line_items")


def list_items(world: World, _params: Json, session_id: str) -> Json:
    return items_of(world, world.get("checkout.session", session_id))


def return_address(session: Json) -> str | None:
    """Where the browser goes after it is done."""
    url = session["success_url"]
    return None if url is None else str(url).replace(ID_TEMPLATE, session["id"])


def _expire(world: World, session: Json) -> Json:
    session |= {"status": "expired", "url": None}
    world.save(session)
    intent = world.optional("payment_intent", session["payment_intent"])
    if intent is not None and intent["status"] in paying.CONFIRMABLE:
        payment_intents.cancel(world, {"cancellation_reason": "automatic"}, intent["id"])
    world.announce("checkout.session.expired", session)
    return session


def _still_open(session: Json) -> None:
    if session["status"] != "open":
        raise invalid(f"This Session is {session['status']}: only open ones can be paid or expired.")


def _intent_of(world: World, session: Json) -> Json:
    """The session's payment intent, made at its first attempt."""
    if session["payment_intent"] is not None:
        return world.get("payment_intent", session["payment_intent"])
    intent = payment_intents.new(
        world,
        {
            **session["_intent_data"],
            **_shared(session),
            "amount": session["amount_total"],
            "currency": session["currency"],
            "payment_method_options": session["payment_method_options"],
        },
    )
    intent["_session"] = session["id"]
    session["payment_intent"] = intent["id"]
    world.save(session)
    return world.save(intent)


def _shared(session: Json) -> Json:
    customer = {"customer": session["customer"]} if session["customer"] else {}
    return {**customer, "allowed_payment_method_types": session["payment_method_types"]}


def _ensure_customer(world: World, session: Json) -> None:
    if session["customer"] is None and session["customer_creation"] == "always":
        email = session["customer_email"]
        session["customer"] = customers.create(world, {"email": email} if email else {})["id"]
        world.save(session)


def _check(world: World, mode: str, params: Json) -> None:
    if "success_url" not in params:
        raise invalid("Missing required param: success_url.", code="parameter_missing", param="success_url")
    for given in ("success_url", "cancel_url"):
        if given in params and not str(params[given]).startswith(("http://", "https://")):
            raise invalid("Not a valid URL", code="url_invalid", param=given)
    _check_mode(mode, params)
    _check_customer(world, params)
    ends = params.get("expires_at", world.now + _LONGEST_S) - world.now
    if not _SHORTEST_S - _SLACK_S <= ends <= _LONGEST_S + _SLACK_S:
        raise invalid(
            "The `expires_at` timestamp must be at least 30 minutes and less than 24 hours from Checkout Session "
            "creation.",
            param="expires_at",
        )


def _check_mode(mode: str, params: Json) -> None:
    """What only the other mode takes is refused."""
    if mode == "payment":
        if not params.get("line_items"):
            raise invalid("Missing required param: line_items.", code="parameter_missing", param="line_items")
        if "setup_intent_data" in params:
            raise invalid("You can not pass `setup_intent_data` in `payment` mode.", param="setup_intent_data")
        return
    for given in ("line_items", "payment_intent_data"):
        if given in params:
            raise invalid(f"You can not pass `{given}` in `setup` mode.", param=given)
    if not (params.get("currency") or params.get("allowed_payment_method_types")):
        raise invalid("Missing required param: currency.", code="parameter_missing", param="currency")


def _check_customer(world: World, params: Json) -> None:
    if "customer" in params and "customer_email" in params:
        raise invalid("You may only specify one of these parameters: customer, customer_email.")
    if "customer" in params:
        world.get("customer", params["customer"], "customer")
    elif "customer_balance" in params.get("allowed_payment_method_types", []):
        raise invalid("A customer is needed to pay by bank transfer.", param="customer")


def _item(line: Json) -> Json:
    price = line["price_data"]
    unit, quantity = price.get("unit_amount"), line.get("quantity", 1)
    if unit is None:
        raise invalid(
            "Missing required param: line_items[0][price_data][unit_amount].",
            code="parameter_missing",
            param="line_items[0][price_data][unit_amount]",
        )
    product = price.get("product_data") or {}
    return {
        "id": new_id("li"),
        "object": "item",
        "adjustable_quantity": None,
        "amount_discount": 0,
        "amount_subtotal": unit * quantity,
        "amount_tax": 0,
        "amount_total": unit * quantity,
        "currency": price["currency"],
        "description": product.get("name"),
        "metadata": {},
        "price": _price(price),
        "quantity": quantity,
    }


def _price(price: Json) -> Json:
    return {
        "id": new_id("price"),
        "object": "price",
        "active": False,
        "billing_scheme": "per_unit",
        "created": 0,
        "currency": price["currency"],
        "custom_unit_amount": None,
        "livemode": False,
        "lookup_key": None,
        "metadata": {},
        "nickname": None,
        "product": f"prod_{random_text(14)}",
        "recurring": None,
        "tax_behavior": price.get("tax_behavior", "unspecified"),
        "tiers_mode": None,
        "transform_quantity": None,
        "type": "one_time",
        "unit_amount": price["unit_amount"],
        "unit_amount_decimal": str(price["unit_amount"]),
    }


def _details(customer: Json | None, email: str | None) -> Json | None:
    if customer is None and email is None:
        return None
    known = customer or {}
    nothing = dict.fromkeys(("business_name", "individual_name", "tax_ids"))
    return {
        **nothing,
        "address": known.get("address"),
        "email": known.get("email") or email,
        "name": known.get("name"),
        "phone": known.get("phone"),
        "tax_exempt": known.get("tax_exempt", "none"),
    }


_NOTHING: Final[Json] = dict.fromkeys(
    (
        *("adaptive_pricing", "after_expiration", "allow_promotion_codes", "client_secret", "collected_information"),
        *("consent", "consent_collection", "currency_conversion", "customer_account", "discounts", "invoice"),
        *("integration_identifier", "invoice_creation", "managed_payments", "origin_context", "payment_intent"),
        *("payment_link", "payment_method_collection", "payment_method_configuration_details", "permissions"),
        *("recovered_from", "redirect_on_completion", "saved_payment_method_options", "setup_intent"),
        *("shipping_address_collection", "shipping_cost", "subscription", "wallet_options"),
    )
)
_PRICE_DATA: Final = fields(
    ("currency",),
    currency=currency,
    product_data=fields(("name",), name=name, description=text, metadata=metadata),
    tax_behavior=one_of("exclusive", "inclusive", "unspecified"),
    unit_amount=integer,
)
_CREATE: Final[dict[str, Spec]] = {
    "billing_address_collection": one_of("auto", "required"),
    "cancel_url": name,
    "client_reference_id": name,
    "currency": currency,
    "customer": name,
    "customer_creation": one_of("always", "if_required"),
    "customer_email": name,
    "customer_update": fields(**dict.fromkeys(("address", "name", "shipping"), one_of("auto", "never"))),
    "expires_at": integer,
    "line_items": items(fields(("price_data",), price_data=_PRICE_DATA, quantity=amount)),
    "locale": name,
    "metadata": metadata,
    "mode": one_of("payment", "setup"),
    "payment_intent_data": fields(
        description=text,
        metadata=metadata,
        receipt_email=text,
        setup_future_usage=FUTURE_USE,
        statement_descriptor=text,
        statement_descriptor_suffix=text,
        transfer_group=text,
    ),
    "payment_method_options": METHOD_OPTIONS,
    **CHOICE,
    "phone_number_collection": fields(("enabled",), enabled=flag),
    "setup_intent_data": fields(description=text, metadata=metadata),
    "submit_type": one_of("auto", "book", "donate", "pay"),
    "success_url": name,
    "ui_mode": one_of("hosted_page"),
}
ROUTES: Final = (
    Route("POST", "/v1/checkout/sessions", create, _CREATE),
    Route(
        "GET",
        "/v1/checkout/sessions",
        list_all,
        {
            **PAGE,
            "created": created_range,
            "customer": name,
            "payment_intent": name,
            "status": one_of("complete", "expired", "open"),
        },
    ),
    Route("GET", "/v1/checkout/sessions/{id}", retrieve),
    Route("POST", "/v1/checkout/sessions/{id}", update, {"metadata": metadata}),
    Route("GET", "/v1/checkout/sessions/{id}/line_items", list_items, PAGE),
    Route("POST", "/v1/checkout/sessions/{id}/expire", expire),
)
