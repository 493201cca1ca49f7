"""Charges: what became of one attempt to take money."""

from typing import Any, Final

from chappe_local.stripe_stand_in.errors import Json
from chappe_local.stripe_stand_in.instruments import Refusal
from chappe_local.stripe_stand_in.listing import list_object, page
from chappe_local.stripe_stand_in.parameters import PAGE, Spec, created_range, integer, metadata, name, text
from chappe_local.stripe_stand_in.resources import balance
from chappe_local.stripe_stand_in.resources.common import change
from chappe_local.stripe_stand_in.routing import Route
from chappe_local.stripe_stand_in.world import World, new_id


def make(world: World, intent: Json, method: Json) -> Json:
    """An attempt under way; `succeed`, `fail` or nothing yet follows."""
    charge_id = new_id("ch" if method["type"] == "card" else "py")
    return {
        "id": charge_id,
        "object": "charge",
        "amount": intent["amount"],
        "amount_captured": 0,
        "amount_refunded": 0,
        "application": None,
        "application_fee": None,
        "application_fee_amount": None,
        "balance_transaction": None,
        "billing_details": method["billing_details"],
        "calculated_statement_descriptor": intent["statement_descriptor"],
        "captured": False,
        "created": world.now,
        "currency": intent["currency"],
        "customer": intent["customer"],
        "description": intent["description"],
        "disputed": False,
        "failure_balance_transaction": None,
        "failure_code": None,
        "failure_message": None,
        "fraud_details": {},
        "livemode": False,
        "metadata": dict(intent["metadata"]),
        "on_behalf_of": None,
        "outcome": None,
        "paid": False,
        "payment_intent": intent["id"],
        "payment_method": method["id"],
        "payment_method_details": {method["type"]: _details(world, method), "type": method["type"]},
        "receipt_email": intent["receipt_email"],
        "receipt_number": None,
        "receipt_url": f"{world.public_url}/receipts/{charge_id}",
        "refunded": False,
        "review": None,
        "shipping": intent["shipping"],
        "source": None,
        "source_transfer": None,
        "statement_descriptor": intent["statement_descriptor"],
        "statement_descriptor_suffix": intent["statement_descriptor_suffix"],
        "status": "pending",
        "transfer": None,
        "transfer_data": None,
        "transfer_group": None,
    }


def succeed(world: World, charge: Json) -> Json:
    kind = charge["payment_method_details"]["type"]
    transaction = balance.post(
        world,
        "charge" if kind == "card" else "payment",
        charge["amount"],
        charge,
        fee=balance.fee_of(kind, charge["amount"]),
    )
    charge |= {
        "status": "succeeded",
        "paid": True,
        "captured": True,
        "amount_captured": charge["amount"],
        "balance_transaction": transaction["id"],
        "outcome": _outcome("authorized", "approved_by_network", "Payment complete."),
    }
    world.save(charge)
    world.announce("charge.succeeded", charge)
    return charge


def fail(world: World, charge: Json, refusal: Refusal) -> Json:
    charge |= {
        "status": "failed",
        "paid": False,
        "failure_code": refusal.code,
        "failure_message": refusal.message,
        "outcome": _outcome(
            "issuer_declined", "declined_by_network", "The bank refused it.", refusal.decline_code or refusal.code
        ),
    }
    world.save(charge)
    world.announce("charge.failed", charge)
    return charge


def finish(world: World, intent: Json, charge: Json) -> None:
    """The intent is paid, by this charge."""
    intent |= {
        "status": "succeeded",
        "amount_received": charge["amount"],
        "latest_charge": charge["id"],
        "next_action": None,
    }
    world.save(intent)
    world.announce("payment_intent.succeeded", intent)
    world.payment_changed(intent)


def refunds_of(world: World, charge: Json) -> Json:
    found = world.store.select("refund", [("charge", "=", charge["id"])], limit=10)
    return list_object(found, f"/v1/charges/{charge['id']}/refunds")


def retrieve(world: World, _params: Json, charge_id: str) -> Json:
    return world.get("charge", charge_id)


def update(world: World, params: Json, charge_id: str) -> Json:
    return change(world, world.get("charge", charge_id), params, event="charge.updated")


def list_all(world: World, params: Json) -> Json:
    filters = {"customer": params.get("customer"), "payment_intent": params.get("payment_intent")}
    return page(world, "charge", "/v1/charges", params, filters)


def _outcome(kind: str, network: str, message: str, reason: str | None = None) -> Json:
    return {
        "advice_code": None,
        "network_advice_code": None,
        "network_decline_code": None,
        "network_status": network,
        "reason": reason,
        "risk_level": "normal",
        "seller_message": message,
        "type": kind,
    }


def _details(world: World, method: Json) -> Json:
    if method["type"] == "card":
        card = method["card"]
        kept = ("brand", "checks", "country", "exp_month", "exp_year", "fingerprint", "funding", "last4")
        unknown = ("amount_authorized", "authorization_code", "installments", "mandate", "network_token", "wallet")
        nothing: dict[str, Any] = dict.fromkeys((*unknown, "network_transaction_id", "three_d_secure"))
        secure = {"three_d_secure": _authenticated()} if method.get("_set_up") else {}
        known = {name: card[name] for name in kept}
        return {**nothing, **known, **secure, "network": card["brand"], "regulated_status": card["regulated_status"]}
    if method["type"] == "sepa_debit":
        debit = {name: value for name, value in method["sepa_debit"].items() if name != "generated_from"}
        mandates = world.store.select("mandate", [("payment_method", "=", method["id"])], limit=1)
        return {**debit, "mandate": mandates[0]["id"] if mandates else None}
    return {}


def _authenticated() -> Json:
    return {
        "authentication_flow": "challenge",
        "electronic_commerce_indicator": "05",
        "exemption_indicator": None,
        "result": "authenticated",
        "result_reason": None,
        "transaction_id": None,
        "version": "2.2.0",
    }


_WRITABLE: Final[dict[str, Spec]] = {"description": text, "metadata": metadata, "receipt_email": text}
ROUTES: Final = (
    Route(
        "GET",
        "/v1/charges",
        list_all,
        {**PAGE, "created": created_range, "customer": name, "payment_intent": name, "limit": integer},
    ),
    Route("GET", "/v1/charges/{id}", retrieve),
    Route("POST", "/v1/charges/{id}", update, _WRITABLE),
)
