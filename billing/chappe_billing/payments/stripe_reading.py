"""From Stripe's objects, as plain dictionaries, to what we see. Whatever is not as documented is `Impossible`."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from chappe_billing.payments.models import DisputeState, Method, RefundState
from chappe_billing.payments.port import (
    CashMove,
    CheckoutSeen,
    DisputeSeen,
    Event,
    Impossible,
    IntentState,
    MethodSeen,
    PageState,
    PaymentSeen,
    RefundSeen,
    RequestSeen,
    RequestState,
    Subject,
)

Json = Mapping[str, Any]
P = ParamSpec("P")
T = TypeVar("T")

CALL, PAYMENT, REFUND, TENANT = "chappe_intent", "chappe_payment", "chappe_refund", "chappe_tenant"
"""The keys of our metadata."""

_INTENT_STATES = {
    "succeeded": IntentState.SUCCEEDED,
    "processing": IntentState.PROCESSING,
    "canceled": IntentState.CANCELLED,
}
"""All others wait for somebody."""
_METHODS = {"card": Method.CARD, "sepa_debit": Method.SEPA_DEBIT, "customer_balance": Method.BANK_TRANSFER}
_REFUND_STATES = {
    "pending": RefundState.PROCESSING,
    "requires_action": RefundState.PROCESSING,
    "succeeded": RefundState.SUCCEEDED,
    "failed": RefundState.FAILED,
    "canceled": RefundState.FAILED,
}
_WITHDRAWN = frozenset({"void"})
_LOST = frozenset({"lost"})
_WON = frozenset({"won", "warning_closed", "prevented"})
_SUBJECTS = {
    "checkout.session.": Subject.CHECKOUT,
    "payment_intent.": Subject.PAYMENT,
    "refund.": Subject.REFUND,
    "charge.dispute.": Subject.DISPUTE,
    "payment_method.": Subject.METHODS,
    "invoice.": Subject.INVOICE,
    "customer_cash_balance_transaction.": Subject.CASH,
}
_OF_CUSTOMER = frozenset({Subject.METHODS, Subject.CASH})
_NOT_OURS = frozenset({"invoice.created", "invoice.upcoming", "invoice.finalized", "invoice.sent", "invoice.updated"})


def as_documented(read: Callable[P, T]) -> Callable[P, T]:
    """A missing or strange field is said by its name, and nothing of its value."""

    @wraps(read)
    def reading(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return read(*args, **kwargs)
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            field = str(error)[:50] if isinstance(error, KeyError) else ""
            raise Impossible(f"an unexpected object: {type(error).__name__} {field}") from error

    return reading


@as_documented
def read_payment(intent: Json) -> PaymentSeen:
    method = intent.get("payment_method")
    kind = method.get("type") if isinstance(method, Mapping) else None
    if kind is None and len(intent.get("payment_method_types") or ()) == 1:
        kind = intent["payment_method_types"][0]
    problem = intent.get("last_payment_error") or {}
    return PaymentSeen(
        intent_id=intent["id"],
        state=_INTENT_STATES.get(intent["status"], IntentState.WAITING),
        customer=_id(intent.get("customer")),
        payment=_metadata(intent).get(PAYMENT),
        amount_minor=int(intent["amount"]),
        received_minor=int(intent.get("amount_received") or 0),
        currency=intent["currency"].upper(),
        live=bool(intent["livemode"]),
        method=_METHODS.get(kind or ""),
        problem=problem.get("decline_code") or problem.get("code") or problem.get("type"),
    )


@as_documented
def read_checkout(session: Json) -> CheckoutSeen:
    """With its payment intent expanded."""
    intent = session.get("payment_intent")
    return CheckoutSeen(
        session_id=session["id"],
        state=PageState(session["status"]),
        customer=_id(session.get("customer")),
        payment=_metadata(session).get(PAYMENT),
        live=bool(session["livemode"]),
        paying=read_payment(intent) if isinstance(intent, Mapping) else None,
        saves_method=session["mode"] == "setup",
    )


@as_documented
def read_request(invoice: Json, paying: PaymentSeen | None = None) -> RequestSeen:
    """`paying` is the payment of one that is paid."""
    status = invoice["status"]
    state = RequestState.WITHDRAWN if status in _WITHDRAWN else RequestState.OPEN
    return RequestSeen(
        request_id=invoice["id"],
        state=RequestState.PAID if status == "paid" else state,
        customer=_id(invoice.get("customer")),
        payment=_metadata(invoice).get(PAYMENT),
        live=bool(invoice["livemode"]),
        paying=paying,
    )


@as_documented
def read_move(transaction: Json) -> CashMove:
    kind = str(transaction["type"])
    details = transaction.get(kind)
    return CashMove(
        move_id=transaction["id"],
        kind=kind[:50],
        net_minor=int(transaction["net_amount"]),
        currency=transaction["currency"].upper(),
        intent_id=_id(details.get("payment_intent")) if isinstance(details, Mapping) else None,
    )


@as_documented
def read_refund(refund: Json) -> RefundSeen:
    return RefundSeen(
        refund_id=refund["id"],
        state=_REFUND_STATES[refund["status"] or "pending"],
        intent_id=_id(refund.get("payment_intent")),
        refund=_metadata(refund).get(REFUND),
        amount_minor=int(refund["amount"]),
        currency=refund["currency"].upper(),
        problem=refund.get("failure_reason"),
    )


@as_documented
def read_dispute(dispute: Json) -> DisputeSeen:
    status = dispute["status"]
    state = DisputeState.LOST if status in _LOST else DisputeState.WON if status in _WON else DisputeState.OPEN
    return DisputeSeen(
        dispute_id=dispute["id"],
        state=state,
        intent_id=_id(dispute.get("payment_intent")),
        amount_minor=int(dispute["amount"]),
        currency=dispute["currency"].upper(),
        reason=dispute.get("reason") or "general",
        live=bool(dispute["livemode"]),
    )


@as_documented
def read_method(method: Json) -> MethodSeen | None:
    """None for a kind that we do not charge."""
    match method["type"]:
        case "card":
            card = method["card"]
            label = f"{(card.get('brand') or 'card').replace('_', ' ').title()} •••• {card['last4']}"
            expires = f"{int(card['exp_year']):04}-{int(card['exp_month']):02}"
            return MethodSeen(method_id=method["id"], kind=Method.CARD, label=label[:100], expires=expires)
        case "sepa_debit":
            debit = method["sepa_debit"]
            label = f"{debit.get('country') or 'SEPA'} •••• {debit['last4']}"
            return MethodSeen(method_id=method["id"], kind=Method.SEPA_DEBIT, label=label[:100])
        case _:
            return None


@as_documented
def read_event(event: Json) -> Event:
    kind = str(event["type"])
    thing = event["data"]["object"]
    subject = None if kind in _NOT_OURS else next((s for head, s in _SUBJECTS.items() if kind.startswith(head)), None)
    object_id = thing.get("id")
    if subject in _OF_CUSTOMER:
        # One that was detached names nobody any more, and what it was before does.
        before = event["data"].get("previous_attributes") or {}
        object_id = _id(thing.get("customer") or before.get("customer"))
    return Event(
        id=str(event["id"]),
        kind=kind[:100],
        happened_at=datetime.fromtimestamp(int(event["created"]), UTC),
        subject=subject,
        object_id=None if object_id is None else str(object_id),
        live=bool(event["livemode"]),
        account=event.get("account"),
    )


def _metadata(thing: Json) -> Json:
    return thing.get("metadata") or {}


def _id(thing: Any) -> str | None:
    """Of what may be expanded."""
    found = thing.get("id") if isinstance(thing, Mapping) else thing
    return None if found is None else str(found)
