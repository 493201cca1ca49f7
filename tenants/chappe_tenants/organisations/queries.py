"""SQL for tenants."""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from msgspec import Struct
from sqlalchemy import ColumnElement, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_kernel.errors import Invalid
from chappe_kernel.ids import TENANT, TenantId, decode_id
from chappe_store.session import TenantScope
from chappe_tenants.api_keys.models import ApiKey
from chappe_tenants.organisations.lifecycle import TenantState
from chappe_tenants.organisations.models import Tenant
from chappe_tenants.organisations.relations import Relation
from chappe_tenants.projects.models import Project

MAX_SEARCH_LENGTH = 100


class Filter(Struct, frozen=True):
    """Which tenants to list. `search` is part of a name, or a whole id, reference or VAT number."""

    search: str = ""
    state: TenantState | None = None
    parent_id: UUID | None = None


async def read_tenant(session: AsyncSession, scope: TenantScope) -> Tenant | None:
    return await session.get(Tenant, scope.tenant_id)


async def lock_tenant(session: AsyncSession, scope: TenantScope) -> Tenant | None:
    """As it is now, and as it stays until the transaction ends. Who inserts a row that refers to it waits too."""
    query = select(Tenant).where(Tenant.id == scope.tenant_id).with_for_update()
    found: Tenant | None = await session.scalar(query.execution_options(populate_existing=True))
    return found


async def find_by_reference(session: AsyncSession, reference: str) -> TenantId | None:
    """Across tenants: for the operator's role."""
    found = await session.scalar(select(Tenant.id).where(Tenant.reference == reference))
    return None if found is None else TenantId(found)


async def list_tenants(
    session: AsyncSession, wanted: Filter, *, limit: int, before: UUID | None = None
) -> Sequence[Tenant]:
    """Across tenants, newest first: for the operator's role."""
    query = select(Tenant).where(*_conditions(wanted)).order_by(Tenant.id.desc()).limit(limit)
    if before is not None:
        query = query.where(Tenant.id < before)
    return (await session.scalars(query)).all()


async def count_by_state(session: AsyncSession) -> dict[str, int]:
    """Across tenants; a state that nobody is in is missing."""
    query = select(Tenant.state, func.count().label("tenants")).group_by(Tenant.state)
    return {row.state: row.tenants for row in await session.execute(query)}


async def list_customers(
    session: AsyncSession, reseller: TenantScope, *, limit: int, before: UUID | None = None
) -> Sequence[Tenant]:
    """The reseller's own, newest first."""
    query = select(Tenant).where(*_is_customer_of(reseller)).order_by(Tenant.id.desc()).limit(limit)
    if before is not None:
        query = query.where(Tenant.id < before)
    return (await session.scalars(query)).all()


async def read_customer(
    session: AsyncSession, reseller: TenantScope, customer_id: TenantId, *, lock: bool = False
) -> Tenant | None:
    query = select(Tenant).where(Tenant.id == customer_id, *_is_customer_of(reseller))
    if lock:
        query = query.with_for_update().execution_options(populate_existing=True)
    found: Tenant | None = await session.scalar(query)
    return found


async def insert_tenant(session: AsyncSession, tenant_id: TenantId, values: Mapping[str, Any]) -> bool:
    """False, and nothing inserted, if another tenant has the reference."""
    inserted = await session.scalar(
        insert(Tenant)
        .values(id=tenant_id, **values)
        .on_conflict_do_nothing(index_elements=["reference"])
        .returning(Tenant.id)
    )
    return inserted is not None


async def update_tenant(session: AsyncSession, tenant_id: TenantId, values: Mapping[str, Any]) -> Tenant:
    """As it is afterwards. Row-level security decides whose rows there are to a tenant's role: its own, and its
    customers'."""
    statement = update(Tenant).where(Tenant.id == tenant_id).values(**values).returning(Tenant)
    return (await session.scalars(statement, execution_options={"populate_existing": True})).one()


async def is_ancestor(session: AsyncSession, tenant_id: TenantId, of: TenantId) -> bool:
    """Whether `tenant_id` is `of` itself, its parent, or a parent's parent."""
    line = select(Tenant.id, Tenant.parent_id).where(Tenant.id == of).cte("line", recursive=True)
    line = line.union(select(Tenant.id, Tenant.parent_id).where(Tenant.id == line.c.parent_id))
    return await session.scalar(select(line.c.id).where(line.c.id == tenant_id)) is not None


async def has_customers(session: AsyncSession, tenant_id: TenantId) -> bool:
    query = select(Tenant.id).where(Tenant.parent_id == tenant_id, Tenant.relation == Relation.CUSTOMER).limit(1)
    return await session.scalar(query) is not None


async def lock_projects(session: AsyncSession, scope: TenantScope) -> None:
    """Until the transaction ends nobody makes a key in one of them: its row would refer to a locked one."""
    query = select(Project.id).where(Project.tenant_id == scope.tenant_id).order_by(Project.id).with_for_update()
    await session.execute(query)


async def revoke_all_keys(session: AsyncSession, scope: TenantScope) -> None:
    """In the order in which ingestion touches keys, so that neither waits for the other in a circle."""
    active = (
        select(ApiKey.id)
        .where(ApiKey.tenant_id == scope.tenant_id, ApiKey.revoked_at.is_(None))
        .order_by(ApiKey.id)
        .with_for_update()
        .cte("active")
    )
    await session.execute(
        update(ApiKey)
        .where(ApiKey.tenant_id == scope.tenant_id, ApiKey.id == active.c.id)
        .values(revoked_at=func.now())
        .execution_options(synchronize_session=False)
    )


def _conditions(wanted: Filter) -> list[ColumnElement[bool]]:
    found: list[ColumnElement[bool]] = []
    if wanted.search:
        found.append(matches(wanted.search))
    if wanted.state is not None:
        found.append(Tenant.state == wanted.state)
    if wanted.parent_id is not None:
        found.append(Tenant.parent_id == wanted.parent_id)
    return found


def matches(search: str) -> ColumnElement[bool]:
    """A name contains the text, whatever its case; or it is the whole id, reference or VAT number. No pattern: nothing
    in it is special, and no text makes it slow."""
    text = func.lower(search)
    found = func.strpos(func.lower(Tenant.name), text) > 0
    found |= func.strpos(func.lower(func.coalesce(Tenant.legal_name, "")), text) > 0
    found |= (Tenant.reference == search) | (Tenant.vat_number == search.replace(" ", "").upper())
    try:
        return found | (Tenant.id == decode_id(TENANT, search))
    except Invalid:
        return found


def _is_customer_of(reseller: TenantScope) -> tuple[ColumnElement[bool], ...]:
    return (Tenant.parent_id == reseller.tenant_id, Tenant.relation == Relation.CUSTOMER)
