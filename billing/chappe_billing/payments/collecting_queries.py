"""SQL of collecting invoices."""

from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_billing.invoices.models import Invoice
from chappe_billing.payments.models import UNDER_WAY, Payment, PaymentState
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
    asked for was abandoned a day ago. What failed is for dunning to want again."""
    statement = (
        select(Invoice.id)
        .join(LegalEntity, LegalEntity.id == Invoice.legal_entity_id)
        .outerjoin(Payment, Payment.invoice_id == Invoice.id)
        .where(is_among(Invoice.id, invoice_ids), LegalEntity.payments == Payments.STRIPE)
        .group_by(Invoice.id)
        .having(
            func.count(Payment.id).filter(Payment.state != PaymentState.EXPIRED) == 0,
            func.coalesce(func.max(Payment.changed_at) < func.now() - _ABANDONED_FOR, True),
        )
    )
    return set(await session.scalars(statement))
