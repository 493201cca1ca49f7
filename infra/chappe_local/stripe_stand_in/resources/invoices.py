"""Invoices: drafted, finalized, sent or charged, paid or voided."""

from typing import Final

from chappe_local.stripe_stand_in import paying
from chappe_local.stripe_stand_in.errors import Json, StripeError, invalid
from chappe_local.stripe_stand_in.listing import list_object, page, search
from chappe_local.stripe_stand_in.parameters import (
    PAGE,
    Spec,
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
from chappe_local.stripe_stand_in.resources import cash, invoice_items, payment_intents
from chappe_local.stripe_stand_in.resources.common import change, new_metadata
from chappe_local.stripe_stand_in.resources.payment_methods import TYPES, make, resolve
from chappe_local.stripe_stand_in.routing import Route
from chappe_local.stripe_stand_in.world import World, new_id

_DAY_S: Final = 86_400
_ADVANCES_AFTER_S: Final = 3600
"""When a draft with `auto_advance` finalizes itself."""
_SEARCHABLE: Final = frozenset({"created", "currency", "customer", "number", "status", "total"})


def create(world: World, params: Json) -> Json:
    customer = world.get("customer", params["customer"], "customer")
    collection = params.get("collection_method", "charge_automatically")
    _check_due(collection, params)
    invoice: Json = {
        **_NOTHING,
        "id": new_id("in"),
        "object": "invoice",
        "account_country": "DE",
        "account_name": "Stand-in",
        **dict.fromkeys(_ZEROS, 0),
        "attempted": False,
        "auto_advance": params.get("auto_advance", False),
        "automatic_tax": {
            "disabled_reason": None,
            "enabled": False,
            "liability": None,
            "provider": None,
            "status": None,
        },
        "billing_reason": "manual",
        "collection_method": collection,
        "created": world.now,
        "currency": params.get("currency") or customer["currency"] or "eur",
        "customer": customer["id"],
        **{f"customer_{key}": customer[key] for key in ("address", "email", "name", "phone", "shipping", "tax_exempt")},
        "customer_tax_ids": [],
        "default_payment_method": params.get("default_payment_method"),
        "default_tax_rates": [],
        "description": params.get("description"),
        "discounts": [],
        "due_date": params.get("due_date"),
        "footer": params.get("footer"),
        "issuer": {"account": None, "type": "self"},
        "lines": {},
        "livemode": False,
        "metadata": new_metadata(params),
        "number": params.get("number"),
        "payment_settings": _payment_settings(params.get("payment_settings")),
        "period_end": world.now,
        "period_start": world.now,
        "status": "draft",
        "status_transitions": dict.fromkeys(("finalized_at", "marked_uncollectible_at", "paid_at", "voided_at")),
        "total_discount_amounts": [],
        "total_pretax_credit_amounts": [],
        "total_taxes": [],
        "_days_until_due": params.get("days_until_due"),
    }
    world.save(invoice)
    if params.get("pending_invoice_items_behavior") == "include":
        invoice_items.take_pending(world, invoice)
    _add_up(world, invoice)
    if invoice["auto_advance"]:
        invoice["automatically_finalizes_at"] = world.now + _ADVANCES_AFTER_S
        world.later(_ADVANCES_AFTER_S, "advance_invoice", invoice["id"])
    world.save(invoice)
    world.announce("invoice.created", invoice)
    return invoice


def finalize(world: World, params: Json, invoice_id: str) -> Json:
    invoice = world.get("invoice", invoice_id)
    invoice_items.require_draft(invoice)
    if "auto_advance" in params:
        invoice["auto_advance"] = params["auto_advance"]
    return _finalize(world, invoice)


def advance(world: World, invoice_id: str) -> None:
    """A draft that advances by itself is finalized, and charged if it says so."""
    invoice = world.get("invoice", invoice_id)
    if invoice["status"] != "draft" or not invoice["auto_advance"]:
        return
    invoice = _finalize(world, invoice)
    if invoice["status"] == "open" and invoice["collection_method"] == "charge_automatically":
        try:
            _charge(world, invoice, None, off_session=True)
        except StripeError as error:
            if not error.keeps_changes:
                raise


def send(world: World, _params: Json, invoice_id: str) -> Json:
    invoice = world.get("invoice", invoice_id)
    if invoice["collection_method"] != "send_invoice":
        raise invalid("You can only send an invoice whose collection_method is send_invoice.")
    if invoice["status"] == "draft":
        invoice = _finalize(world, invoice)
    if invoice["status"] in ("void", "uncollectible"):
        raise invalid(f"This invoice is {invoice['status']}.", code="invoice_not_editable")
    world.announce("invoice.sent", invoice)
    return invoice


def pay(world: World, params: Json, invoice_id: str) -> Json:
    invoice = world.get("invoice", invoice_id)
    if invoice["status"] == "draft":
        invoice = _finalize(world, invoice)
    if invoice["status"] not in ("open", "uncollectible"):
        raise invalid(f"Invoice is already {invoice['status']}", code=f"invoice_already_{invoice['status']}")
    if params.get("paid_out_of_band"):
        _cancel_intent(world, invoice)
        invoice["amount_paid_off_stripe"] = invoice["amount_due"]
        return _mark_paid(world, invoice, 0)
    return _charge(world, invoice, params.get("payment_method"), off_session=params.get("off_session", True))


def pay_by_hand(world: World, invoice: Json, method_data: Json) -> Json:
    """What the hosted page's button does. The invoice's payment intent afterwards."""
    intent = world.get("payment_intent", invoice["_intent"])
    method = make(world, method_data)
    cash.give_back(world, intent)
    intent["payment_method"] = method["id"]
    return paying.confirm(world, intent)


def void(world: World, _params: Json, invoice_id: str) -> Json:
    return _end(world, invoice_id, "void", "voided_at", "invoice.voided")


def mark_uncollectible(world: World, _params: Json, invoice_id: str) -> Json:
    return _end(world, invoice_id, "uncollectible", "marked_uncollectible_at", "invoice.marked_uncollectible")


def follow(world: World, intent: Json) -> None:
    """What a changed intent means for its invoice."""
    invoice = world.optional("invoice", intent.get("_invoice"))
    if invoice is None or invoice["status"] not in ("open", "uncollectible"):
        return
    if intent["status"] == "succeeded":
        invoice |= {"attempted": True, "attempt_count": invoice["attempt_count"] + 1}
        _mark_paid(world, invoice, intent["amount_received"])
    elif intent["status"] == "requires_payment_method":
        invoice |= {"attempted": True, "attempt_count": invoice["attempt_count"] + 1}
        world.save(invoice)
        world.announce("invoice.payment_failed", invoice)


def retrieve(world: World, _params: Json, invoice_id: str) -> Json:
    return _add_up(world, world.get("invoice", invoice_id))


def update(world: World, params: Json, invoice_id: str) -> Json:
    invoice = world.get("invoice", invoice_id)
    if params.keys() - {"metadata", "auto_advance", "default_payment_method"}:
        invoice_items.require_draft(invoice)
    values = dict(params)
    if "payment_settings" in values:
        values["payment_settings"] = _payment_settings(values["payment_settings"])
    if "days_until_due" in values:
        invoice["_days_until_due"] = values.pop("days_until_due")
        world.save(invoice)
    return change(world, _add_up(world, invoice), values, event="invoice.updated")


def delete(world: World, _params: Json, invoice_id: str) -> Json:
    invoice = world.get("invoice", invoice_id)
    invoice_items.require_draft(invoice)
    invoice_items.release(world, invoice_id)
    world.save({**invoice, "deleted": True})
    world.announce("invoice.deleted", invoice)
    return {"id": invoice_id, "object": "invoice", "deleted": True}


def list_all(world: World, params: Json) -> Json:
    filters = {key: params.get(key) for key in ("collection_method", "customer", "status")}
    found = page(world, "invoice", "/v1/invoices", params, filters)
    return {**found, "data": [_add_up(world, one) for one in found["data"]]}


def search_all(world: World, params: Json) -> Json:
    return search(world, "invoice", "/v1/invoices/search", params, _SEARCHABLE)


def list_lines(world: World, _params: Json, invoice_id: str) -> Json:
    return invoice_items.lines(world, world.get("invoice", invoice_id))


def payments_of(world: World, invoice: Json) -> Json:
    found = world.store.select("invoice_payment", [("invoice", "=", invoice["id"])])
    return list_object(found, "/v1/invoice_payments")


def confirmation_secret_of(world: World, invoice: Json) -> Json:
    intent = world.get("payment_intent", invoice.get("_intent"))
    return {"client_secret": intent["client_secret"], "type": "payment_intent"}


def retrieve_payment(world: World, _params: Json, payment_id: str) -> Json:
    return world.get("invoice_payment", payment_id)


def list_payments(world: World, params: Json) -> Json:
    payment = params.get("payment") or {}
    filters = {
        "invoice": params.get("invoice"),
        "status": params.get("status"),
        "payment.payment_intent": payment.get("payment_intent"),
    }
    return page(world, "invoice_payment", "/v1/invoice_payments", params, filters)


def _finalize(world: World, invoice: Json) -> Json:
    customer = world.get("customer", invoice["customer"])
    _add_up(world, invoice)
    if invoice["total"] < 0:
        raise invalid("This stand-in has no customer balances, so an invoice cannot be below zero.")
    if invoice["number"] is None:
        invoice["number"] = f"{customer['invoice_prefix']}-{customer['next_invoice_sequence']:04}"
        customer["next_invoice_sequence"] += 1
    customer["currency"] = invoice["currency"]
    world.save(customer)
    days = invoice["_days_until_due"]
    if days is not None:
        invoice["due_date"] = world.now + days * _DAY_S
    invoice |= {
        "status": "open",
        "effective_at": world.now,
        "automatically_finalizes_at": None,
        "hosted_invoice_url": f"{world.public_url}/i/{invoice['id']}",
        "invoice_pdf": f"{world.public_url}/i/{invoice['id']}/pdf",
    }
    invoice["status_transitions"]["finalized_at"] = world.now
    if invoice["amount_due"] == 0:
        world.announce("invoice.finalized", invoice)
        return _mark_paid(world, invoice, 0)
    intent = _make_intent(world, invoice)
    world.announce("invoice.finalized", invoice)
    if "customer_balance" in intent["payment_method_types"]:
        # Money that the customer has here pays it at once; otherwise the intent says where to send it.
        intent["payment_method"] = make(world, {"type": "customer_balance"})["id"]
        paying.confirm(world, intent)
    return world.get("invoice", invoice["id"])


def _make_intent(world: World, invoice: Json) -> Json:
    settings = invoice["payment_settings"]
    options = {key: value for key, value in (settings["payment_method_options"] or {}).items() if value}
    intent = payment_intents.new(
        world,
        {
            "amount": invoice["amount_due"],
            "currency": invoice["currency"],
            "customer": invoice["customer"],
            "description": f"Invoice {invoice['number']}",
            "payment_method_options": options,
            "allowed_payment_method_types": settings["payment_method_types"] or ["card", "sepa_debit"],
        },
    )
    intent["_invoice"] = invoice["id"]
    world.save(intent)
    invoice["_intent"] = intent["id"]
    world.save(invoice)
    world.save(
        {
            "id": new_id("inpay"),
            "object": "invoice_payment",
            "amount_paid": None,
            "amount_requested": invoice["amount_due"],
            "created": world.now,
            "currency": invoice["currency"],
            "invoice": invoice["id"],
            "is_default": True,
            "livemode": False,
            "payment": {"payment_intent": intent["id"], "type": "payment_intent"},
            "status": "open",
            "status_transitions": {"canceled_at": None, "paid_at": None},
        }
    )
    return intent


def _charge(world: World, invoice: Json, method_id: str | None, *, off_session: bool) -> Json:
    customer = world.get("customer", invoice["customer"])
    default = customer["invoice_settings"]["default_payment_method"]
    chosen = method_id or invoice["default_payment_method"] or default
    if chosen is None:
        raise invalid(
            "There is no default_payment_method set on this Customer or Invoice. Please set a default_payment_method.",
            code="invoice_payment_intent_requires_action",
        )
    intent = world.get("payment_intent", invoice["_intent"])
    intent["payment_method"] = resolve(world, chosen)["id"]
    paying.confirm(world, intent, off_session=off_session)
    if intent["status"] == "requires_action":
        world.announce("invoice.payment_action_required", world.get("invoice", invoice["id"]))
    return world.get("invoice", invoice["id"])


def _mark_paid(world: World, invoice: Json, received: int) -> Json:
    invoice |= {"status": "paid", "amount_paid": invoice["amount_due"], "amount_remaining": 0}
    invoice["status_transitions"]["paid_at"] = world.now
    world.save(invoice)
    for payment in world.store.select("invoice_payment", [("invoice", "=", invoice["id"]), ("status", "=", "open")]):
        payment |= {"status": "paid" if received else "canceled", "amount_paid": received or None}
        payment["status_transitions"]["paid_at" if received else "canceled_at"] = world.now
        world.save(payment)
        if received:
            world.announce("invoice_payment.paid", payment)
    world.announce("invoice.paid", invoice)
    if received:
        world.announce("invoice.payment_succeeded", invoice)
    return invoice


def _end(world: World, invoice_id: str, status: str, moment: str, event: str) -> Json:
    invoice = world.get("invoice", invoice_id)
    if invoice["status"] not in ("open", "uncollectible") or invoice["status"] == status:
        raise invalid(f"You cannot do this to an invoice that is {invoice['status']}.", code="invoice_not_editable")
    if status == "void":
        _cancel_intent(world, invoice)
        for payment in world.store.select("invoice_payment", [("invoice", "=", invoice_id), ("status", "=", "open")]):
            payment["status_transitions"]["canceled_at"] = world.now
            world.save({**payment, "status": "canceled"})
    invoice["status"] = status
    invoice["status_transitions"][moment] = world.now
    world.save(invoice)
    world.announce(event, invoice)
    return invoice


def _cancel_intent(world: World, invoice: Json) -> None:
    intent = world.optional("payment_intent", invoice.get("_intent"))
    if intent is not None and intent["status"] in paying.CONFIRMABLE:
        payment_intents.cancel(world, {"cancellation_reason": None}, intent["id"])


def _add_up(world: World, invoice: Json) -> Json:
    """The lines and the sums; of a draft they follow its items."""
    invoice["lines"] = invoice_items.lines(world, invoice)
    if invoice["status"] == "draft":
        total = sum(line["amount"] for line in invoice["lines"]["data"])
        invoice |= dict.fromkeys(("subtotal", "subtotal_excluding_tax", "total", "total_excluding_tax"), total)
        invoice |= dict.fromkeys(("amount_due", "amount_remaining"), max(total, 0))
    return invoice


def _check_due(collection: str, params: Json) -> None:
    due = [key for key in ("days_until_due", "due_date") if key in params]
    if collection == "charge_automatically" and due:
        raise invalid(f"`{due[0]}` can only be used with `collection_method` `send_invoice`.", param=due[0])
    if collection == "send_invoice" and len(due) != 1:
        raise invalid(
            "One of `days_until_due` and `due_date` is needed to create an invoice with `collection_method` "
            "`send_invoice`.",
            param="days_until_due",
        )


def _payment_settings(given: Json | None) -> Json:
    nothing = dict.fromkeys(("default_mandate", "payment_method_options", "payment_method_types"))
    settings: Json = {**nothing, **(given or {})}
    options = settings["payment_method_options"]
    if options:
        kinds = ("acss_debit", "bancontact", "card", "customer_balance", "konbini", "payto", "pix", "sepa_debit")
        settings["payment_method_options"] = {**dict.fromkeys((*kinds, "upi", "us_bank_account")), **options}
    return settings


_ZEROS: Final = (
    *("amount_due", "amount_overpaid", "amount_paid", "amount_remaining", "amount_shipping", "attempt_count"),
    *("post_payment_credit_notes_amount", "pre_payment_credit_notes_amount", "starting_balance", "subtotal"),
    *("subtotal_excluding_tax", "total", "total_excluding_tax"),
)
_NOTHING: Final[Json] = dict.fromkeys(
    (
        *("account_tax_ids", "application", "automatically_finalizes_at", "custom_fields", "customer_account"),
        *("default_source", "effective_at", "ending_balance", "from_invoice", "hosted_invoice_url", "invoice_pdf"),
        *("last_finalization_error", "latest_revision", "next_payment_attempt", "on_behalf_of", "parent"),
        *("receipt_number", "rendering", "shipping_cost", "shipping_details", "statement_descriptor"),
        *("test_clock", "webhooks_delivered_at"),
    )
)
_TRANSFER: Final = fields(
    ("type",),
    type=one_of("eu_bank_transfer"),
    eu_bank_transfer=fields(("country",), country=one_of(*cash.COUNTRIES)),
)
_OPTIONS: Final = fields(
    customer_balance=fields(bank_transfer=_TRANSFER, funding_type=one_of("bank_transfer")),
    card=fields(request_three_d_secure=one_of("any", "automatic", "challenge")),
    sepa_debit=fields(),
)
_WRITABLE: Final[dict[str, Spec]] = {
    "auto_advance": flag,
    "collection_method": one_of("charge_automatically", "send_invoice"),
    "days_until_due": integer,
    "default_payment_method": name,
    "description": text,
    "due_date": integer,
    "footer": text,
    "metadata": metadata,
    "number": name,
    "payment_settings": fields(
        default_mandate=text, payment_method_options=_OPTIONS, payment_method_types=items(one_of(*TYPES))
    ),
}
_CREATE: Final[dict[str, Spec]] = {
    **_WRITABLE,
    "currency": currency,
    "customer": name,
    "pending_invoice_items_behavior": one_of("exclude", "include"),
}
_LIST: Final[dict[str, Spec]] = {
    **PAGE,
    "collection_method": _WRITABLE["collection_method"],
    "created": created_range,
    "customer": name,
    "status": one_of("draft", "open", "paid", "uncollectible", "void"),
}
_PAY: Final[dict[str, Spec]] = {"off_session": flag, "paid_out_of_band": flag, "payment_method": name}
_SEARCH: Final[dict[str, Spec]] = {"query": name, "limit": integer, "page": name}
_PAYMENTS: Final[dict[str, Spec]] = {
    **PAGE,
    "created": created_range,
    "invoice": name,
    "payment": fields(("type",), payment_intent=name, type=one_of("payment_intent")),
    "status": one_of("canceled", "open", "paid"),
}
ROUTES: Final = (
    Route("POST", "/v1/invoices", create, _CREATE, required=("customer",)),
    Route("GET", "/v1/invoices/search", search_all, _SEARCH, required=("query",)),
    Route("GET", "/v1/invoices", list_all, _LIST),
    Route("GET", "/v1/invoices/{id}", retrieve),
    Route("POST", "/v1/invoices/{id}", update, _WRITABLE),
    Route("DELETE", "/v1/invoices/{id}", delete),
    Route("GET", "/v1/invoices/{id}/lines", list_lines, PAGE),
    Route("POST", "/v1/invoices/{id}/finalize", finalize, {"auto_advance": flag}),
    Route("POST", "/v1/invoices/{id}/mark_uncollectible", mark_uncollectible),
    Route("POST", "/v1/invoices/{id}/pay", pay, _PAY),
    Route("POST", "/v1/invoices/{id}/send", send),
    Route("POST", "/v1/invoices/{id}/void", void),
    Route("GET", "/v1/invoice_payments", list_payments, _PAYMENTS),
    Route("GET", "/v1/invoice_payments/{id}", retrieve_payment),
)
