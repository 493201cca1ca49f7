"""Projects of the calling tenant."""

from functools import partial
from http import HTTPStatus

from litestar import get, post
from litestar.params import JSONBody
from msgspec import Struct
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_catalogue.regions.queries import read_jurisdictions
from chappe_control.authentication import TenantRequest
from chappe_control.cursors import cut_page, decode_cursor
from chappe_control.idempotency import service as idempotency
from chappe_control.origins import origin_of
from chappe_control.permissions import Permission
from chappe_control.public import answers
from chappe_control.public.parameters import DEFAULT_LIMIT, Cursor, IdempotencyKey, Limit
from chappe_control.state import Given
from chappe_store.session import TenantScope
from chappe_tenants.projects import queries, service
from chappe_tenants.projects.schemas import CreateProject, ProjectView, show_project


class ProjectList(Struct, frozen=True):
    items: list[ProjectView]
    next_cursor: str | None


@get(
    "/projects",
    tags=["Projects"],
    summary="List projects",
    operation_id="list_projects",
    responses=answers.LIST,
    permission=Permission.READ_PROJECTS,
)
async def list_projects(
    request: TenantRequest, services: Given, limit: Limit = DEFAULT_LIMIT, cursor: Cursor = None
) -> ProjectList:
    """The organisation's projects, newest first."""
    scope = request.auth.scope
    async with services.database.tenant(scope) as session:
        rows = await queries.list_projects(session, scope, limit=limit + 1, before=decode_cursor(cursor))
    page, next_cursor = cut_page(rows, limit, lambda project: project.id)
    return ProjectList(items=[show_project(project) for project in page], next_cursor=next_cursor)


@post(
    "/projects",
    permission=Permission.MANAGE_PROJECTS,
    tags=["Projects"],
    summary="Create a project",
    operation_id="create_project",
    responses=answers.CREATE,
    status_code=HTTPStatus.CREATED,
)
async def create_project(
    request: TenantRequest, services: Given, data: JSONBody[CreateProject], idempotency_key: IdempotencyKey = None
) -> ProjectView:
    """A new project. Its regions, if given, narrow those of the organisation. A repeat with the same
    `Idempotency-Key` and body gets the same answer."""
    scope = request.auth.scope
    call = await idempotency.call_of(request)
    async with services.database.tenant(scope, origin_of(request)) as session:
        return await idempotency.once(session, scope, call, ProjectView, partial(_create, session, scope, data))


async def _create(session: AsyncSession, scope: TenantScope, data: CreateProject) -> ProjectView:
    project = await service.create_project(
        session,
        scope,
        name=data.name,
        regions=data.regions,
        jurisdiction_of=await read_jurisdictions(session),
    )
    return show_project(project)
