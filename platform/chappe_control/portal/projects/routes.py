"""`/projects`: the list, each project's settings, and its service accounts."""

from http import HTTPStatus
from typing import Annotated, Any, Final

from litestar import Request, Response, get, post
from litestar.datastructures import State
from litestar.params import PathParameter
from litestar.response import Redirect

from chappe_catalogue.regions.queries import read_jurisdictions
from chappe_control.etags import etag_of
from chappe_control.origins import origin_of
from chappe_control.pages.flash import flash
from chappe_control.pages.forms import WHOLE_FORM, Form, read_fields
from chappe_control.pages.languages import N_, translate
from chappe_control.pages.render import page
from chappe_control.permissions import Permission, check_permission
from chappe_control.portal.choices import read_allowed_regions, read_chosen
from chappe_control.state import Given, Services
from chappe_kernel.api_keys import KeyKind
from chappe_kernel.errors import Conflict, Invalid, NotFound
from chappe_kernel.ids import PROJECT, SERVICE_ACCOUNT, ProjectId, ServiceAccountId, decode_id, encode_id
from chappe_tenants.api_keys.queries import count_keys_by_project
from chappe_tenants.projects import service as projects
from chappe_tenants.projects.models import Project
from chappe_tenants.projects.queries import list_projects as read_projects
from chappe_tenants.projects.schemas import show_project
from chappe_tenants.projects.service import MAX_PROJECTS, ProjectChange
from chappe_tenants.service_accounts import service as service_accounts
from chappe_tenants.service_accounts.queries import list_service_accounts
from chappe_tenants.service_accounts.service import MAX_SERVICE_ACCOUNTS
from chappe_tenants.sessions.service import MemberVisitor

MemberRequest = Request[Any, MemberVisitor, State]
ProjectPath = Annotated[str, PathParameter()]

# The framework's type wants the number itself.
_SEE_OTHER: Final = 303
_SCOPES = {
    "inference": [KeyKind.INFERENCE],
    "management": [KeyKind.MANAGEMENT],
    "both": [KeyKind.INFERENCE, KeyKind.MANAGEMENT],
}
_NAME = N_("Give it a name of 1 to 100 characters, without control characters.")
_TAKEN = N_("There is one of this name already.")
_REGIONS = N_("Choose regions that your organisation allows.")
_TOO_MANY = N_("Your organisation has as many of these as it may have.")
_CHANGED_MEANWHILE = N_("Somebody has changed this project meanwhile. Here is how it is now.")
_LAST = N_("Your organisation keeps one project that is not archived.")
_ARCHIVED = N_("The project is archived: restore it first.")


@get("/projects", include_in_schema=False, permission=Permission.READ_PROJECTS)
async def list_projects(request: MemberRequest, services: Given) -> Response[bytes]:
    return await _list(request, services)


@post("/projects", include_in_schema=False, permission=Permission.MANAGE_PROJECTS)
async def create_project(request: MemberRequest, services: Given) -> Response[Any]:
    """A form that is sent twice makes one project: the second finds the name taken."""
    scope = request.auth.scope
    fields, regions = await read_fields(request, "name"), await read_chosen(request, "regions")
    try:
        async with services.database.tenant(scope, origin_of(request)) as session:
            made = await projects.create_project(
                session,
                scope,
                name=fields["name"],
                regions=regions or None,
                jurisdiction_of=await read_jurisdictions(session),
            )
    except (Invalid, Conflict) as error:
        form = Form(fields, _problems(request, error))
        return await _list(request, services, form=form, chosen=regions, status=_status(error))
    return _to(ProjectId(made.id), translate(request, N_("The project “%(name)s” is there."), name=made.name))


@get("/projects/{project_id:str}", include_in_schema=False, permission=Permission.READ_PROJECTS)
async def show_project_page(request: MemberRequest, services: Given, project_id: ProjectPath) -> Response[bytes]:
    return await _show(request, services, _project_id(project_id))


