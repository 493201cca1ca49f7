"""What happens to projects."""

from collections.abc import Sequence
from typing import Any

from msgspec import UNSET, Struct, UnsetType
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_kernel.errors import Conflict, Invalid, NotFound
from chappe_kernel.ids import ProjectId, new_id
from chappe_kernel.residency import expand
from chappe_store.queries import read_now
from chappe_store.session import TenantScope
from chappe_tenants.naming import clean_name
from chappe_tenants.organisations.service import clean_regions, get_organisation
from chappe_tenants.projects import queries
from chappe_tenants.projects.models import Project

MAX_PROJECTS = 200


class ProjectChange(Struct, frozen=True):
    """What to change of a project; whatever is not set stays. Regions of None narrow nothing."""

    name: str | UnsetType = UNSET
    regions: Sequence[str] | UnsetType | None = UNSET
    archived: bool | UnsetType = UNSET


async def create_project(
    session: AsyncSession,
    scope: TenantScope,
    *,
    name: str,
    regions: Sequence[str] | None,
    jurisdiction_of: dict[str, str],
) -> Project:
    """Raises `Conflict` for a name in use, `Invalid` for regions outside the tenant's own."""
    tenant = await get_organisation(session, scope)
    if await queries.count_projects(session, scope) >= MAX_PROJECTS:
        raise Conflict(f"an organisation has at most {MAX_PROJECTS} projects", code="too_many_projects")
    project_id = ProjectId(new_id())
    inserted = await queries.insert_project(
        session,
        scope,
        project_id=project_id,
        name=clean_name(name, param="name"),
        allowed_regions=narrowing(regions, tenant.allowed_regions, jurisdiction_of),
    )
    if not inserted:
        raise Conflict("there is a project of this name", code="name_taken", param="name")
    return await get_project(session, scope, project_id)


async def get_project(session: AsyncSession, scope: TenantScope, project_id: ProjectId) -> Project:
    """Raises `NotFound`, also for another tenant's."""
    project = await queries.read_project(session, scope, project_id)
    if project is None:
        raise NotFound("no such project", param="project_id")
    return project


async def get_open_project(session: AsyncSession, scope: TenantScope, project_id: ProjectId) -> Project:
    """One that takes new keys. Raises `NotFound`, and `Conflict` for an archived one."""
    project = await get_project(session, scope, project_id)
    if project.archived_at is not None:
        raise Conflict("this project is archived", code="project_archived", param="project_id")
    return project


async def lock_project(session: AsyncSession, scope: TenantScope, project_id: ProjectId) -> Project:
    """As `get_project`, and nobody else changes it until the transaction ends."""
    await queries.lock_projects(session, scope)
    return await get_project(session, scope, project_id)


async def change_project(
    session: AsyncSession,
    scope: TenantScope,
    project: Project,
    change: ProjectChange,
    *,
    jurisdiction_of: dict[str, str],
) -> Project:
    """`project` is locked. Its keys follow at once: those of an archived project open nothing until it is restored.

    Raises `Conflict` for a name in use and for archiving the last open project, `Invalid` for regions outside the
    tenant's own.
    """
    values: dict[str, Any] = {}
    if change.name is not UNSET:
        values["name"] = clean_name(change.name, param="name")
    if change.regions is not UNSET:
        tenant = await get_organisation(session, scope)
        values["allowed_regions"] = narrowing(change.regions, tenant.allowed_regions, jurisdiction_of)
    if change.archived is not UNSET and change.archived != (project.archived_at is not None):
        if change.archived and await queries.count_open_projects(session, scope) == 1:
            raise Conflict("an organisation keeps one project that is not archived", code="last_project")
        values["archived_at"] = await read_now(session) if change.archived else None
    if values and not await queries.update_project(session, scope, ProjectId(project.id), values):
        raise Conflict("there is a project of this name", code="name_taken", param="name")
    return await get_project(session, scope, ProjectId(project.id))


def narrowing(
    regions: Sequence[str] | None, within: Sequence[str], jurisdiction_of: dict[str, str]
) -> list[str] | None:
    """What to store for a level that allows `regions` only. None says nothing about residency.

    Raises `Invalid` for a name that is neither a region nor a jurisdiction, or that lies outside `within`: silently
    dropping it would leave somebody with a key for nowhere.
    """
    if regions is None:
        return None
    cleaned = clean_regions(regions, param="regions")
    if not cleaned:
        raise Invalid("regions must name at least one region, or be null", param="regions")
    allowed = set(expand(within, jurisdiction_of))
    for position, name in enumerate(cleaned):
        if not allowed.intersection(expand([name], jurisdiction_of)):
            raise Invalid(
                f"regions[{position}] is not among the allowed regions", code="region_not_allowed", param="regions"
            )
    return cleaned
