"""Transfers: what arrives at the service for a tenant is settled, to the cent, when it arrives.

The service keeps it as the customer's cash and pays with it whatever waits for all of its amount. The ledger does not
wait: what came settles the invoices that were asked for by transfer, the oldest first, and the rest is the tenant's
deposit. So it follows the movements of that cash, each once. What the service does with money that is counted changes
nothing here; but what goes into a top-up is the top-up's, which is posted with its tax when it is whole.
"""

from uuid import UUID

from msgspec import Struct
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_billing.budgets import queries as budgets
from chappe_billing.funds.service import Movement, move_funds
from chappe_billing.invoices.queries import find_open_invoice
from chappe_billing.ledger.postings import Rail, TransactionKind
from chappe_billing.payments import cash_queries, queries, telling
from chappe_billing.payments.amounts import nano_per_minor
from chappe_billing.payments.deciding import Why
from chappe_billing.payments.models import Payment, Purpose
from chappe_billing.payments.port import CashMove, CashSeen
from chappe_billing.payments.queries import Payer
from chappe_billing.payments.settling import settle
from chappe_kernel.errors import Invalid
from chappe_kernel.ids import PAYMENT, TenantId, decode_id
from chappe_store.session import TenantScope


async def list_new(session: AsyncSession, seen: CashSeen) -> list[CashMove]:
    known = await cash_queries.list_known(session, [move.move_id for move in seen.moves])
    return [move for move in seen.moves if move.move_id not in known]


async def take_in(session: AsyncSession, seen: CashSeen) -> str:
    """What it did, in a word. Locks the tenant's budget."""
    customer = await queries.find_customer(session, seen.customer)
    if customer is None:
        return "ignored"
    await budgets.lock_budgets(session, [customer.tenant_id])
    payer = await queries.read_payer(session, TenantScope(TenantId(customer.tenant_id)))
    new = await list_new(session, seen)
    if payer is None or not new:
        return "nothing_new"
    counted = [await _count(session, payer, move) for move in new if move.currency == payer.currency]
    for move in new:
        if move.currency != payer.currency:
            await _put_aside(session, move)
    if not counted:
        return "quarantined"
    came_minor = sum(one.counted_minor for one in counted)
    posted = await _post(session, payer, counted, came_minor * nano_per_minor(payer.currency))
    await cash_queries.insert_moves(session, [_row(payer, one, counted, posted) for one in counted])
    return "cash"


class _Counted(Struct, frozen=True):
    """`payment` is the invoice's payment that the service took it for."""

    move: CashMove
    payment: Payment | None
    counted_minor: int


class _Posted(Struct, frozen=True):
    """What was posted for which payment; `rest` is a deposit."""

    by_payment: dict[UUID, UUID]
    rest: UUID | None = None


async def _count(session: AsyncSession, payer: Payer, move: CashMove) -> _Counted:
    payment = await _payment_of(session, move)
    is_invoices = payment is not None and payment.tenant_id == payer.tenant_id and payment.purpose == Purpose.INVOICE
    return _Counted(move, payment if is_invoices else None, 0 if is_invoices else move.net_minor)


async def _payment_of(session: AsyncSession, move: CashMove) -> Payment | None:
    if move.payment is None:
        return None
    try:
        return await queries.find_any_payment(session, decode_id(PAYMENT, move.payment))
    except Invalid:
        return None


async def _post(session: AsyncSession, payer: Payer, counted: list[_Counted], came_nano: int) -> _Posted:
    name = f"stripe {counted[-1].move.move_id}"
    if came_nano < 0:
        back = Movement(
            kind=TransactionKind.CHARGEBACK,
            amount_nano=-came_nano,
            reference=name,
            reason="it went into a top-up, or back to the bank",
            rail=Rail.BANK_TRANSFER,
        )
        return _Posted({}, (await move_funds(session, payer.tenant_id, back)).transaction_id)
    by_payment: dict[UUID, UUID] = {}
    for payment in await _in_order(session, payer, counted):
        invoice = None if payment.invoice_id is None else await find_open_invoice(session, payment.invoice_id)
        taken = 0 if invoice is None else min(came_nano, invoice.open_nano)
        if invoice is not None and taken > 0:
            settled = await settle(
                session,
                invoice.id,
                amount_nano=taken,
                reference=f"{name} {invoice.number}",
                rail=Rail.BANK_TRANSFER,
            )
            by_payment[payment.id] = settled.transactions[0]
            came_nano -= taken
    if came_nano == 0:
        return _Posted(by_payment)
    rest = Movement(kind=TransactionKind.TOP_UP, amount_nano=came_nano, reference=name, rail=Rail.BANK_TRANSFER)
    moved = await move_funds(session, payer.tenant_id, rest)
    await telling.tell_deposited(session, payer, came_nano)
    return _Posted(by_payment, moved.transaction_id)


async def _in_order(session: AsyncSession, payer: Payer, counted: list[_Counted]) -> list[Payment]:
    """First those that the service took it for."""
    asking = await cash_queries.list_asking(session, payer.tenant_id)
    taken_for = {one.payment.id for one in counted if one.payment is not None}
    return sorted(asking, key=lambda payment: payment.id not in taken_for)


def _row(payer: Payer, one: _Counted, counted: list[_Counted], posted: _Posted) -> dict[str, object]:
    """A payment is found by the movement that paid it. Where the service has not said yet what it took it for, the last
    movement names the one that was settled by it."""
    payment_id = None if one.payment is None else one.payment.id
    unsaid = [known for known in posted.by_payment if all(known != _id_of(other) for other in counted)]
    if payment_id is None and unsaid and one is counted[-1]:
        payment_id = unsaid[0]
    return {
        "tenant_id": payer.tenant_id,
        "service_id": one.move.move_id,
        "kind": one.move.kind,
        "currency": one.move.currency,
        "net_minor": one.move.net_minor,
        "counted_minor": one.counted_minor,
        "payment_id": payment_id,
        "transaction_id": None if payment_id is None else posted.by_payment.get(payment_id, posted.rest),
    }


def _id_of(one: _Counted) -> UUID | None:
    return None if one.payment is None else one.payment.id


async def _put_aside(session: AsyncSession, move: CashMove) -> None:
    await queries.put_into_quarantine(
        session,
        service_id=move.move_id,
        reason=Why.WRONG_CURRENCY,
        payment_id=None,
        currency=move.currency,
        amount_minor=move.net_minor,
    )