@post("/projects/{project_id:str}", include_in_schema=False, permission=Permission.MANAGE_PROJECTS)
async def change_project(request: MemberRequest, services: Given, project_id: ProjectPath) -> Response[Any]:
    """Who sends the form changes what they saw: with another tag nothing is changed."""
    scope, wanted = request.auth.scope, _project_id(project_id)
    fields, regions = await read_fields(request, "name", "seen"), await read_chosen(request, "regions")
    try:
        async with services.database.tenant(scope, origin_of(request)) as session:
            project = await projects.lock_project(session, scope, wanted)
            if _tag(project) != fields["seen"]:
                return _to(wanted, translate(request, _CHANGED_MEANWHILE), "yellow")
            # What is as it was is not asked for again: the organisation may allow less by now.
            same = list(regions) == (project.allowed_regions or [])
            change = ProjectChange(name=fields["name"]) if same else ProjectChange(fields["name"], regions or None)
            jurisdiction_of = await read_jurisdictions(session)
            await projects.change_project(session, scope, project, change, jurisdiction_of=jurisdiction_of)
    except (Invalid, Conflict) as error:
        form = Form(fields, _problems(request, error))
        return await _show(request, services, wanted, form=form, chosen=regions, status=_status(error))
    return _to(wanted, translate(request, N_("The project is changed.")))


@post("/projects/{project_id:str}/archive", include_in_schema=False, permission=Permission.MANAGE_PROJECTS)
async def archive_project(request: MemberRequest, services: Given, project_id: ProjectPath) -> Response[Any]:
    """Safe to repeat."""
    try:
        await _set_archived(request, services, _project_id(project_id), archived=True)
    except Conflict:
        return _to(_project_id(project_id), translate(request, _LAST), "yellow")
    return _to(_project_id(project_id), translate(request, N_("The project is archived.")))


@post("/projects/{project_id:str}/restore", include_in_schema=False, permission=Permission.MANAGE_PROJECTS)
async def restore_project(request: MemberRequest, services: Given, project_id: ProjectPath) -> Response[Any]:
    """Safe to repeat."""
    await _set_archived(request, services, _project_id(project_id), archived=False)
    return _to(_project_id(project_id), translate(request, N_("The project is restored.")))


@post("/projects/{project_id:str}/service-accounts", include_in_schema=False, permission=Permission.MANAGE_KEYS)
async def create_service_account(request: MemberRequest, services: Given, project_id: ProjectPath) -> Response[Any]:
    """A form that is sent twice makes one: the second finds the name taken."""
    scope, wanted = request.auth.scope, _project_id(project_id)
    fields = await read_fields(request, "account_name", "scopes")
    scopes = _SCOPES.get(fields["scopes"], _SCOPES["inference"])
    if KeyKind.MANAGEMENT in scopes:
        check_permission(request.auth, Permission.MANAGE_MANAGEMENT_KEYS)
    try:
        async with services.database.tenant(scope, origin_of(request)) as session:
            made = await service_accounts.create_service_account(
                session, scope, wanted, name=fields["account_name"], scopes=scopes
            )
    except (Invalid, Conflict) as error:
        problems = _problems(request, error)
        form = Form(fields, {"account_name" if name == "name" else name: text for name, text in problems.items()})
        return await _show(request, services, wanted, account_form=form, status=_status(error))
    text = N_("The service account “%(name)s” is there. Make its first key on the page of API keys.")
    return _to(wanted, translate(request, text, name=made.name))


@post(
    "/projects/{project_id:str}/service-accounts/{service_account_id:str}/remove",
    include_in_schema=False,
    permission=Permission.MANAGE_KEYS,
)
async def remove_service_account(
    request: MemberRequest,
    services: Given,
    project_id: ProjectPath,
    service_account_id: Annotated[str, PathParameter()],
) -> Response[Any]:
    scope = request.auth.scope
    try:
        account_id = ServiceAccountId(decode_id(SERVICE_ACCOUNT, service_account_id))
    except Invalid:
        raise NotFound("no such service account") from None
    async with services.database.tenant(scope, origin_of(request)) as session:
        await service_accounts.remove_service_account(session, scope, account_id)
    text = translate(request, N_("The service account is removed, and its keys are revoked."))
    return _to(_project_id(project_id), text)


