"""What tenants and the operator ask for: payments, saved methods, refunds. In the caller's transaction, which tells the
service nothing: it writes down what is to be told."""

from datetime import date
from uuid import UUID

import msgspec
from msgspec import Struct
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_billing.budgets import queries as budgets
from chappe_billing.funds.once import clean_reason
from chappe_billing.ledger.postings import TransactionKind
from chappe_billing.payments import method_queries, posting, queries
from chappe_billing.payments.amounts import Charged, add_tax, can_be_charged, check_bounds, is_offered, nano_per_minor
from chappe_billing.payments.calling import order
from chappe_billing.payments.models import Method, Payment, PaymentRefund, PaymentState, Purpose
from chappe_billing.payments.port import ForgetMethod, OpenCheckout, OpenSetup, PayBack
from chappe_billing.payments.queries import Payer
from chappe_billing.tax.service import treatment_of
from chappe_billing.tax.treatment import TaxTreatment
from chappe_kernel.errors import Conflict, Invalid, NotFound
from chappe_kernel.ids import PAYMENT, PAYMENT_CALL, TenantId, encode_id, new_id
from chappe_kernel.money import NANO_PER_UNIT
from chappe_store.queries import read_now
from chappe_store.session import Role, TenantScope, acting_as
from chappe_tenants.legal_entities.models import Payments

_EURO = "EUR"
_MOST_OPEN = 20
"""Pages that a tenant may have open at once: who wants more pays or lets them expire."""


class Bounds(Struct, frozen=True):
    """Of a top-up's net amount."""

    least_nano: int = 5 * NANO_PER_UNIT
    most_nano: int = 10_000 * NANO_PER_UNIT


class TopUp(Struct, frozen=True, kw_only=True):
    """`save`: keep the card or account for later payments."""

    net_nano: int
    method: Method = Method.CARD
    save: bool = False


class Quote(Struct, frozen=True):
    """What a net amount costs today, and why."""

    charged: Charged
    treatment: TaxTreatment
    currency: str


async def collecting_payer(session: AsyncSession, scope: TenantScope) -> Payer:
    """Raises `NotFound`, and `Conflict` (`payments_not_offered`) where the legal entity takes none by the service."""
    payer = await queries.read_payer(session, scope)
    if payer is None:
        raise NotFound("no such tenant")
    if payer.payments is not Payments.STRIPE:
        raise Conflict("no payments are taken here", code="payments_not_offered")
    if not is_offered(payer.currency):
        raise Conflict(f"no payments are taken in {payer.currency}", code="payments_not_offered")
    return payer


def methods_for(currency: str) -> tuple[Method, ...]:
    """SEPA is of the euro, and so are the transfers that the service takes in for us."""
    return tuple(Method) if currency == _EURO else (Method.CARD,)


async def quote(session: AsyncSession, payer: Payer, net_nano: int, on: date) -> Quote:
    """Raises `Invalid` for what is no whole cents, and `Conflict` (`tax_undecided`)."""
    treatment = await treatment_of(session, payer.tenant_id, on)
    return Quote(add_tax(net_nano, payer.currency, treatment), treatment, payer.currency)


async def start_top_up(
    session: AsyncSession, scope: TenantScope, asked: TopUp, *, bounds: Bounds, portal_url: str
) -> UUID:
    """As the tenant; the payment's id. Its page is open some moments after the commit."""
    payer = await collecting_payer(session, scope)
    check_bounds(asked.net_nano, bounds.least_nano, bounds.most_nano)
    if asked.method not in methods_for(payer.currency):
        raise Invalid(f"not in {payer.currency}", code="invalid_method", param="method")
    if await queries.count_open(session, scope) >= _MOST_OPEN:
        raise Conflict("too many payments are open: pay or abandon one", code="too_many_open_payments")
    now = await read_now(session)
    quoted = await quote(session, payer, asked.net_nano, now.date())
    if not can_be_charged(quoted.charged.gross_minor, payer.currency):
        raise Invalid("the payment service takes no such amount", code="amount_out_of_bounds", param="amount")
    payment_id = await insert_top_up(session, payer, quoted, Purpose.TOP_UP, asked.method)
    public = encode_id(PAYMENT, payment_id)
    checkout = OpenCheckout(
        payment=public,
        gross_minor=quoted.charged.gross_minor,
        currency=payer.currency,
        method=asked.method,
        description="Credit for inference",
        return_url=f"{portal_url}/balance/payments/{public}",
        country=payer.country,
        save=asked.save and asked.method is not Method.BANK_TRANSFER,
    )
    await order(session, payer, checkout, payment_id=payment_id)
    return payment_id


async def insert_top_up(session: AsyncSession, payer: Payer, quoted: Quote, purpose: Purpose, method: Method) -> UUID:
    payment_id = new_id()
    values = {
        "tenant_id": payer.tenant_id,
        "id": payment_id,
        "legal_entity_id": payer.legal_entity_id,
        "purpose": purpose,
        "method": method,
        "currency": payer.currency,
        **msgspec.to_builtins(quoted.charged),
        "treatment": msgspec.to_builtins(quoted.treatment),
    }
    await queries.insert_payment(session, values)
    return payment_id


