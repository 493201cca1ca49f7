"""Service accounts of the calling tenant."""

from functools import partial
from http import HTTPStatus

from litestar import Response, delete, get, patch, post
from litestar.params import JSONBody
from msgspec import UNSET, Struct
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_control.authentication import TenantCaller, TenantRequest
from chappe_control.cursors import cut_page, decode_cursor
from chappe_control.etags import ETAG_HEADER, IfMatch, check_match, with_etag
from chappe_control.idempotency import service as idempotency
from chappe_control.origins import origin_of
from chappe_control.permissions import Permission, check_permission
from chappe_control.public import answers
from chappe_control.public.keys import ProjectFilter
from chappe_control.public.parameters import DEFAULT_LIMIT, Cursor, IdempotencyKey, Limit
from chappe_control.public.references import ServiceAccountPath, id_in_body, id_in_path
from chappe_control.state import Given
from chappe_kernel.api_keys import KeyKind
from chappe_kernel.ids import PROJECT, SERVICE_ACCOUNT, ProjectId, ServiceAccountId
from chappe_store.session import TenantScope
from chappe_tenants.service_accounts import queries, service
from chappe_tenants.service_accounts.schemas import (
    ChangeServiceAccount,
    CreateServiceAccount,
    ServiceAccountView,
    show_service_account,
)
from chappe_tenants.service_accounts.service import ServiceAccountChange


class ServiceAccountList(Struct, frozen=True):
    items: list[ServiceAccountView]
    next_cursor: str | None


@get(
    "/service-accounts",
    permission=Permission.READ_KEYS,
    tags=["Service accounts"],
    summary="List service accounts",
    operation_id="list_service_accounts",
    responses=answers.LIST,
)
async def list_service_accounts(
    request: TenantRequest,
    services: Given,
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
    project_id: ProjectFilter = None,
) -> ServiceAccountList:
    """The organisation's service accounts, newest first."""
    scope = request.auth.scope
    project = None if project_id is None else ProjectId(id_in_body(PROJECT, project_id, "project_id"))
    async with services.database.tenant(scope) as session:
        rows = await queries.list_service_accounts(
            session, scope, limit=limit + 1, before=decode_cursor(cursor), project_id=project
        )
    page, next_cursor = cut_page(rows, limit, lambda account: account.id)
    return ServiceAccountList(items=[show_service_account(account) for account in page], next_cursor=next_cursor)


@post(
    "/service-accounts",
    permission=Permission.MANAGE_KEYS,
    tags=["Service accounts"],
    summary="Create a service account",
    operation_id="create_service_account",
    responses=answers.CREATE,
    status_code=HTTPStatus.CREATED,
)
async def create_service_account(
    request: TenantRequest,
    services: Given,
    data: JSONBody[CreateServiceAccount],
    idempotency_key: IdempotencyKey = None,
) -> ServiceAccountView:
    """A program of a project, whose keys belong to no person: they stay when people leave. Name it as
    `service_account_id` of a new key. A repeat with the same `Idempotency-Key` and body gets the same answer."""
    scope = request.auth.scope
    _check_scopes(request.auth, data.scopes)
    call = await idempotency.call_of(request)
    async with services.database.tenant(scope, origin_of(request)) as session:
        work = partial(_create, session, scope, data)
        return await idempotency.once(session, scope, call, ServiceAccountView, work)


@get(
    "/service-accounts/{service_account_id:str}",
    permission=Permission.READ_KEYS,
    tags=["Service accounts"],
    summary="Read a service account",
    operation_id="get_service_account",
    responses=answers.READ_ONE,
    response_headers=[ETAG_HEADER],
)
async def get_service_account(
    request: TenantRequest, services: Given, service_account_id: ServiceAccountPath
) -> Response[ServiceAccountView]:
    """One service account. One that was removed is not found."""
    scope = request.auth.scope
    async with services.database.tenant(scope) as session:
        account = await service.get_service_account(session, scope, _account_id(service_account_id))
    return with_etag(show_service_account(account))


@patch(
    "/service-accounts/{service_account_id:str}",
    permission=Permission.MANAGE_KEYS,
    tags=["Service accounts"],
    summary="Change a service account",
    operation_id="change_service_account",
    responses=answers.CHANGE,
    response_headers=[ETAG_HEADER],
)
async def change_service_account(
    request: TenantRequest,
    services: Given,
    service_account_id: ServiceAccountPath,
    data: JSONBody[ChangeServiceAccount],
    if_match: IfMatch = None,
) -> Response[ServiceAccountView]:
    """Its name and its scopes. Keys of a kind that is no scope any more open nothing, until it is one again."""
    scope = request.auth.scope
    async with services.database.tenant(scope, origin_of(request)) as session:
        account = await service.get_service_account(session, scope, _account_id(service_account_id), lock=True)
        if data.scopes is not UNSET:
            _check_scopes(request.auth, [*account.scopes, *data.scopes])
        check_match(request, show_service_account(account))
        change = ServiceAccountChange(name=data.name, scopes=data.scopes)
        changed = await service.change_service_account(session, scope, account, change)
    return with_etag(show_service_account(changed))


@delete(
    "/service-accounts/{service_account_id:str}",
    permission=Permission.MANAGE_KEYS,
    tags=["Service accounts"],
    summary="Remove a service account",
    operation_id="remove_service_account",
    responses=answers.REVOKE,
)
async def remove_service_account(
    request: TenantRequest, services: Given, service_account_id: ServiceAccountPath
) -> None:
    """With it all its keys are revoked. This cannot be undone."""
    scope = request.auth.scope
    async with services.database.tenant(scope, origin_of(request)) as session:
        await service.remove_service_account(session, scope, _account_id(service_account_id))


def _account_id(text: str) -> ServiceAccountId:
    return ServiceAccountId(id_in_path(SERVICE_ACCOUNT, text, "service account"))


def _check_scopes(caller: TenantCaller, scopes: list[str] | list[KeyKind]) -> None:
    if KeyKind.MANAGEMENT in scopes:
        check_permission(caller, Permission.MANAGE_MANAGEMENT_KEYS)


async def _create(session: AsyncSession, scope: TenantScope, data: CreateServiceAccount) -> ServiceAccountView:
    account = await service.create_service_account(
        session,
        scope,
        ProjectId(id_in_body(PROJECT, data.project_id, "project_id")),
        name=data.name,
        scopes=data.scopes,
    )
    return show_service_account(account)
