"""SQL of collecting invoices."""

from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

from sqlalchemy import Select, exists, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_billing.invoices.models import Invoice
from chappe_billing.invoices.queries import open_nano_column
from chappe_billing.payments.models import (
    UNDER_WAY,
    WITHDRAWN,
    CallKind,
    Method,
    Payment,
    PaymentCall,
    PaymentCash,
    PaymentState,
    Purpose,
)
from chappe_store.arrays import is_among
from chappe_tenants.legal_entities.models import LegalEntity, Payments

_ABANDONED_FOR = timedelta(days=1)


async def count_attempts(session: AsyncSession, invoice_id: UUID) -> int:
    statement = select(func.count()).where(Payment.invoice_id == invoice_id)
    return int((await session.execute(statement)).scalar_one())


async def is_under_way(session: AsyncSession, invoice_id: UUID) -> bool:
    """Whether the invoice has a payment of which the end is not known; there is one at most."""
    statement = select(Payment.id).where(Payment.invoice_id == invoice_id, Payment.state.in_(UNDER_WAY))
    return await session.scalar(statement.limit(1)) is not None


async def list_collectable(session: AsyncSession, invoice_ids: Sequence[UUID]) -> set[UUID]:
    """Of these invoices, those of entities that collect by the service and for which nobody was asked yet, or what was
    asked for was abandoned a day ago, or withdrawn. What failed is for dunning to want again."""
    statement = (
        select(Invoice.id)
        .join(LegalEntity, LegalEntity.id == Invoice.legal_entity_id)
        .outerjoin(Payment, Payment.invoice_id == Invoice.id)
        .where(is_among(Invoice.id, invoice_ids), LegalEntity.payments == Payments.STRIPE)
        .group_by(Invoice.id)
        .having(
            func.count(Payment.id).filter(Payment.state != PaymentState.EXPIRED) == 0,
            func.coalesce(
                func.max(Payment.changed_at).filter(Payment.problem.is_distinct_from(WITHDRAWN))
                < func.now() - _ABANDONED_FOR,
                True,
            ),
        )
    )
    return set(await session.scalars(statement))


async def list_unwanted(session: AsyncSession, payment_ids: Sequence[UUID]) -> set[UUID]:
    """Of these payments, those of invoices of which less is open than they ask for."""
    if not payment_ids:
        return set()
    return set(await session.scalars(_asking_too_much().where(is_among(Payment.id, payment_ids))))


async def list_superfluous(session: AsyncSession, *, limit: int) -> list[UUID]:
    """As the operator: payments for which somebody is asked at the service, and of whose invoices less is open by now.
    Those alone whose request is not being withdrawn; the oldest first."""
    withdrawal = exists().where(PaymentCall.payment_id == Payment.id, PaymentCall.kind == CallKind.WITHDRAW)
    statement = (
        _asking_too_much()
        .join(LegalEntity, LegalEntity.id == Payment.legal_entity_id)
        .where(
            Payment.state == PaymentState.OPEN,
            Payment.session_id.is_not(None),
            LegalEntity.payments == Payments.STRIPE,
            ~withdrawal,
        )
        .order_by(Payment.id)
        .limit(limit)
    )
    return list(await session.scalars(statement))


def _asking_too_much() -> Select[UUID]:
    """What the service still waits for is what was asked for, less what it took of the tenant's cash for it. Of a
    transfer, what lies there may be taken for it yet."""
    applied = (
        select(func.coalesce(func.sum(PaymentCash.net_minor), 0))
        .where(PaymentCash.payment_id == Payment.id, PaymentCash.counted_minor == 0)
        .scalar_subquery()
    )
    cash = (
        select(func.greatest(func.coalesce(func.sum(PaymentCash.net_minor), 0), 0))
        .where(PaymentCash.tenant_id == Payment.tenant_id, Payment.method == Method.BANK_TRANSFER)
        .scalar_subquery()
    )
    nano_per_minor = Payment.net_nano // Payment.gross_minor
    return (
        select(Payment.id)
        .join(Invoice, Invoice.id == Payment.invoice_id)
        .where(
            Payment.purpose == Purpose.INVOICE,
            Payment.state.in_(UNDER_WAY),
            Payment.net_nano + nano_per_minor * (applied - cash) > open_nano_column(),
        )
    )
