"""What the service's word does here: in one transaction of the operator's role, once, in any order.

Locks go tenant's budget, call, payment or refund, reference: `lock_money` comes first.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import assert_never
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from chappe_billing.budgets import queries as budgets
from chappe_billing.payments import cash, cash_queries, disputes, patience, posting, queries, telling
from chappe_billing.payments.amounts import nano_per_minor
from chappe_billing.payments.deciding import (
    Asked,
    Credit,
    Decision,
    Keep,
    Move,
    Quarantine,
    Why,
    decide,
    decide_page,
    decide_request,
)
from chappe_billing.payments.models import UNDER_WAY, WITHDRAWN, Method, Payment, PaymentState, Purpose, RefundState
from chappe_billing.payments.port import (
    CashSeen,
    CheckoutSeen,
    DisputeSeen,
    IntentState,
    MethodsSeen,
    PaymentSeen,
    RefundSeen,
    RequestSeen,
    Seen,
)
from chappe_kernel.errors import Invalid
from chappe_kernel.ids import PAYMENT, TenantId, decode_id, encode_id
from chappe_store.session import TenantScope


async def lock_money(session: AsyncSession, tenant_id: UUID) -> None:
    """Of one tenant, until the transaction ends: before its payments."""
    await budgets.lock_budgets(session, [tenant_id])


async def apply(  # noqa: PLR0911 -- one for each thing that is seen
    session: AsyncSession, seen: Seen, *, live: bool
) -> str:
    """What it did, in a word. Locks the tenant's budget, if it is known whose payment it is."""
    match seen:
        case PaymentSeen():
            return await _apply_payment(session, seen, live=live)
        case CheckoutSeen():
            return await _apply_asked(session, seen, seen.session_id, partial(decide_page, seen=seen, live=live))
        case CashSeen():
            return await cash.take_in(session, seen)
        case RequestSeen():
            return await _apply_asked(session, seen, seen.request_id, partial(decide_request, seen=seen, live=live))
        case RefundSeen():
            return await _apply_refund(session, seen)
        case DisputeSeen():
            return await _apply_dispute(session, seen, live=live)
        case MethodsSeen():
            return await _apply_methods(session, seen)
        case _:
            assert_never(seen)


async def open_payment(session: AsyncSession, payment_id: UUID, service_id: str) -> None:
    """The service waits for whoever pays, on the page that it calls so."""
    payment = await queries.lock_payment(session, payment_id)
    state = PaymentState.OPEN if payment.state == PaymentState.ASKED else payment.state
    await queries.update_payment(session, payment_id, state=state, session_id=service_id)


async def fail_payment(session: AsyncSession, payment_id: UUID, problem: str) -> None:
    """What the service refused outright."""
    payment = await queries.lock_payment(session, payment_id)
    if payment.state in UNDER_WAY:
        await _move(session, payment, Move(PaymentState.FAILED, problem), None)


async def withdraw_payment(session: AsyncSession, payment_id: UUID) -> None:
    """Nobody was asked, and nobody will be. Should money come all the same, it counts."""
    payment = await queries.lock_payment(session, payment_id)
    if payment.state in UNDER_WAY:
        await _move(session, payment, Move(PaymentState.EXPIRED, WITHDRAWN), None)


async def fail_refund(session: AsyncSession, refund_id: UUID, problem: str) -> None:
    """What the service cannot pay out is the tenant's again."""
    refund = await queries.lock_refund(session, refund_id)
    if refund is None or refund.state == RefundState.FAILED:
        return
    reversal_id = await posting.give_back(
        session,
        TenantId(refund.tenant_id),
        refund.transaction_id,
        reference=f"stripe refund {refund.id} failed",
        reason="the payment service could not pay it out",
    )
    await queries.update_refund(
        session, refund_id, state=RefundState.FAILED, problem=problem[:200], reversal_id=reversal_id
    )


async def _apply_payment(session: AsyncSession, seen: PaymentSeen, *, live: bool) -> str:
    payment = await _find(session, seen.payment, seen.intent_id)
    if payment is None:
        return await _without_payment(session, seen)
    asked, payment = await _lock(session, payment)
    return await _carry_out(session, payment, seen, decide(asked, seen, live=live))


