"""API keys of the calling tenant."""

from http import HTTPStatus
from typing import Annotated

from litestar import delete, get, post
from litestar.params import JSONBody, PathParameter
from msgspec import Struct
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_catalogue.listings.queries import unknown_listings
from chappe_catalogue.regions.queries import read_jurisdictions
from chappe_control.authentication import TenantCaller, TenantRequest
from chappe_control.cursors import cut_page, decode_cursor
from chappe_control.idempotency import service as idempotency
from chappe_control.origins import origin_of
from chappe_control.permissions import Permission
from chappe_control.public import answers
from chappe_control.public.parameters import DEFAULT_LIMIT, Cursor, IdempotencyKey, Limit
from chappe_control.state import Given
from chappe_kernel.errors import Invalid, NotFound
from chappe_kernel.ids import KEY, PROJECT, KeyId, ProjectId, decode_id
from chappe_tenants.api_keys import queries, service
from chappe_tenants.api_keys.schemas import CreatedKey, CreateKey, KeyView, show_created_key, show_key
from chappe_tenants.api_keys.service import Caller, KeyOrder
from chappe_tenants.naming import clean_name


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
    request: TenantRequest, services: Given, limit: Limit = DEFAULT_LIMIT, cursor: Cursor = None
) -> KeyList:
    """The organisation's API keys, newest first, revoked ones included. Secrets are never shown again."""
    scope = request.auth.scope
    async with services.database.tenant(scope) as session:
        rows = await queries.list_keys(session, scope, limit=limit + 1, before=decode_cursor(cursor))
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
    and create another one."""
    caller = request.auth
    call = await idempotency.call_of(request)
    async with services.database.tenant(caller.scope, origin_of(request)) as session:
        await idempotency.begin(session, caller.scope, call)
        key, secret = await service.create_key(
            session,
            caller.scope,
            _project_id(data.project_id, caller),
            await _order(session, data),
            peppers=services.peppers,
            jurisdiction_of=await read_jurisdictions(session),
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
async def revoke_key(
    request: TenantRequest,
    services: Given,
    key_id: Annotated[str, PathParameter(max_length=100, description="The key's id, `key_…`.")],
) -> None:
    """The key opens nothing any more; gateways hear of it within a second or two. A repeat changes nothing."""
    try:
        found = KeyId(decode_id(KEY, key_id))
    except Invalid:
        raise NotFound("no such API key") from None
    scope = request.auth.scope
    async with services.database.tenant(scope, origin_of(request)) as session:
        await service.revoke_key(session, scope, found)


def _project_id(text: str | None, caller: TenantCaller) -> ProjectId:
    if text is None and isinstance(caller, Caller):
        return caller.project_id
    try:
        return ProjectId(decode_id(PROJECT, text or ""))
    except Invalid as error:
        raise Invalid(error.message, code=error.code, param="project_id") from None


async def _order(session: AsyncSession, data: JSONBody[CreateKey]) -> KeyOrder:
    models = None if data.models is None else [clean_name(model, param="models") for model in data.models]
    if models and await unknown_listings(session, models):
        raise Invalid("models names something that is not on sale", code="model_not_found", param="models")
    return KeyOrder(
        name=data.name,
        kind=data.kind,
        regions=data.regions,
        models=models,
        requests_per_minute=data.requests_per_minute,
    )
