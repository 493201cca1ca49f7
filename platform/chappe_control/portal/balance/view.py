"""What the pages about the balance show."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from msgspec import Struct
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_billing.balance.queries import Balance, read_balance
from chappe_billing.payments import queries, service
from chappe_billing.payments.amounts import nano_per_minor
from chappe_billing.payments.models import (
    AutoTopUp,
    Method,
    Payment,
    PaymentMethod,
    PaymentRefund,
    PaymentState,
    Purpose,
)
from chappe_billing.payments.queries import Payer
from chappe_billing.payments.service import Quote, quote
from chappe_control.payments.office import PaymentOffice
from chappe_control.portal.balance.texts import METHODS, PROBLEMS, PURPOSES, REFUND_STATES, REFUSED, STATES
from chappe_kernel.errors import Conflict, NotFound
from chappe_kernel.ids import new_id
from chappe_kernel.money import NANO_PER_UNIT
from chappe_store.queries import read_now
from chappe_store.session import TenantScope
from chappe_tenants.legal_entities.models import Payments

_SHOWN = 50
_SUGGESTED_UNITS = (20, 50, 100, 500)
TEXTS: Mapping[str, Any] = {
    "states": STATES,
    "purposes": PURPOSES,
    "methods": METHODS,
    "refund_states": REFUND_STATES,
    "minor_nano": nano_per_minor,
}


class BalancePage(Struct, frozen=True):
    """`offers` are suggested amounts with their tax; empty where nobody can pay here, and `problem` says why."""

    balance: Balance
    offers: list[Quote]
    problem: str | None
    ways: tuple[Method, ...]
    methods: list[PaymentMethod]
    auto_top_up: AutoTopUp | None
    payments: list[Payment]
    collects: bool
    has_customer: bool


class PaymentPage(Struct, frozen=True):
    payment: Payment
    url: str | None
    refunds: list[PaymentRefund]
    refundable: bool
    refund_id: UUID


async def read_balance_page(session: AsyncSession, scope: TenantScope, office: PaymentOffice) -> BalancePage:
    payer = await queries.read_payer(session, scope)
    if payer is None:
        raise NotFound("no such organisation")
    collects = office.is_open and payer.payments is Payments.STRIPE
    offers, problem = await _offers(session, payer) if collects else ([], None)
    return BalancePage(
        balance=await read_balance(session, scope),
        offers=offers,
        problem=problem,
        ways=service.methods_for(payer.currency),
        methods=await queries.list_methods(session, scope),
        auto_top_up=await queries.find_auto_top_up(session, scope),
        payments=await queries.list_payments(session, scope, limit=_SHOWN),
        collects=collects,
        has_customer=payer.customer is not None,
    )


async def _offers(session: AsyncSession, payer: Payer) -> tuple[list[Quote], str | None]:
    today = (await read_now(session)).date()
    try:
        return [await quote(session, payer, units * NANO_PER_UNIT, today) for units in _SUGGESTED_UNITS], None
    except Conflict as error:
        return [], PROBLEMS.get(error.code, REFUSED)


async def read_payment_page(session: AsyncSession, scope: TenantScope, payment_id: UUID) -> PaymentPage:
    """Raises `NotFound`, also for another tenant's."""
    payment = await queries.find_payment(session, scope, payment_id)
    if payment is None:
        raise NotFound("no such payment")
    paid = payment.state == PaymentState.SUCCEEDED and payment.purpose != Purpose.INVOICE
    return PaymentPage(
        payment=payment,
        url=await queries.url_of(session, scope, payment_id) if payment.state == PaymentState.OPEN else None,
        refunds=await queries.list_refunds(session, payment_id=payment_id),
        # The ledger's own word comes when it is asked for: tenants do not see the state's part of it.
        refundable=paid and await queries.sum_refunded_minor(session, payment_id) < payment.gross_minor,
        refund_id=new_id(),
    )