async def start_setup(session: AsyncSession, scope: TenantScope, *, portal_url: str) -> UUID:
    """As the tenant: a page on which to save a card or an account; the call's id."""
    payer = await collecting_payer(session, scope)
    if await method_queries.count_open_setups(session, scope) >= _MOST_OPEN:
        raise Conflict("too many of these pages are open", code="too_many_open_payments")
    methods = tuple(method for method in methods_for(payer.currency) if method is not Method.BANK_TRANSFER)
    setup = OpenSetup(currency=payer.currency, return_url=f"{portal_url}/balance/methods", methods=methods)
    return await order(session, payer, setup)


async def choose_method(session: AsyncSession, scope: TenantScope, service_id: str) -> None:
    """As the tenant: what is charged when nobody is there to ask. Raises `NotFound`."""
    await queries.lock_customer(session, scope.tenant_id)
    if not await queries.set_default_method(session, scope, service_id):
        raise NotFound("no such payment method")


async def remove_method(session: AsyncSession, scope: TenantScope, service_id: str) -> None:
    """As the tenant: it is not used from now on, and the service forgets it; once anybody collects by it again, where
    nobody does. Raises `NotFound`."""
    await queries.lock_customer(session, scope.tenant_id)
    payer = await queries.read_payer(session, scope)
    if payer is None or not await queries.remove_method(session, scope, service_id):
        raise NotFound("no such payment method")
    left = await queries.list_methods(session, scope)
    if left and not left[0].is_default:
        await queries.set_default_method(session, scope, left[0].service_id)
    await order(session, payer, ForgetMethod(method_id=service_id))


class RefundAsked(Struct, frozen=True, kw_only=True):
    """`refund_id` is chosen by whoever asks: a repeat finds the first. Without an amount it is all that is left."""

    refund_id: UUID
    gross_minor: int | None
    reason: str


async def refund_own(session: AsyncSession, scope: TenantScope, payment_id: UUID, asked: RefundAsked) -> PaymentRefund:
    """As the tenant: unused money goes back to where it came from. Raises `NotFound`, and as `refund` does."""
    if await queries.find_payment(session, scope, payment_id) is None:
        raise NotFound("no such payment")
    async with acting_as(session, Role.OPERATOR):
        return await refund(session, payment_id, asked)


async def refund(session: AsyncSession, payment_id: UUID, asked: RefundAsked) -> PaymentRefund:
    """As the operator: out of the funds now, and then back to the payer by the way that it came.

    Raises `NotFound`, `Conflict` for what is no paid top-up or is disputed, and `Invalid` for more than is left of the
    payment, unused by invoices and free in the tenant's funds.
    """
    payment = await queries.find_any_payment(session, payment_id)
    if payment is None:
        raise NotFound("no such payment")
    scope = TenantScope(TenantId(payment.tenant_id))
    payer = await collecting_payer(session, scope)
    await budgets.lock_budgets(session, [payment.tenant_id])
    known = await queries.lock_refund(session, asked.refund_id)
    if known is not None:
        return _same(known, payment, asked)
    payment = await queries.lock_payment(session, payment_id)
    await _check_refundable(session, payment)
    gross_nano = await _gross_of(session, payment, asked)
    reference = f"stripe refund {asked.refund_id}"
    taken = await posting.take_back(
        session, payment, TransactionKind.REFUND, gross_nano, reference=reference, reason=clean_reason(asked.reason)
    )
    gross_minor = gross_nano // nano_per_minor(payment.currency)
    values = {
        "tenant_id": payment.tenant_id,
        "id": asked.refund_id,
        "legal_entity_id": payment.legal_entity_id,
        "payment_id": payment.id,
        "currency": payment.currency,
        "net_nano": taken.net_nano,
        "gross_minor": gross_minor,
        "reason": clean_reason(asked.reason),
        "transaction_id": taken.transaction_id,
    }
    await queries.insert_refund(session, values)
    way_back = PayBack(refund=str(asked.refund_id), intent_id=payment.intent_id or "", gross_minor=gross_minor)
    await order(session, payer, way_back, payment_id=payment.id, refund_id=asked.refund_id)
    made = await queries.find_refund(session, asked.refund_id)
    if made is None:
        raise NotFound("no such refund")
    return made


def _same(known: PaymentRefund, payment: Payment, asked: RefundAsked) -> PaymentRefund:
    if known.payment_id != payment.id or asked.gross_minor not in {None, known.gross_minor}:
        raise Conflict("this id stands for another refund", code="refund_taken", param="refund_id")
    return known


async def _check_refundable(session: AsyncSession, payment: Payment) -> None:
    if payment.state != PaymentState.SUCCEEDED or payment.intent_id is None:
        raise Conflict("this payment brought no money", code="not_paid")
    if payment.purpose == Purpose.INVOICE:
        raise Conflict("what was invoiced goes back by a credit note", code="invoiced")
    if await queries.has_open_dispute(session, payment.id):
        raise Conflict("the payer's bank disputes this payment: it decides where the money goes", code="disputed")


async def _gross_of(session: AsyncSession, payment: Payment, asked: RefundAsked) -> int:
    """In nanos, whole minor units. All that is left and that no invoice has used, unless less is asked for."""
    unit = nano_per_minor(payment.currency)
    left_minor = await posting.refundable_of(session, payment) // unit
    left_minor = min(left_minor, payment.gross_minor - await queries.sum_refunded_minor(session, payment.id))
    gross_minor = left_minor if asked.gross_minor is None else asked.gross_minor
    if not 0 < gross_minor <= left_minor:
        raise Invalid("so much is not left of the payment, or is used", code="amount_too_large", param="amount")
    return gross_minor * unit


def public_call(call_id: UUID) -> str:
    return encode_id(PAYMENT_CALL, call_id)
