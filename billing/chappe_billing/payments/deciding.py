"""What becomes of a payment when the service says how it is. Pure.

Events come twice, late and in any order, and what was looked up may be older than what is known. So only what is
certain moves a payment back: success is for good, and money that arrives counts whatever was thought before.
"""

from enum import StrEnum

from msgspec import Struct

from chappe_billing.payments.models import WITHDRAWN, PaymentState
from chappe_billing.payments.port import CheckoutSeen, IntentState, PageState, PaymentSeen, RequestSeen, RequestState


class Asked(Struct, frozen=True):
    """What a payment was to be. `customer` is its tenant's at the service, `id` as its metadata has it."""

    id: str
    state: PaymentState
    customer: str | None
    gross_minor: int
    currency: str
    intent_id: str | None = None
    by_page: bool = False
    """Somebody pays it on a hosted page, and may try again there."""


class Keep(Struct, frozen=True):
    """Nothing new."""


class Move(Struct, frozen=True):
    state: PaymentState
    problem: str | None = None


class Credit(Struct, frozen=True):
    """The money is there, and it is what was asked for."""


class Why(StrEnum):
    """What is wrong with money that came."""

    WRONG_AMOUNT = "wrong_amount"
    WRONG_CURRENCY = "wrong_currency"
    WRONG_CUSTOMER = "wrong_customer"
    WRONG_MODE = "wrong_mode"
    WRONG_PAYMENT = "wrong_payment"
    PAID_TWICE = "paid_twice"
    UNKNOWN = "unknown_payment"
    NOT_ARRIVED = "not_arrived"
    """It is paid, but not by money that was seen to arrive."""


class Quarantine(Struct, frozen=True):
    why: Why


Decision = Keep | Move | Credit | Quarantine


def decide(asked: Asked, seen: PaymentSeen, *, live: bool) -> Decision:
    """`live` is whether we are to move real money: a test's payment never counts where it is so, nor the other way."""
    if seen.state is IntentState.SUCCEEDED:
        return _decide_about_money(asked, seen, live=live)
    if asked.state in {PaymentState.SUCCEEDED, PaymentState.QUARANTINED} or not _is_its_own(asked, seen, live=live):
        return Keep()
    match seen.state:
        case IntentState.PROCESSING:
            return _moved(asked, PaymentState.PROCESSING)
        case IntentState.CANCELLED:
            return _moved(asked, PaymentState.EXPIRED)
        case _:
            # While a page is open, another card may do.
            tries_on = asked.by_page and asked.state is not PaymentState.PROCESSING
            return Keep() if seen.problem is None or tries_on else _moved(asked, PaymentState.FAILED, seen.problem)


def decide_page(asked: Asked, seen: CheckoutSeen, *, live: bool) -> Decision:
    """By a hosted page; what was paid on it decides first."""
    if seen.paying is not None:
        found = decide(asked, seen.paying, live=live)
        if not isinstance(found, Keep):
            return found
    settled = asked.state not in {PaymentState.ASKED, PaymentState.OPEN}
    if seen.state is PageState.EXPIRED and not settled:
        return Move(PaymentState.EXPIRED)
    return Keep()


def decide_request(asked: Asked, seen: RequestSeen, *, live: bool) -> Decision:
    """By an invoice that we sent: what paid it decides first."""
    if seen.paying is not None:
        return decide(asked, seen.paying, live=live)
    is_its_own = (seen.payment, seen.customer, seen.live) == (asked.id, asked.customer, live)
    is_waiting = asked.state in {PaymentState.ASKED, PaymentState.OPEN, PaymentState.PROCESSING}
    if seen.state is RequestState.WITHDRAWN and is_its_own and is_waiting:
        return Move(PaymentState.EXPIRED, WITHDRAWN)
    return Keep()


def _decide_about_money(asked: Asked, seen: PaymentSeen, *, live: bool) -> Decision:
    if asked.state is PaymentState.SUCCEEDED:
        return Keep() if asked.intent_id == seen.intent_id else Quarantine(Why.PAID_TWICE)
    wrong = _what_is_wrong(asked, seen, live=live)
    if wrong is not None:
        return Quarantine(wrong)
    # Decided about by a person already: it is not credited behind their back.
    return Keep() if asked.state is PaymentState.QUARANTINED else Credit()


def _what_is_wrong(asked: Asked, seen: PaymentSeen, *, live: bool) -> Why | None:
    faults = (
        (Why.WRONG_MODE, seen.live is not live),
        (Why.WRONG_PAYMENT, seen.payment != asked.id or _is_another(asked, seen)),
        (Why.WRONG_CUSTOMER, asked.customer is None or seen.customer != asked.customer),
        (Why.WRONG_CURRENCY, seen.currency != asked.currency),
        (Why.WRONG_AMOUNT, (seen.amount_minor, seen.received_minor) != (asked.gross_minor, asked.gross_minor)),
    )
    return next((why for why, is_so in faults if is_so), None)


def _is_its_own(asked: Asked, seen: PaymentSeen, *, live: bool) -> bool:
    """Whether it is this payment's at all: somebody else's says nothing about it."""
    return (seen.payment, seen.customer, seen.live) == (asked.id, asked.customer, live) and not _is_another(asked, seen)


def _is_another(asked: Asked, seen: PaymentSeen) -> bool:
    return asked.intent_id is not None and asked.intent_id != seen.intent_id


def _moved(asked: Asked, state: PaymentState, problem: str | None = None) -> Decision:
    return Keep() if asked.state is state else Move(state, problem)