async def _apply_asked(
    session: AsyncSession, seen: CheckoutSeen | RequestSeen, service_id: str, rule: Callable[[Asked], Decision]
) -> str:
    """What a page or a request to pay has come to, which the service knows by `service_id`."""
    payment = await _find(session, seen.payment, None)
    if payment is None:
        return "ignored" if seen.paying is None else await _without_payment(session, seen.paying)
    asked, payment = await _lock(session, payment)
    if payment.session_id not in {None, service_id} and seen.paying is None:
        return "ignored"
    return await _carry_out(session, payment, seen.paying, rule(asked))


async def _find(session: AsyncSession, payment: str | None, intent_id: str | None) -> Payment | None:
    """By the id that we gave it, else by the service's."""
    if payment is not None:
        try:
            found = await queries.find_any_payment(session, decode_id(PAYMENT, payment))
        except Invalid:
            found = None
        if found is not None:
            return found
    return None if intent_id is None else await queries.find_payment_by_intent(session, intent_id)


async def _without_payment(session: AsyncSession, seen: PaymentSeen) -> str:
    if seen.state is not IntentState.SUCCEEDED:
        return "ignored"
    await _put_aside(session, seen, Why.UNKNOWN, None)
    return "quarantined"


async def _lock(session: AsyncSession, payment: Payment) -> tuple[Asked, Payment]:
    await lock_money(session, payment.tenant_id)
    locked = await queries.lock_payment(session, payment.id)
    asked = Asked(
        id=encode_id(PAYMENT, locked.id),
        state=PaymentState(locked.state),
        customer=await queries.customer_of(session, locked.tenant_id),
        gross_minor=locked.gross_minor,
        currency=locked.currency,
        intent_id=locked.intent_id,
        by_page=locked.session_id is not None,
    )
    return asked, locked


async def _carry_out(session: AsyncSession, payment: Payment, seen: PaymentSeen | None, decision: Decision) -> str:
    match decision:
        case Keep():
            return "nothing_new"
        case Move():
            await _move(session, payment, decision, seen)
            return decision.state
        case Credit() if seen is not None and _is_by_cash(payment):
            return await _complete(session, payment, seen)
        case Credit() if seen is not None:
            await _credit(session, payment, seen)
            return PaymentState.SUCCEEDED
        case Quarantine() if seen is not None:
            await _quarantine(session, payment, seen, decision.why)
            return PaymentState.QUARANTINED
        case _:
            raise AssertionError("money that was not seen")


async def _move(session: AsyncSession, payment: Payment, move: Move, seen: PaymentSeen | None) -> None:
    values: dict[str, object] = {"state": move.state, "problem": move.problem and move.problem[:200]}
    if seen is not None and payment.intent_id is None:
        values["intent_id"] = seen.intent_id
    await queries.update_payment(session, payment.id, **values)
    if move.state is PaymentState.FAILED:
        await telling.tell_failed(session, payment, move.problem or "declined")
        if payment.purpose == Purpose.AUTO_TOP_UP:
            await patience.note_failure(session, payment)


async def _credit(session: AsyncSession, payment: Payment, seen: PaymentSeen) -> None:
    method = seen.method or Method(payment.method)
    credited = await posting.credit(session, payment, intent_id=seen.intent_id, method=method)
    await queries.update_payment(
        session,
        payment.id,
        state=PaymentState.SUCCEEDED,
        problem=None,
        intent_id=seen.intent_id,
        method=method,
        transaction_id=credited.transaction_id,
    )
    await telling.tell_succeeded(session, payment, credited_nano=credited.over_nano)
    if payment.purpose == Purpose.AUTO_TOP_UP:
        await patience.note_success(session, payment)


def _is_by_cash(payment: Payment) -> bool:
    """Whether what came for it was settled as it came."""
    return payment.purpose == Purpose.INVOICE and payment.method == Method.BANK_TRANSFER


async def _complete(session: AsyncSession, payment: Payment, seen: PaymentSeen) -> str:
    transaction_id = await cash_queries.find_posted(session, payment.id)
    if transaction_id is None:
        await _quarantine(session, payment, seen, Why.NOT_ARRIVED)
        return PaymentState.QUARANTINED
    await queries.update_payment(
        session,
        payment.id,
        state=PaymentState.SUCCEEDED,
        problem=None,
        intent_id=seen.intent_id,
        transaction_id=transaction_id,
    )
    if await cash_queries.has_settled(session, payment):
        # Otherwise nothing was open any more, and what came was told as the credit that it is.
        await telling.tell_succeeded(session, payment)
    return PaymentState.SUCCEEDED


