"""SQL of the money that tenants have lying at the payment service. As the operator."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import ARRAY, Text, any_, cast, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_billing.invoices.models import InvoiceSettlement
from chappe_billing.payments.models import UNDER_WAY, Method, Payment, PaymentCash, PaymentState, Purpose


async def list_known(session: AsyncSession, move_ids: Sequence[str]) -> set[str]:
    statement = select(PaymentCash.service_id).where(PaymentCash.service_id == any_(cast(move_ids, ARRAY(Text))))
    return set(await session.scalars(statement))


async def insert_moves(session: AsyncSession, moves: Sequence[dict[str, Any]]) -> None:
    """Under the lock on the tenant's budget."""
    session.add_all([PaymentCash(**move) for move in moves])
    await session.flush()


async def list_asking(session: AsyncSession, tenant_id: UUID) -> list[Payment]:
    """Payments of invoices that somebody was asked to make by transfer, the oldest first: also those that the service
    has marked as made. It may have put the money where we did not, and their invoices may be open here."""
    statement = (
        select(Payment)
        .where(
            Payment.tenant_id == tenant_id,
            Payment.purpose == Purpose.INVOICE,
            Payment.method == Method.BANK_TRANSFER,
            Payment.state.in_((*UNDER_WAY, PaymentState.SUCCEEDED)),
        )
        .order_by(Payment.id)
    )
    return list(await session.scalars(statement))


async def sum_cash(session: AsyncSession, tenant_id: UUID) -> int:
    """What lies there, as far as we know, in minor units."""
    statement = select(func.coalesce(func.sum(PaymentCash.net_minor), 0)).where(PaymentCash.tenant_id == tenant_id)
    return int((await session.execute(statement)).scalar_one())


async def find_posted(session: AsyncSession, payment_id: UUID) -> UUID | None:
    """What was posted last of the money that came for this payment."""
    statement = (
        select(PaymentCash.transaction_id)
        .where(PaymentCash.payment_id == payment_id, PaymentCash.transaction_id.is_not(None))
        .order_by(PaymentCash.seen_at.desc(), PaymentCash.service_id.desc())
    )
    return await session.scalar(statement.limit(1))


async def has_settled(session: AsyncSession, payment: Payment) -> bool:
    """Whether anything of the money that came for an invoice's payment settled that invoice."""
    statement = (
        select(PaymentCash.service_id)
        .join(InvoiceSettlement, InvoiceSettlement.transaction_id == PaymentCash.transaction_id)
        .where(PaymentCash.payment_id == payment.id, InvoiceSettlement.invoice_id == payment.invoice_id)
    )
    return await session.scalar(statement.limit(1)) is not None
