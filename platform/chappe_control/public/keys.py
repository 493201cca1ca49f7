"""API keys of the calling tenant."""

from collections.abc import Sequence
from datetime import timedelta
from http import HTTPStatus
from typing import Annotated

from litestar import Response, delete, get, patch, post
from litestar.params import JSONBody, QueryParameter
from msgspec import UNSET, Struct, UnsetType
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_catalogue.listings.queries import unknown_listings
from chappe_catalogue.regions.queries import read_jurisdictions
from chappe_control.authentication import TenantCaller, TenantRequest
from chappe_control.cursors import cut_page, decode_cursor
from chappe_control.etags import ETAG_HEADER, IfMatch, check_match, with_etag
from chappe_control.idempotency import service as idempotency
from chappe_control.origins import origin_of
from chappe_control.permissions import Permission, check_permission
from chappe_control.public import answers
from chappe_control.public.parameters import DEFAULT_LIMIT, Cursor, IdempotencyKey, Limit
from chappe_control.public.references import MAX_ID_LENGTH, KeyPath, id_in_body, id_in_path
from chappe_control.state import Given
from chappe_kernel.api_keys import KeyKind
from chappe_kernel.errors import Invalid
from chappe_kernel.ids import KEY, PROJECT, SERVICE_ACCOUNT, KeyId, MemberId, ProjectId, ServiceAccountId
from chappe_tenants.api_keys import queries, service
from chappe_tenants.api_keys.schemas import (
    CHANGES_WITH_USE,
    ChangeKey,
    CreatedKey,
    CreateKey,
    KeyView,
    RotateKey,
    show_created_key,
    show_key,
)
from chappe_tenants.api_keys.service import Caller, KeyChange, KeyOrder
from chappe_tenants.naming import clean_name
from chappe_tenants.service_accounts.service import get_service_account
from chappe_tenants.sessions.service import MemberVisitor

ProjectFilter = Annotated[
    str | None, QueryParameter(max_length=MAX_ID_LENGTH, description="Of this project alone, `prj_…`.")
]


class KeyList(Struct, frozen=True):
    items: list[KeyView]
    next_cursor: str | None


@get(
    "/keys",
    permission=Permission.READ_KEYS,
    tags=["API keys"],
    summary="List API keys",
    operation_id="list_keys",
    responses=answers.LIST,
)
async def list_keys(
    request: TenantRequest,
    services: Given,
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
    project_id: ProjectFilter = None,
) -> KeyList:
    """The organisation's API keys, newest first, revoked ones included. Secrets are never shown again."""
    scope = request.auth.scope
    project = None if project_id is None else ProjectId(id_in_body(PROJECT, project_id, "project_id"))
    async with services.database.tenant(scope) as session:
        rows = await queries.list_keys(
            session, scope, limit=limit + 1, before=decode_cursor(cursor), project_id=project
        )
    page, next_cursor = cut_page(rows, limit, lambda key: key.id)
    return KeyList(items=[show_key(key) for key in page], next_cursor=next_cursor)


@post(
    "/keys",
    permission=Permission.MANAGE_KEYS,
    tags=["API keys"],
    summary="Create an API key",
    operation_id="create_key",
    responses=answers.CREATE,
    status_code=HTTPStatus.CREATED,
)
async def create_key(
    request: TenantRequest, services: Given, data: JSONBody[CreateKey], idempotency_key: IdempotencyKey = None
) -> CreatedKey:
    """A new key. The answer holds its secret, which is stored nowhere. So a repeat with the same `Idempotency-Key`
    and body creates no second key and gets 409 `already_completed`: if the first answer was lost, revoke that key
    and create another one. A management key can be made by owners, admins and management keys alone."""
    caller = request.auth
    _check_kind(caller, data.kind)
    call = await idempotency.call_of(request)
    async with services.database.tenant(caller.scope, origin_of(request)) as session:
        await idempotency.begin(session, caller.scope, call)
        key, secret = await service.create_key(
            session,
            caller.scope,
            await _project_id(session, data, caller),
            await _order(session, data, caller),
            peppers=services.peppers,
            jurisdiction_of=await read_jurisdictions(session),
        )
    return show_created_key(key, secret)


@get(
    "/keys/{key_id:str}",
    permission=Permission.READ_KEYS,
    tags=["API keys"],
    summary="Read an API key",
    operation_id="get_key",
    responses=answers.READ_ONE,
    response_headers=[ETAG_HEADER],
)
async def get_key(request: TenantRequest, services: Given, key_id: KeyPath) -> Response[KeyView]:
    """One key, without its secret. Its last use is no part of its `ETag`."""
    scope = request.auth.scope
    async with services.database.tenant(scope) as session:
        key = await service.get_key(session, scope, _key_id(key_id))
    return with_etag(show_key(key), ignoring=CHANGES_WITH_USE)


