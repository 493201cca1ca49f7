"""SQL for projects."""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_kernel.ids import ProjectId
from chappe_store.session import TenantScope
from chappe_tenants.projects.models import Project


async def read_project(session: AsyncSession, scope: TenantScope, project_id: ProjectId) -> Project | None:
    """As it is now, whatever this session read of it before."""
    return await session.get(Project, (scope.tenant_id, project_id), populate_existing=True)


async def lock_projects(session: AsyncSession, scope: TenantScope) -> None:
    """Nobody else changes one of the tenant's projects until the transaction ends; keys can be made in them meanwhile.

    All of them, in one order: so two who archive the last two take turns, and the second finds one left.
    """
    await session.execute(
        select(Project.id)
        .where(Project.tenant_id == scope.tenant_id)
        .order_by(Project.id)
        .with_for_update(key_share=True)
    )


async def oldest_project(session: AsyncSession, scope: TenantScope) -> Project | None:
    """The one that the tenant began with, of those that are not archived."""
    query = (
        select(Project)
        .where(Project.tenant_id == scope.tenant_id, Project.archived_at.is_(None))
        .order_by(Project.id)
        .limit(1)
    )
    found: Project | None = await session.scalar(query)
    return found


async def find_by_name(session: AsyncSession, scope: TenantScope, name: str) -> ProjectId | None:
    found = await session.scalar(select(Project.id).where(Project.tenant_id == scope.tenant_id, Project.name == name))
    return None if found is None else ProjectId(found)


async def count_projects(session: AsyncSession, scope: TenantScope) -> int:
    return await session.scalar(select(func.count()).where(Project.tenant_id == scope.tenant_id)) or 0


async def count_open_projects(session: AsyncSession, scope: TenantScope) -> int:
    """Those that are not archived."""
    query = select(func.count()).where(Project.tenant_id == scope.tenant_id, Project.archived_at.is_(None))
    return await session.scalar(query) or 0


async def list_projects(
    session: AsyncSession, scope: TenantScope, *, limit: int, before: UUID | None
) -> Sequence[Project]:
    """Newest first."""
    query = select(Project).where(Project.tenant_id == scope.tenant_id).order_by(Project.id.desc()).limit(limit)
    if before is not None:
        query = query.where(Project.id < before)
    return (await session.scalars(query)).all()


async def insert_project(
    session: AsyncSession, scope: TenantScope, *, project_id: ProjectId, name: str, allowed_regions: list[str] | None
) -> bool:
    """False, and nothing inserted, if the tenant has a project of this name."""
    inserted = await session.scalar(
        insert(Project)
        .values(tenant_id=scope.tenant_id, id=project_id, name=name, allowed_regions=allowed_regions)
        .on_conflict_do_nothing(index_elements=["tenant_id", "name"])
        .returning(Project.id)
    )
    return inserted is not None


async def update_project(
    session: AsyncSession, scope: TenantScope, project_id: ProjectId, values: Mapping[str, Any]
) -> bool:
    """Columns by name: what the tenant's role may change. False, and nothing changed, if the name is taken."""
    statement = update(Project).where(Project.tenant_id == scope.tenant_id, Project.id == project_id).values(**values)
    try:
        async with session.begin_nested():
            await session.execute(statement)
    except IntegrityError:
        return False
    return True