async def _list(
    request: MemberRequest,
    services: Services,
    *,
    form: Form | None = None,
    chosen: tuple[str, ...] = (),
    status: HTTPStatus = HTTPStatus.OK,
) -> Response[bytes]:
    scope = request.auth.scope
    async with services.database.tenant(scope) as session:
        found = await read_projects(session, scope, limit=MAX_PROJECTS, before=None)
        key_counts = await count_keys_by_project(session, scope)
        regions = await read_allowed_regions(session, scope)
    return page(
        request,
        "portal/projects.html",
        status=status,
        projects=sorted(found, key=lambda project: (project.archived_at is not None, project.name.casefold())),
        key_counts=key_counts,
        form=form or Form(),
        form_is_open=form is not None or "new" in request.query_params,
        region_options=_options(regions),
        chosen_regions=chosen,
    )


async def _show(
    request: MemberRequest,
    services: Services,
    project_id: ProjectId,
    *,
    form: Form | None = None,
    chosen: tuple[str, ...] | None = None,
    account_form: Form | None = None,
    status: HTTPStatus = HTTPStatus.OK,
) -> Response[bytes]:
    scope = request.auth.scope
    async with services.database.tenant(scope) as session:
        project = await projects.get_project(session, scope, project_id)
        accounts = await list_service_accounts(
            session, scope, limit=MAX_SERVICE_ACCOUNTS, before=None, project_id=project_id
        )
        regions = await read_allowed_regions(session, scope)
    narrowed = tuple(project.allowed_regions or ())
    return page(
        request,
        "portal/project.html",
        status=status,
        project=project,
        accounts=accounts,
        form=form or Form({"name": project.name}),
        account_form=account_form or Form(),
        account_form_is_open=account_form is not None or "account" in request.query_params,
        seen=_tag(project),
        # What it is narrowed to and could not be today, a jurisdiction included, stays ticked.
        region_options=_options({name: regions.get(name, "") for name in dict.fromkeys([*regions, *narrowed])}),
        chosen_regions=narrowed if chosen is None else chosen,
    )


async def _set_archived(request: MemberRequest, services: Services, project_id: ProjectId, *, archived: bool) -> None:
    scope = request.auth.scope
    async with services.database.tenant(scope, origin_of(request)) as session:
        project = await projects.lock_project(session, scope, project_id)
        change = ProjectChange(archived=archived)
        jurisdiction_of = await read_jurisdictions(session)
        await projects.change_project(session, scope, project, change, jurisdiction_of=jurisdiction_of)


def _options(regions: dict[str, str]) -> list[tuple[str, str]]:
    return [(name, f"{name} ({law})" if law else name) for name, law in regions.items()]


def _problems(request: MemberRequest, error: Invalid | Conflict) -> dict[str, str]:
    found = {
        "name_taken": ("name", _TAKEN),
        "too_many_projects": (WHOLE_FORM, _TOO_MANY),
        "too_many_service_accounts": (WHOLE_FORM, _TOO_MANY),
        "project_archived": (WHOLE_FORM, _ARCHIVED),
    }
    by_field = ("regions", _REGIONS) if error.param == "regions" else ("name", _NAME)
    name, text = found.get(error.code, by_field)
    return {name: translate(request, text)}


def _status(error: Invalid | Conflict) -> HTTPStatus:
    return HTTPStatus.CONFLICT if isinstance(error, Conflict) else HTTPStatus.BAD_REQUEST


def _tag(project: Project) -> str:
    return etag_of(show_project(project))


def _project_id(text: str) -> ProjectId:
    try:
        return ProjectId(decode_id(PROJECT, text))
    except Invalid:
        raise NotFound("no such project") from None


def _to(project_id: ProjectId, text: str, colour: str = "green") -> Response[Any]:
    response = Redirect(f"/projects/{encode_id(PROJECT, project_id)}", status_code=_SEE_OTHER)
    flash(response, text, colour)
    return response
