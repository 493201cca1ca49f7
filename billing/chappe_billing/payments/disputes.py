"""Payments that a bank may take back."""

from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from chappe_billing.ledger.postings import TransactionKind
from chappe_billing.payments import posting, queries, telling
from chappe_billing.payments.amounts import nano_per_minor
from chappe_billing.payments.models import DisputeState, Method, Payment, PaymentDispute, Purpose
from chappe_billing.payments.port import DisputeSeen
from chappe_billing.payments.settling import settle as pay_invoice
from chappe_billing.payments.settling import unsettle
from chappe_kernel.ids import TenantId


async def settle(session: AsyncSession, payment: Payment, seen: DisputeSeen, *, unit_nano: int) -> str:
    """Under the lock on the tenant's budget. What was lost may have been spent: then it is debt, and nothing more is
    admitted. A dispute that is won after all gives back what it took."""
    await queries.insert_dispute(session, payment, seen)
    dispute = await queries.lock_dispute(session, seen.dispute_id)
    if dispute is None or dispute.payment_id != payment.id:
        return "ignored"
    match seen.state:
        case DisputeState.LOST if dispute.chargeback_id is None:
            await _charge_back(session, payment, dispute, seen.amount_minor * unit_nano)
        case DisputeState.WON if dispute.chargeback_id is not None and dispute.reversal_id is None:
            await _give_back(session, payment, dispute)
        case state if state == dispute.state or dispute.state in {DisputeState.LOST, DisputeState.WON}:
            return "nothing_new"
        case _:
            await queries.update_dispute(session, dispute.service_id, state=seen.state)
    return f"dispute_{seen.state}"


async def _charge_back(session: AsyncSession, payment: Payment, dispute: PaymentDispute, gross_nano: int) -> None:
    reference = f"stripe {dispute.service_id}"
    if payment.purpose == Purpose.INVOICE and payment.invoice_id is not None and payment.intent_id is not None:
        paid = posting.reference_of(payment.intent_id)
        chargeback_id = await unsettle(
            session, payment.invoice_id, paid, gross_nano, reference=reference, reason=dispute.reason
        )
        await telling.tell_disputed(session, payment, gross_nano)
    else:
        left_nano = await posting.left_of(session, payment)
        if left_nano == 0:
            # Paid back already: the bank took what the tenant has no more, and a person sees to it.
            await queries.update_dispute(session, dispute.service_id, state=DisputeState.LOST)
            return
        taken = await posting.take_back(
            session,
            payment,
            TransactionKind.CHARGEBACK,
            min(gross_nano, left_nano),
            reference=reference,
            reason=dispute.reason,
        )
        chargeback_id = taken.transaction_id
    await queries.update_dispute(session, dispute.service_id, state=DisputeState.LOST, chargeback_id=chargeback_id)


async def _give_back(session: AsyncSession, payment: Payment, dispute: PaymentDispute) -> None:
    if dispute.chargeback_id is None:
        return
    reversal_id: UUID
    reference = f"stripe {dispute.service_id} won"
    if payment.purpose == Purpose.INVOICE and payment.invoice_id is not None:
        amount_nano = dispute.amount_minor * nano_per_minor(payment.currency)
        rail = posting.RAILS[Method(payment.method)]
        settled = await pay_invoice(
            session, payment.invoice_id, amount_nano=amount_nano, reference=reference, rail=rail
        )
        reversal_id = settled.transactions[0]
        await telling.tell_succeeded(session, payment, credited_nano=settled.over_nano)
    else:
        tenant_id = TenantId(payment.tenant_id)
        reversal_id = await posting.give_back(
            session, tenant_id, dispute.chargeback_id, reference=reference, reason="the dispute was won"
        )
    await queries.update_dispute(session, dispute.service_id, state=DisputeState.WON, reversal_id=reversal_id)