_MEANT_FOR_IT: Mapping[Why, bool] = {Why.WRONG_AMOUNT: True, Why.WRONG_CURRENCY: True, Why.NOT_ARRIVED: True}
"""Money that is this payment's, if not as it should be. Of other money the payment knows nothing, and goes on."""


async def _quarantine(session: AsyncSession, payment: Payment, seen: PaymentSeen, why: Why) -> None:
    await _put_aside(session, seen, why, payment.id)
    if _MEANT_FOR_IT.get(why, False) and payment.state != PaymentState.SUCCEEDED:
        await queries.update_payment(session, payment.id, state=PaymentState.QUARANTINED, problem=why)


async def _put_aside(session: AsyncSession, seen: PaymentSeen, why: Why, payment_id: UUID | None) -> None:
    await queries.put_into_quarantine(
        session,
        service_id=seen.intent_id,
        reason=why,
        payment_id=payment_id,
        currency=seen.currency,
        amount_minor=seen.received_minor,
    )


async def _apply_refund(session: AsyncSession, seen: RefundSeen) -> str:
    refund_id = _refund_id(seen.refund)
    found = None if refund_id is None else await queries.find_refund(session, refund_id)
    if found is None:
        return await _refund_by_hand(session, seen)
    await lock_money(session, found.tenant_id)
    refund = await queries.lock_refund(session, found.id)
    if refund is None or refund.state == RefundState.FAILED:
        return "nothing_new"
    if (seen.amount_minor, seen.currency) != (refund.gross_minor, refund.currency):
        await _put_refund_aside(session, seen, Why.WRONG_AMOUNT, refund.payment_id)
        return "quarantined"
    if seen.state == RefundState.FAILED:
        # It can fail days after it succeeded, when the customer's bank sends it back.
        await fail_refund(session, refund.id, seen.problem or "failed")
        return "refund_failed"
    if refund.state == RefundState.SUCCEEDED or (refund.state, refund.service_id) == (seen.state, seen.refund_id):
        return "nothing_new"
    await queries.update_refund(session, refund.id, state=seen.state, service_id=seen.refund_id)
    return f"refund_{seen.state}"


async def _refund_by_hand(session: AsyncSession, seen: RefundSeen) -> str:
    """Somebody paid back at the service itself: the ledger does not know, and a person has to say what it was."""
    if seen.state == RefundState.FAILED:
        return "ignored"
    payment = None if seen.intent_id is None else await queries.find_payment_by_intent(session, seen.intent_id)
    await _put_refund_aside(session, seen, Why.UNKNOWN, None if payment is None else payment.id)
    return "quarantined"


async def _put_refund_aside(session: AsyncSession, seen: RefundSeen, why: Why, payment_id: UUID | None) -> None:
    await queries.put_into_quarantine(
        session,
        service_id=seen.refund_id,
        reason=why,
        payment_id=payment_id,
        currency=seen.currency,
        amount_minor=-seen.amount_minor,
    )


def _refund_id(text: str | None) -> UUID | None:
    try:
        return None if text is None else UUID(text)
    except ValueError:
        return None


async def _apply_dispute(session: AsyncSession, seen: DisputeSeen, *, live: bool) -> str:
    payment = None if seen.intent_id is None else await queries.find_payment_by_intent(session, seen.intent_id)
    if payment is None or seen.live is not live or payment.state != PaymentState.SUCCEEDED:
        await queries.put_into_quarantine(
            session,
            service_id=seen.dispute_id,
            reason=Why.UNKNOWN,
            payment_id=None,
            currency=seen.currency,
            amount_minor=-seen.amount_minor,
        )
        return "quarantined"
    await lock_money(session, payment.tenant_id)
    return await disputes.settle(session, payment, seen, unit_nano=nano_per_minor(payment.currency))


async def _apply_methods(session: AsyncSession, seen: MethodsSeen) -> str:
    customer = await queries.find_customer(session, seen.customer)
    if customer is None:
        return "ignored"
    await queries.lock_customer(session, customer.tenant_id)
    await queries.put_methods(session, customer.tenant_id, seen.methods)
    scope = TenantScope(TenantId(customer.tenant_id))
    saved = await queries.list_methods(session, scope)
    if saved and not saved[0].is_default:
        # With one saved method there is nothing to choose.
        await queries.set_default_method(session, scope, saved[0].service_id)
    return "methods"
