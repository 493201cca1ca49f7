"""SQL of saving methods, and of which may be charged."""

from datetime import timedelta

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_billing.payments.models import CallKind, DisputeState, PaymentCall, PaymentDispute, PaymentMethod
from chappe_billing.payments.queries import list_methods
from chappe_store.session import TenantScope


async def list_chargeable(session: AsyncSession, scope: TenantScope) -> list[PaymentMethod]:
    """Like `list_methods`, without those by which a payment was charged that its bank took back: who said no to it is
    not charged so again."""
    disputed = (
        select(PaymentCall.parameters["method_id"].astext)
        .join(PaymentDispute, PaymentDispute.payment_id == PaymentCall.payment_id)
        .where(
            PaymentCall.tenant_id == scope.tenant_id,
            PaymentCall.kind == CallKind.CHARGE,
            PaymentDispute.state == DisputeState.LOST,
        )
    )
    lost = set(await session.scalars(disputed))
    return [method for method in await list_methods(session, scope) if method.service_id not in lost]


async def count_open_setups(session: AsyncSession, scope: TenantScope) -> int:
    """Pages for saving a method that were opened within the last day, after which they are closed."""
    statement = select(func.count()).where(
        PaymentCall.tenant_id == scope.tenant_id,
        PaymentCall.kind == CallKind.SETUP,
        PaymentCall.created_at > func.now() - timedelta(days=1),
    )
    return int((await session.execute(statement)).scalar_one())
