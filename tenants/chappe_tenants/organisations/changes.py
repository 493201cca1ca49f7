"""Changes of what is known of an organisation: by its own people, by its reseller, and by the operator.

Each locks the row, lets `check` compare it with what the caller has seen (`If-Match`), and answers with it as it is
afterwards.
"""

from collections.abc import Callable
from typing import Any

from msgspec import UNSET
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_kernel.ids import TenantId
from chappe_store.session import TenantScope
from chappe_tenants.organisations import service
from chappe_tenants.organisations.details import check_own_change, clean_details
from chappe_tenants.organisations.models import Tenant
from chappe_tenants.organisations.schemas import ChangeOrganisation, ChangeTenant, parent_of, read_parent
from chappe_tenants.organisations.service import Contract, get_organisation, lock_organisation, regions_within

Check = Callable[[Tenant], None]


def unseen(_: Tenant) -> None:
    """Whatever it is by now."""


async def change_own(
    session: AsyncSession,
    scope: TenantScope,
    change: ChangeOrganisation,
    *,
    jurisdiction_of: dict[str, str],
    check: Check = unseen,
) -> Tenant:
    """Its own people narrow and reorder its regions, and do not widen them. Raises `Invalid`, and `Conflict` for what
    the operator has verified."""
    tenant = await lock_organisation(session, scope)
    check(tenant)
    return await _change_details(session, tenant, change, tenant.allowed_regions, jurisdiction_of)


async def change_customer(
    session: AsyncSession,
    reseller: TenantScope,
    customer_id: TenantId,
    change: ChangeOrganisation,
    *,
    jurisdiction_of: dict[str, str],
    check: Check = unseen,
) -> Tenant:
    """As the reseller, within the reseller's regions. Raises `NotFound` for who is no customer of its own, and as
    `change_own` does."""
    customer = await service.get_customer(session, reseller, customer_id, lock=True)
    check(customer)
    within = (await get_organisation(session, reseller)).allowed_regions
    return await _change_details(session, customer, change, within, jurisdiction_of)


async def change_tenant(
    session: AsyncSession,
    scope: TenantScope,
    change: ChangeTenant,
    *,
    jurisdiction_of: dict[str, str],
    check: Check = unseen,
) -> Tenant:
    """As the operator. Raises `NotFound`, `Invalid`, and `Conflict` for a parent that cannot be one."""
    tenant = await lock_organisation(session, scope)
    check(tenant)
    values = clean_details(change, country=tenant.country) | _answers_kept(change)
    values |= _regions(change, tuple(jurisdiction_of), jurisdiction_of)
    tenant = await service.change_organisation(session, tenant, values)
    contract = Contract(
        plan=_or_else(change.plan, tenant.plan),
        contract_reference=_or_else(change.contract_reference, tenant.contract_reference),
        is_reseller=_or_else(change.is_reseller, tenant.is_reseller),
        parent=read_parent(_or_else(change.parent, parent_of(tenant))),
        verified=_or_else(change.verified, tenant.verified),
        share=_or_else(change.share, tenant.share),
    )
    return await service.change_contract(session, tenant, contract)


async def _change_details(
    session: AsyncSession,
    tenant: Tenant,
    change: ChangeOrganisation,
    within: list[str],
    jurisdiction_of: dict[str, str],
) -> Tenant:
    values = clean_details(change, country=tenant.country)
    check_own_change(tenant, values)
    values |= _answers_kept(change)
    values |= _regions(change, within, jurisdiction_of)
    return await service.change_organisation(session, tenant, values)


def _regions(change: ChangeOrganisation, within: Any, jurisdiction_of: dict[str, str]) -> dict[str, Any]:
    if change.allowed_regions is UNSET:
        return {}
    return {"allowed_regions": regions_within(change.allowed_regions, within, jurisdiction_of)}


def _or_else(asked: Any, present: Any) -> Any:
    return present if asked is UNSET else asked


def _answers_kept(change: ChangeOrganisation) -> dict[str, Any]:
    return {} if change.answers_kept_for_s is UNSET else {"answers_kept_for_s": change.answers_kept_for_s}
