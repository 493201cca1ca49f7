"""Projects of the calling tenant."""

from functools import partial
from http import HTTPStatus

from litestar import Response, get, patch, post
from litestar.params import JSONBody
from msgspec import Struct
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_catalogue.regions.queries import read_jurisdictions
from chappe_control.authentication import TenantRequest
from chappe_control.cursors import cut_page, decode_cursor
from chappe_control.etags import ETAG_HEADER, IfMatch, check_match, with_etag
from chappe_control.idempotency import service as idempotency
from chappe_control.origins import origin_of
from chappe_control.permissions import Permission
from chappe_control.public import answers
from chappe_control.public.parameters import DEFAULT_LIMIT, Cursor, IdempotencyKey, Limit
from chappe_control.public.references import ProjectPath, id_in_path
from chappe_control.state import Given
from chappe_kernel.ids import PROJECT, ProjectId
from chappe_store.session import TenantScope
from chappe_tenants.projects import queries, service
from chappe_tenants.projects.schemas import ChangeProject, CreateProject, ProjectView, show_project
from chappe_tenants.projects.service import ProjectChange


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


@get(
    "/projects/{project_id:str}",
    permission=Permission.READ_PROJECTS,
    tags=["Projects"],
    summary="Read a project",
    operation_id="get_project",
    responses=answers.READ_ONE,
    response_headers=[ETAG_HEADER],
)
async def get_project(request: TenantRequest, services: Given, project_id: ProjectPath) -> Response[ProjectView]:
    """One project."""
    scope = request.auth.scope
    async with services.database.tenant(scope) as session:
        project = await service.get_project(session, scope, _project_id(project_id))
    return with_etag(show_project(project))


@patch(
    "/projects/{project_id:str}",
    permission=Permission.MANAGE_PROJECTS,
    tags=["Projects"],
    summary="Change a project",
    operation_id="change_project",
    responses=answers.CHANGE,
    response_headers=[ETAG_HEADER],
)
async def change_project(
    request: TenantRequest,
    services: Given,
    project_id: ProjectPath,
    data: JSONBody[ChangeProject],
    if_match: IfMatch = None,
) -> Response[ProjectView]:
    """Its name, its regions, whether it is archived; in force for its keys at every gateway within a second. An
    organisation keeps one project that is not archived."""
    scope = request.auth.scope
    async with services.database.tenant(scope, origin_of(request)) as session:
        project = await service.lock_project(session, scope, _project_id(project_id))
        check_match(request, show_project(project))
        changed = await service.change_project(
            session,
            scope,
            project,
            ProjectChange(name=data.name, regions=data.regions, archived=data.archived),
            jurisdiction_of=await read_jurisdictions(session),
        )
    return with_etag(show_project(changed))


def _project_id(text: str) -> ProjectId:
    return ProjectId(id_in_path(PROJECT, text, "project"))


async def _create(session: AsyncSession, scope: TenantScope, data: CreateProject) -> ProjectView:
    project = await service.create_project(
        session,
        scope,
        name=data.name,
        regions=data.regions,
        jurisdiction_of=await read_jurisdictions(session),
    )
    return show_project(project)
