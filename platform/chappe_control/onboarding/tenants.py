"""Organisations that somebody else begins: the operator a tenant, a reseller a customer.

Both in the operator's role: only that may write a row which is nobody's yet.
"""

from typing import Any

from msgspec import Struct
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_billing.budgets.queries import read_credit_limits
from chappe_catalogue.regions.queries import read_jurisdictions
from chappe_control.onboarding.service import Terms, open_organisation
from chappe_kernel.errors import Denied
from chappe_kernel.ids import LegalEntityId
from chappe_store.session import TenantScope
from chappe_tenants.organisations.details import Details, clean_details
from chappe_tenants.organisations.lifecycle import TenantState
from chappe_tenants.organisations.models import Tenant
from chappe_tenants.organisations.relations import Relation
from chappe_tenants.organisations.schemas import (
    CreateCustomer,
    CreateTenant,
    TenantView,
    read_parent,
    read_seller,
    show_tenant,
)
from chappe_tenants.organisations.service import Contract, Parent, Seller, get_organisation, regions_within


class Defaults(Struct, frozen=True):
    """What nobody is asked about a new organisation."""

    requests_per_minute: int


async def create_tenant(session: AsyncSession, asked: CreateTenant, defaults: Defaults) -> Tenant:
    """A tenant as the operator wants it, without a gift. Raises `Invalid`, and `Conflict` for a reference that is
    taken, a parent that cannot be one, and a verified organisation without its details."""
    jurisdiction_of = await read_jurisdictions(session)
    everywhere = tuple(jurisdiction_of)
    regions = everywhere if asked.allowed_regions is None else asked.allowed_regions
    opened = await open_organisation(
        session,
        name=asked.name,
        reference=asked.reference,
        terms=Terms(
            read_seller(asked),
            defaults.requests_per_minute,
            welcome_credit_nano=0,
            allowed_regions=regions_within(regions, everywhere, jurisdiction_of),
            state=TenantState(asked.state),
        ),
        contract=Contract(
            plan=asked.plan,
            contract_reference=asked.contract_reference,
            is_reseller=asked.is_reseller,
            parent=read_parent(asked.parent),
            # Whom the operator makes active at once, it knows.
            verified=asked.state != "applied",
        ),
        details=_details(asked),
    )
    return await get_organisation(session, opened.scope)


async def create_customer(
    session: AsyncSession, reseller: TenantScope, asked: CreateCustomer, defaults: Defaults
) -> Tenant:
    """A customer that applies, of who sells to the reseller too, and within its regions. Raises `Denied` for who is no
    reseller, and `Invalid`."""
    parent = await get_organisation(session, reseller)
    check_reseller(parent)
    jurisdiction_of = await read_jurisdictions(session)
    regions = parent.allowed_regions if asked.allowed_regions is None else asked.allowed_regions
    opened = await open_organisation(
        session,
        name=asked.name,
        terms=Terms(
            Seller(LegalEntityId(parent.legal_entity_id)),
            defaults.requests_per_minute,
            welcome_credit_nano=0,
            allowed_regions=regions_within(regions, parent.allowed_regions, jurisdiction_of),
            state=TenantState.APPLIED,
        ),
        contract=Contract(parent=Parent(reseller.tenant_id, Relation.CUSTOMER)),
        details=_details(asked),
    )
    return await get_organisation(session, opened.scope)


def check_reseller(tenant: Tenant) -> None:
    """Raises `Denied`."""
    if not tenant.is_reseller:
        raise Denied("your organisation is no reseller", code="no_reseller")


async def view_tenant(session: AsyncSession, tenant: Tenant) -> TenantView:
    """As the operator."""
    limits = await read_credit_limits(session, [tenant.id])
    return show_tenant(tenant, limits.get(tenant.id, 0))


def _details(asked: CreateCustomer) -> dict[str, Any]:
    """What was said; a name is no detail."""
    said = Details(
        legal_name=asked.legal_name, address=asked.address, vat_number=asked.vat_number, contact=asked.contact
    )
    return clean_details(said, country=None)
