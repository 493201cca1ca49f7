"""Refunds, whole and partial."""

from typing import Final

from chappe_local.stripe_stand_in import instruments
from chappe_local.stripe_stand_in.errors import Json, invalid
from chappe_local.stripe_stand_in.listing import page
from chappe_local.stripe_stand_in.parameters import PAGE, Spec, amount, created_range, metadata, name, one_of
from chappe_local.stripe_stand_in.resources import balance, cash
from chappe_local.stripe_stand_in.resources.common import change, new_metadata
from chappe_local.stripe_stand_in.routing import Route
from chappe_local.stripe_stand_in.world import World, new_id

_REASONS: Final = ("duplicate", "fraudulent", "requested_by_customer")


def create(world: World, params: Json) -> Json:
    charge = _charge_of(world, params)
    refunded = _amount_of(charge, params.get("amount"))
    kind = charge["payment_method_details"]["type"]
    goes = _how_it_goes(world, charge)
    refund: Json = {
        "id": new_id("re" if kind == "card" else "pyr"),
        "object": "refund",
        "amount": refunded,
        "balance_transaction": None,
        "charge": charge["id"],
        "created": world.now,
        "currency": charge["currency"],
        "customer": charge["customer"],
        "customer_account": None,
        "destination_details": {"card": {"type": "refund"}, "type": "card"}
        if kind == "card"
        else {kind: {}, "type": kind},
        "metadata": new_metadata(params),
        "payment_intent": charge["payment_intent"],
        "payment_method": charge["payment_method"],
        "reason": params.get("reason"),
        "receipt_number": None,
        "source_transfer_reversal": None,
        "status": "pending" if goes == "pending" else "succeeded",
        "transfer_reversal": None,
    }
    refund["balance_transaction"] = balance.post(
        world, "refund" if kind == "card" else "payment_refund", -refunded, refund, about="Refund"
    )["id"]
    world.save(refund)
    charge["amount_refunded"] += refunded
    charge["refunded"] = charge["amount_refunded"] == charge["amount"]
    world.save(charge)
    if kind == "customer_balance":
        cash.return_to_balance(world, world.get("payment_intent", charge["payment_intent"]), refunded, refund["id"])
    world.announce("refund.created", refund)
    world.announce("charge.refunded", charge, {"amount_refunded": charge["amount_refunded"] - refunded})
    if goes != "at_once":
        world.later(0, "settle_refund", refund["id"])
    return refund


def settle(world: World, refund_id: str) -> None:
    """The bank's word on a refund: it arrived, or it came back, and then the money is the account's again."""
    refund = world.get("refund", refund_id)
    charge = world.get("charge", refund["charge"])
    if _how_it_goes(world, charge) == "pending":
        refund["status"] = "succeeded"
        world.save(refund)
        world.announce("refund.updated", refund, {"status": "pending"})
        world.announce("charge.refund.updated", refund, {"status": "pending"})
        return
    back = balance.post(world, "refund_failure", refund["amount"], refund, about="Refund that failed")
    refund |= {
        "status": "failed",
        "failure_reason": "expired_or_canceled_card",
        "failure_balance_transaction": back["id"],
    }
    world.save(refund)
    charge["amount_refunded"] -= refund["amount"]
    charge["refunded"] = False
    world.save(charge)
    world.announce("refund.failed", refund, {"status": "succeeded"})
    world.announce("charge.refund.updated", refund, {"status": "succeeded"})


def retrieve(world: World, _params: Json, refund_id: str) -> Json:
    return world.get("refund", refund_id)


def update(world: World, params: Json, refund_id: str) -> Json:
    return change(world, world.get("refund", refund_id), params, event="refund.updated")


def list_all(world: World, params: Json) -> Json:
    filters = {"charge": params.get("charge"), "payment_intent": params.get("payment_intent")}
    return page(world, "refund", "/v1/refunds", params, filters)


def _charge_of(world: World, params: Json) -> Json:
    if ("charge" in params) == ("payment_intent" in params):
        raise invalid("One of the following params should be provided for this request: payment_intent or charge.")
    if "charge" in params:
        charge = world.get("charge", params["charge"], "charge")
    else:
        intent = world.get("payment_intent", params["payment_intent"], "payment_intent")
        found = world.optional("charge", intent["latest_charge"])
        if found is None or not found["paid"]:
            raise invalid(
                f"This PaymentIntent ({intent['id']}) does not have a successful charge to refund.",
                param="payment_intent",
            )
        charge = found
    if not charge["paid"]:
        raise invalid(f"Charge {charge['id']} has not been paid, so it cannot be refunded.", param="charge")
    disputes = world.store.select("dispute", [("charge", "=", charge["id"]), ("status", "!=", "won")], limit=1)
    if disputes:
        raise invalid(f"Charge {charge['id']} has been charged back; cannot issue a refund.", code="charge_disputed")
    return charge


def _amount_of(charge: Json, asked: int | None) -> int:
    left = charge["amount"] - charge["amount_refunded"]
    if left == 0:
        raise invalid(f"Charge {charge['id']} has already been refunded.", code="charge_already_refunded")
    if asked is not None and asked > left:
        raise invalid(
            f"Refund amount ({asked / 100:.2f} {charge['currency']}) is greater than unrefunded amount on charge "
            f"({left / 100:.2f} {charge['currency']})",
            param="amount",
        )
    return left if asked is None else asked


def _how_it_goes(world: World, charge: Json) -> str:
    method = world.store.find(charge["payment_method"])
    if method is None or method["type"] == "customer_balance":
        return "at_once"
    return instruments.card(method["_number"]).refund if method["type"] == "card" else "pending"


_CREATE: Final[dict[str, Spec]] = {
    "amount": amount,
    "charge": name,
    "metadata": metadata,
    "payment_intent": name,
    "reason": one_of(*_REASONS),
}
ROUTES: Final = (
    Route("POST", "/v1/refunds", create, _CREATE),
    Route("GET", "/v1/refunds", list_all, {**PAGE, "charge": name, "created": created_range, "payment_intent": name}),
    Route("GET", "/v1/refunds/{id}", retrieve),
    Route("POST", "/v1/refunds/{id}", update, {"metadata": metadata}),
)
