"""The operator's own companies: who sells to a tenant."""

from functools import partial
from http import HTTPStatus
from typing import Annotated

from litestar import Response, get, patch, post
from litestar.params import JSONBody, PathParameter
from msgspec import Struct
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_control.authentication import OperatorRequest
from chappe_control.cursors import cut_page, decode_cursor
from chappe_control.etags import ETAG_HEADER, IfMatch, check_match, with_etag
from chappe_control.idempotency import service as idempotency
from chappe_control.origins import origin_of
from chappe_control.permissions import Permission
from chappe_control.public import answers
from chappe_control.public.parameters import DEFAULT_LIMIT, Cursor, IdempotencyKey, Limit
from chappe_control.public.references import MAX_ID_LENGTH, id_in_path
from chappe_control.state import Given
from chappe_kernel.ids import LEGAL_ENTITY
from chappe_tenants.legal_entities.queries import list_entities
from chappe_tenants.legal_entities.schemas import ChangeLegalEntity, CreateLegalEntity, LegalEntityView
from chappe_tenants.legal_entities.service import change_entity, create_entity, get_entity, view_entities, view_entity

_TAG = "Legal entities"

EntityPath = Annotated[str, PathParameter(max_length=MAX_ID_LENGTH, description="The legal entity's id, `ent_…`.")]


class LegalEntityList(Struct, frozen=True):
    items: list[LegalEntityView]
    next_cursor: str | None


@get(
    "/legal-entities",
    permission=Permission.SEE_LEGAL_ENTITIES,
    tags=[_TAG],
    summary="List legal entities",
    operation_id="operator_list_legal_entities",
    responses=answers.LIST,
)
async def list_all(services: Given, limit: Limit = DEFAULT_LIMIT, cursor: Cursor = None) -> LegalEntityList:
    """Newest first. The last one is the one that every instance begins with."""
    async with services.database.audit() as session:
        rows = await list_entities(session, limit=limit + 1, before=decode_cursor(cursor))
        page, next_cursor = cut_page(rows, limit, lambda entity: entity.id)
        return LegalEntityList(await view_entities(session, page), next_cursor)


@post(
    "/legal-entities",
    permission=Permission.MANAGE_LEGAL_ENTITIES,
    tags=[_TAG],
    summary="Create a legal entity",
    operation_id="operator_create_legal_entity",
    responses=answers.CREATE,
    response_headers=[ETAG_HEADER],
    status_code=HTTPStatus.CREATED,
)
async def create(
    request: OperatorRequest, services: Given, data: JSONBody[CreateLegalEntity], idempotency_key: IdempotencyKey = None
) -> Response[LegalEntityView]:
    """With books of its own, in one currency."""
    call = await idempotency.call_of(request)
    async with services.database.operator(origin_of(request)) as session:
        work = partial(_create, session, data)
        return with_etag(await idempotency.once(session, request.auth.user_id, call, LegalEntityView, work))


@get(
    "/legal-entities/{entity_id:str}",
    permission=Permission.SEE_LEGAL_ENTITIES,
    tags=[_TAG],
    summary="Read a legal entity",
    operation_id="operator_get_legal_entity",
    responses=answers.READ_ONE,
    response_headers=[ETAG_HEADER],
)
async def read(services: Given, entity_id: EntityPath) -> Response[LegalEntityView]:
    """With the tag that changes of it take."""
    found = id_in_path(LEGAL_ENTITY, entity_id, "legal entity")
    async with services.database.audit() as session:
        return with_etag(await view_entity(session, await get_entity(session, found)))


@patch(
    "/legal-entities/{entity_id:str}",
    permission=Permission.MANAGE_LEGAL_ENTITIES,
    tags=[_TAG],
    summary="Change a legal entity",
    operation_id="operator_change_legal_entity",
    responses=answers.CHANGE,
    response_headers=[ETAG_HEADER],
)
async def change(
    request: OperatorRequest,
    services: Given,
    entity_id: EntityPath,
    data: JSONBody[ChangeLegalEntity],
    if_match: IfMatch = None,
) -> Response[LegalEntityView]:
    """Who it is in law, as it stands on what it will send. Its currency stays."""
    found = id_in_path(LEGAL_ENTITY, entity_id, "legal entity")
    async with services.database.operator(origin_of(request)) as session:
        entity = await get_entity(session, found, lock=True)
        check_match(request, await view_entity(session, entity))
        return with_etag(await view_entity(session, await change_entity(session, entity, data)))


async def _create(session: AsyncSession, asked: CreateLegalEntity) -> LegalEntityView:
    return await view_entity(session, await create_entity(session, asked))
