"""Disputes: the customer's bank takes a payment back, and gives it back if the evidence wins."""

from typing import Any, Final

from chappe_local.stripe_stand_in.errors import Json, invalid
from chappe_local.stripe_stand_in.listing import page
from chappe_local.stripe_stand_in.parameters import PAGE, Spec, created_range, fields, flag, metadata, name, text
from chappe_local.stripe_stand_in.resources import balance
from chappe_local.stripe_stand_in.resources.common import change
from chappe_local.stripe_stand_in.routing import Route
from chappe_local.stripe_stand_in.world import World, new_id, visible

_ANSWER_WITHIN_S: Final = 9 * 86_400
_EVIDENCE: Final = (
    "access_activity_log",
    "billing_address",
    "cancellation_policy",
    "cancellation_policy_disclosure",
    "cancellation_rebuttal",
    "customer_communication",
    "customer_email_address",
    "customer_name",
    "customer_purchase_ip",
    "customer_signature",
    "duplicate_charge_documentation",
    "duplicate_charge_explanation",
    "duplicate_charge_id",
    "product_description",
    "receipt",
    "refund_policy",
    "refund_policy_disclosure",
    "refund_refusal_explanation",
    "service_date",
    "service_documentation",
    "shipping_address",
    "shipping_carrier",
    "shipping_date",
    "shipping_documentation",
    "shipping_tracking_number",
    "uncategorized_file",
    "uncategorized_text",
)
_DECIDING_TEXT: Final = {"winning_evidence": "won", "losing_evidence": "lost"}
"""Stripe's own way to end a test dispute."""


def open_for(world: World, charge_id: str, reason: str = "fraudulent", amount: int | None = None) -> Json:
    """A dispute about a paid charge, all that was not refunded unless `amount` says less; the money leaves at once."""
    charge = world.get("charge", charge_id)
    most = charge["amount"] - charge["amount_refunded"]
    disputed = most if amount is None else amount
    if not charge["paid"] or charge["disputed"] or not 0 < disputed <= most:
        raise invalid(f"Charge {charge_id} cannot be disputed for {disputed}.", param="charge")
    kind = charge["payment_method_details"]["type"]
    dispute: Json = {
        "id": new_id("du"),
        "object": "dispute",
        "amount": disputed,
        "balance_transactions": [],
        "charge": charge_id,
        "created": world.now,
        "currency": charge["currency"],
        "enhanced_eligibility_types": [],
        "evidence": {**dict.fromkeys(_EVIDENCE), "enhanced_evidence": {}},
        "evidence_details": {
            "due_by": world.now + _ANSWER_WITHIN_S,
            "enhanced_eligibility": {},
            "has_evidence": False,
            "past_due": False,
            "submission_count": 0,
            "submission_method": "not_submitted",
        },
        "is_charge_refundable": False,
        "livemode": False,
        "metadata": {},
        "payment_intent": charge["payment_intent"],
        "payment_method_details": _details(charge, kind),
        "reason": reason,
        # A SEPA debit that its payer revokes is lost at once: there is nobody to show evidence to.
        "status": "needs_response" if kind == "card" else "lost",
    }
    _move(world, dispute, -disputed, balance.DISPUTE_FEE)
    charge["disputed"] = True
    world.save(charge)
    world.announce("charge.dispute.created", dispute)
    world.announce("charge.dispute.funds_withdrawn", dispute)
    if dispute["status"] == "lost":
        world.announce("charge.dispute.closed", dispute)
    return dispute


def open_later(world: World, subject: str) -> Json:
    """What a test card's holder does after the payment: `subject` is the charge's id, a space and the reason."""
    charge_id, reason = subject.split(" ", 1)
    return open_for(world, charge_id, reason)


def decide(world: World, dispute_id: str, outcome: str) -> Json:
    """`won`: the money comes back, without the fee. `lost`: it stays away."""
    dispute = world.get("dispute", dispute_id)
    if dispute["status"] in ("won", "lost"):
        raise invalid(f"This dispute is closed already: {dispute['status']}.", code="dispute_closed")
    before = dispute["status"]
    dispute["status"] = outcome
    if outcome == "won":
        _move(world, dispute, dispute["amount"], 0)
    world.save(dispute)
    if outcome == "won":
        world.announce("charge.dispute.funds_reinstated", dispute)
    world.announce("charge.dispute.closed", dispute, {"status": before})
    return dispute


def retrieve(world: World, _params: Json, dispute_id: str) -> Json:
    return world.get("dispute", dispute_id)


def update(world: World, params: Json, dispute_id: str) -> Json:
    dispute = world.get("dispute", dispute_id)
    if dispute["status"] in ("won", "lost"):
        raise invalid("This dispute is closed already.", code="dispute_closed")
    given: dict[str, Any] = {"metadata": params["metadata"]} if "metadata" in params else {}
    evidence = params.get("evidence") or {}
    if evidence:
        given["evidence"] = {**dispute["evidence"], **evidence}
        submitted = params.get("submit", True)
        details = dispute["evidence_details"]
        given["evidence_details"] = {
            **details,
            "has_evidence": True,
            "submission_count": details["submission_count"] + submitted,
            "submission_method": "manual" if submitted else details["submission_method"],
        }
        if submitted:
            given["status"] = "under_review"
    change(world, dispute, given, event="charge.dispute.updated")
    outcome = _DECIDING_TEXT.get(str(evidence.get("uncategorized_text")))
    return decide(world, dispute_id, outcome) if outcome and dispute["status"] == "under_review" else dispute


def close(world: World, _params: Json, dispute_id: str) -> Json:
    return decide(world, dispute_id, "lost")


def list_all(world: World, params: Json) -> Json:
    filters = {"charge": params.get("charge"), "payment_intent": params.get("payment_intent")}
    return page(world, "dispute", "/v1/disputes", params, filters)


def _move(world: World, dispute: Json, amount: int, fee: int) -> None:
    about = "Chargeback withdrawal" if amount < 0 else "Chargeback reversal"
    category = "dispute" if amount < 0 else "dispute_reversal"
    transaction = balance.post(world, "adjustment", amount, dispute, fee=fee, category=category, about=about)
    dispute["balance_transactions"].append(visible(transaction))
    world.save(dispute)


def _details(charge: Json, kind: str) -> Json:
    if kind != "card":
        return {"type": kind}
    brand = charge["payment_method_details"]["card"]["brand"]
    card = {"brand": brand, "case_type": "chargeback", "network": brand, "network_reason_code": "10.4"}
    return {"card": card, "type": "card"}


_WRITABLE: Final[dict[str, Spec]] = {
    "evidence": fields(**dict.fromkeys(_EVIDENCE, text)),
    "metadata": metadata,
    "submit": flag,
}
ROUTES: Final = (
    Route("GET", "/v1/disputes", list_all, {**PAGE, "charge": name, "created": created_range, "payment_intent": name}),
    Route("GET", "/v1/disputes/{id}", retrieve),
    Route("POST", "/v1/disputes/{id}", update, _WRITABLE),
    Route("POST", "/v1/disputes/{id}/close", close),
)
