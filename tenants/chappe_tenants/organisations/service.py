"""What happens to tenants."""

from collections.abc import Sequence
from enum import StrEnum

from sqlalchemy.ext.asyncio import AsyncSession

from chappe_kernel.errors import Invalid, NotFound
from chappe_kernel.ids import TenantId, new_id
from chappe_store.session import TenantScope
from chappe_tenants.naming import clean_name
from chappe_tenants.organisations import queries
from chappe_tenants.organisations.models import Tenant

MAX_REGIONS = 64


class TenantState(StrEnum):
    """Only an active tenant's keys open anything."""

    ACTIVE = "active"
    SUSPENDED = "suspended"
    CLOSED = "closed"


async def create_organisation(
    session: AsyncSession,
    *,
    name: str,
    currency: str,
    allowed_regions: Sequence[str],
    requests_per_minute: int,
    reference: str | None = None,
    parent_id: TenantId | None = None,
) -> TenantScope:
    """A new active tenant, by the operator. A `reference` that exists already violates a constraint: look first."""
    if requests_per_minute < 1:
        raise Invalid("requests_per_minute must be at least 1", param="requests_per_minute")
    tenant_id = TenantId(new_id())
    await queries.insert_tenant(
        session,
        tenant_id=tenant_id,
        parent_id=parent_id,
        reference=None if reference is None else clean_name(reference, param="reference"),
        name=clean_name(name, param="name"),
        currency=currency,
        allowed_regions=clean_regions(allowed_regions, param="allowed_regions"),
        requests_per_minute=requests_per_minute,
    )
    return TenantScope(tenant_id)


async def get_organisation(session: AsyncSession, scope: TenantScope) -> Tenant:
    """Raises `NotFound` when the tenant is gone, or not the session's."""
    tenant = await queries.read_tenant(session, scope)
    if tenant is None:
        raise NotFound("no such organisation")
    return tenant


def clean_regions(names: Sequence[str], *, param: str) -> list[str]:
    """Names of regions or jurisdictions in order of preference, each once. Raises `Invalid` naming `param`."""
    if len(names) > MAX_REGIONS:
        raise Invalid(f"{param} has more than {MAX_REGIONS} entries", param=param)
    return list(dict.fromkeys(clean_name(name, param=param) for name in names))
