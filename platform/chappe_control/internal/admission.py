"""May this tenant spend money in this region at all? Asked before a grant, so that not even a stolen gateway can lease
the budget of a tenant who does not allow its region."""

from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from chappe_catalogue.regions import queries as regions
from chappe_kernel.errors import Denied
from chappe_kernel.ids import TenantId
from chappe_kernel.residency import expand
from chappe_store.session import TenantScope
from chappe_tenants.organisations.lifecycle import effect_of
from chappe_tenants.organisations.models import Tenant
from chappe_tenants.organisations.service import get_organisation


async def check_tenant_may_run(session: AsyncSession, tenant_id: UUID, region: str) -> Tenant:
    """The tenant, if it may. Raises `NotFound` for no tenant, `Denied` for one that is not active or does not allow the
    region."""
    tenant = await get_organisation(session, TenantScope(TenantId(tenant_id)))
    if not effect_of(tenant.state).inference:
        raise Denied("this organisation is not active", code="tenant_not_active")
    if region not in expand(tenant.allowed_regions, await regions.read_jurisdictions(session)):
        raise Denied(f"this organisation does not allow {region}", code="residency_denied")
    return tenant
