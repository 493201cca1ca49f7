"""SQL for tenants."""

from sqlalchemy import insert, select
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_kernel.ids import TenantId
from chappe_store.session import TenantScope
from chappe_tenants.organisations.models import Tenant


async def read_tenant(session: AsyncSession, scope: TenantScope) -> Tenant | None:
    return await session.get(Tenant, scope.tenant_id)


async def find_by_reference(session: AsyncSession, reference: str) -> TenantId | None:
    """Across tenants: for the operator's role."""
    found = await session.scalar(select(Tenant.id).where(Tenant.reference == reference))
    return None if found is None else TenantId(found)


async def insert_tenant(
    session: AsyncSession,
    *,
    tenant_id: TenantId,
    parent_id: TenantId | None,
    reference: str | None,
    name: str,
    currency: str,
    allowed_regions: list[str],
    requests_per_minute: int,
) -> None:
    await session.execute(
        insert(Tenant).values(
            id=tenant_id,
            parent_id=parent_id,
            reference=reference,
            name=name,
            state="active",
            currency=currency,
            allowed_regions=allowed_regions,
            requests_per_minute=requests_per_minute,
        )
    )