@patch(
    "/keys/{key_id:str}",
    permission=Permission.MANAGE_KEYS,
    tags=["API keys"],
    summary="Change an API key",
    operation_id="change_key",
    responses=answers.CHANGE,
    response_headers=[ETAG_HEADER],
)
async def change_key(
    request: TenantRequest, services: Given, key_id: KeyPath, data: JSONBody[ChangeKey], if_match: IfMatch = None
) -> Response[KeyView]:
    """Name, narrowings and end; in force at every gateway within a second. What the key is for and whose it is stays
    as it was made."""
    scope = request.auth.scope
    async with services.database.tenant(scope, origin_of(request)) as session:
        key = await service.lock_key(session, scope, _key_id(key_id))
        _check_kind(request.auth, KeyKind(key.kind))
        check_match(request, show_key(key), ignoring=CHANGES_WITH_USE)
        changed = await service.change_key(
            session,
            scope,
            key,
            await _change(session, data),
            jurisdiction_of=await read_jurisdictions(session),
        )
    return with_etag(show_key(changed), ignoring=CHANGES_WITH_USE)


@post(
    "/keys/{key_id:str}/rotate",
    permission=Permission.MANAGE_KEYS,
    tags=["API keys"],
    summary="Rotate an API key",
    operation_id="rotate_key",
    responses=answers.CREATE,
    status_code=HTTPStatus.CREATED,
)
async def rotate_key(
    request: TenantRequest,
    services: Given,
    key_id: KeyPath,
    data: JSONBody[RotateKey],
    idempotency_key: IdempotencyKey = None,
) -> CreatedKey:
    """A successor that may do the same. The old key goes on for the overlap that you choose, and then ends by itself;
    if it has an end of its own, the successor lives as long from now as the old one was meant to. A key has one
    successor: rotate that one next. Repeats are as with creating a key."""
    caller = request.auth
    found = _key_id(key_id)
    call = await idempotency.call_of(request)
    async with services.database.tenant(caller.scope, origin_of(request)) as session:
        _check_kind(caller, KeyKind((await service.get_key(session, caller.scope, found)).kind))
        await idempotency.begin(session, caller.scope, call)
        key, secret = await service.rotate_key(
            session,
            caller.scope,
            found,
            overlap=timedelta(seconds=data.overlap_s),
            by=_member_id(caller),
            peppers=services.peppers,
        )
    return show_created_key(key, secret)


@delete(
    "/keys/{key_id:str}",
    permission=Permission.MANAGE_KEYS,
    tags=["API keys"],
    summary="Revoke an API key",
    operation_id="revoke_key",
    responses=answers.REVOKE,
)
async def revoke_key(request: TenantRequest, services: Given, key_id: KeyPath) -> None:
    """The key opens nothing any more; gateways hear of it within a second. A repeat changes nothing."""
    scope = request.auth.scope
    async with services.database.tenant(scope, origin_of(request)) as session:
        await service.revoke_key(session, scope, _key_id(key_id))


def _key_id(text: str) -> KeyId:
    return KeyId(id_in_path(KEY, text, "API key"))


def _check_kind(caller: TenantCaller, kind: KeyKind) -> None:
    if kind is KeyKind.MANAGEMENT:
        check_permission(caller, Permission.MANAGE_MANAGEMENT_KEYS)


def _member_id(caller: TenantCaller) -> MemberId | None:
    return caller.member_id if isinstance(caller, MemberVisitor) else None


async def _project_id(session: AsyncSession, data: CreateKey, caller: TenantCaller) -> ProjectId:
    if data.project_id is not None:
        return ProjectId(id_in_body(PROJECT, data.project_id, "project_id"))
    if data.service_account_id is not None:
        account = await get_service_account(session, caller.scope, _service_account_id(data.service_account_id))
        return ProjectId(account.project_id)
    if isinstance(caller, Caller):
        return caller.project_id
    raise Invalid("name the project that the key is to belong to", param="project_id")


def _service_account_id(text: str) -> ServiceAccountId:
    return ServiceAccountId(id_in_body(SERVICE_ACCOUNT, text, "service_account_id"))


async def _order(session: AsyncSession, data: CreateKey, caller: TenantCaller) -> KeyOrder:
    owner = _member_id(caller) if data.personal else None
    if data.personal and owner is None:
        raise Invalid("a personal key is made by a member who is signed in", param="personal")
    if data.personal and data.service_account_id is not None:
        raise Invalid("a key is a member's or a service account's, not both", param="personal")
    return KeyOrder(
        name=data.name,
        kind=data.kind,
        regions=data.regions,
        models=await _listings(session, data.models),
        requests_per_minute=data.requests_per_minute,
        networks=data.networks,
        expires_at=data.expires_at,
        member_id=owner,
        service_account_id=None if data.service_account_id is None else _service_account_id(data.service_account_id),
    )


async def _change(session: AsyncSession, data: ChangeKey) -> KeyChange:
    models: Sequence[str] | UnsetType | None = UNSET
    if data.models is not UNSET:
        models = await _listings(session, data.models)
    return KeyChange(
        name=data.name,
        regions=data.regions,
        models=models,
        requests_per_minute=data.requests_per_minute,
        networks=data.networks,
        expires_at=data.expires_at,
    )


async def _listings(session: AsyncSession, names: Sequence[str] | None) -> Sequence[str] | None:
    """Raises `Invalid` for one that is not on sale."""
    models = None if names is None else [clean_name(name, param="models") for name in names]
    if models and await unknown_listings(session, models):
        raise Invalid("models names something that is not on sale", code="model_not_found", param="models")
    return models
