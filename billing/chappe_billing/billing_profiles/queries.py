"""SQL of billing profiles."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_billing.invoices.models import BillingProfile
from chappe_store.session import TenantScope
from chappe_tenants.organisations.models import Tenant


async def read_profile(session: AsyncSession, scope: TenantScope) -> BillingProfile | None:
    """None for a tenant with the defaults."""
    statement = select(BillingProfile).where(BillingProfile.tenant_id == scope.tenant_id)
    found: BillingProfile | None = await session.scalar(statement.execution_options(populate_existing=True))
    return found


async def take_turn(session: AsyncSession, scope: TenantScope) -> None:
    """Whoever changes one tenant's profile waits for whoever does until the transaction ends."""
    key = func.hashtextextended(f"billing profile {scope.tenant_id}", 0)
    await session.execute(select(func.pg_advisory_xact_lock(key)))


async def put_profile(session: AsyncSession, scope: TenantScope, values: Mapping[str, Any]) -> None:
    statement = insert(BillingProfile).values(tenant_id=scope.tenant_id, **values)
    await session.execute(statement.on_conflict_do_update(index_elements=["tenant_id"], set_=dict(values)))


async def is_subsidiary(session: AsyncSession, scope: TenantScope, parent: UUID) -> bool:
    """Of that tenant, and a customer of the same legal entity."""
    own = select(Tenant.legal_entity_id).where(Tenant.id == scope.tenant_id, Tenant.parent_id == parent)
    statement = select(Tenant.id).where(Tenant.id == parent, Tenant.legal_entity_id == own.scalar_subquery())
    return await session.scalar(statement) is not None


async def stands_elsewhere(session: AsyncSession, parent: UUID, child: UUID) -> bool:
    """Whether the parent stands on another's invoice itself, or somebody stands on the child's."""
    statement = select(BillingProfile.tenant_id).where(
        ((BillingProfile.tenant_id == parent) & BillingProfile.billed_to.is_not(None))
        | (BillingProfile.billed_to == child)
    )
    return await session.scalar(statement.limit(1)) is not None
