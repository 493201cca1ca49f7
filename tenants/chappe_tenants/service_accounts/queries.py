"""SQL for service accounts."""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_kernel.ids import ProjectId, ServiceAccountId
from chappe_store.session import TenantScope
from chappe_tenants.service_accounts.models import ServiceAccount


async def read_service_account(
    session: AsyncSession, scope: TenantScope, account_id: ServiceAccountId, *, lock: bool = False
) -> ServiceAccount | None:
    """One that is not removed. With `lock` nobody else changes it until the transaction ends."""
    query = (
        select(ServiceAccount)
        .where(
            ServiceAccount.tenant_id == scope.tenant_id,
            ServiceAccount.id == account_id,
            ServiceAccount.removed_at.is_(None),
        )
        .execution_options(populate_existing=True)
    )
    found: ServiceAccount | None = await session.scalar(query.with_for_update(key_share=True) if lock else query)
    return found


async def list_service_accounts(
    session: AsyncSession, scope: TenantScope, *, limit: int, before: UUID | None, project_id: ProjectId | None = None
) -> Sequence[ServiceAccount]:
    """Newest first, of one project or of all, without those that are removed."""
    query = (
        select(ServiceAccount)
        .where(ServiceAccount.tenant_id == scope.tenant_id, ServiceAccount.removed_at.is_(None))
        .order_by(ServiceAccount.id.desc())
        .limit(limit)
    )
    if before is not None:
        query = query.where(ServiceAccount.id < before)
    if project_id is not None:
        query = query.where(ServiceAccount.project_id == project_id)
    return (await session.scalars(query)).all()


async def count_service_accounts(session: AsyncSession, scope: TenantScope) -> int:
    query = select(func.count()).where(ServiceAccount.tenant_id == scope.tenant_id, ServiceAccount.removed_at.is_(None))
    return await session.scalar(query) or 0


async def insert_service_account(
    session: AsyncSession,
    scope: TenantScope,
    *,
    account_id: ServiceAccountId,
    project_id: ProjectId,
    name: str,
    scopes: list[str],
) -> bool:
    """False, and nothing inserted, if the project has one of this name."""
    inserted = await session.scalar(
        insert(ServiceAccount)
        .values(tenant_id=scope.tenant_id, id=account_id, project_id=project_id, name=name, scopes=scopes)
        .on_conflict_do_nothing(
            index_elements=["tenant_id", "project_id", "name"], index_where=ServiceAccount.removed_at.is_(None)
        )
        .returning(ServiceAccount.id)
    )
    return inserted is not None


async def update_service_account(
    session: AsyncSession, scope: TenantScope, account_id: ServiceAccountId, values: Mapping[str, Any]
) -> bool:
    """Columns by name: what the tenant's role may change. False, and nothing changed, if the name is taken."""
    statement = (
        update(ServiceAccount)
        .where(ServiceAccount.tenant_id == scope.tenant_id, ServiceAccount.id == account_id)
        .values(**values)
    )
    try:
        async with session.begin_nested():
            await session.execute(statement)
    except IntegrityError:
        return False
    return True
