"""Tokens of the operator's people, for their programs."""

from http import HTTPStatus
from typing import Annotated

from litestar import delete, get, post
from litestar.params import JSONBody, PathParameter
from msgspec import Struct
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_control.authentication import OperatorRequest
from chappe_control.cursors import cut_page, decode_cursor
from chappe_control.idempotency import service as idempotency
from chappe_control.origins import origin_of
from chappe_control.permissions import Permission, is_within, may
from chappe_control.public import answers
from chappe_control.public.parameters import DEFAULT_LIMIT, Cursor, IdempotencyKey, Limit
from chappe_control.state import Given
from chappe_kernel.errors import Denied, Invalid, NotFound
from chappe_kernel.ids import OPERATOR_TOKEN, OperatorTokenId, decode_id
from chappe_tenants.operator_tokens import queries, service
from chappe_tenants.operator_tokens.schemas import (
    CreatedToken,
    CreateToken,
    TokenView,
    show_created_token,
    show_token,
)
from chappe_tenants.operator_tokens.service import OperatorCaller, TokenOrder


class TokenList(Struct, frozen=True):
    items: list[TokenView]
    next_cursor: str | None


@get(
    "/tokens",
    permission=Permission.HAVE_TOKENS,
    tags=["Operator tokens"],
    summary="List operator tokens",
    operation_id="list_operator_tokens",
    responses=answers.LIST,
)
async def list_tokens(
    request: OperatorRequest, services: Given, limit: Limit = DEFAULT_LIMIT, cursor: Cursor = None
) -> TokenList:
    """Your own tokens, newest first, revoked ones included; everybody's, if you may manage them. Secrets are never
    shown again."""
    whose = None if may(request.auth.role, Permission.MANAGE_TOKENS) else request.auth.user_id
    async with services.database.operator() as session:
        rows = await queries.list_tokens(session, user_id=whose, limit=limit + 1, before=decode_cursor(cursor))
    page, next_cursor = cut_page(rows, limit, lambda token: token.id)
    return TokenList(items=[show_token(token) for token in page], next_cursor=next_cursor)


@post(
    "/tokens",
    permission=Permission.HAVE_TOKENS,
    tags=["Operator tokens"],
    summary="Create an operator token",
    operation_id="create_operator_token",
    responses=answers.CREATE,
    status_code=HTTPStatus.CREATED,
)
async def create_token(
    request: OperatorRequest, services: Given, data: JSONBody[CreateToken], idempotency_key: IdempotencyKey = None
) -> CreatedToken:
    """A new token of your own, for a program. Only somebody who is signed in makes one: a token makes no other, or
    whoever finds one would have it for ever. The answer holds its secret, which is stored nowhere, so a repeat with the
    same `Idempotency-Key` gets 409 `already_completed`."""
    if isinstance(request.auth, OperatorCaller):
        raise Denied("a token makes no tokens; sign in to the console", code="session_required")
    role = data.role or request.auth.role
    if not is_within(role, request.auth.role):
        raise Invalid("this role may do what yours may not", code="role_too_wide", param="role")
    user_id = request.auth.user_id
    call = await idempotency.call_of(request)
    async with services.database.operator(origin_of(request)) as session:
        await idempotency.begin(session, user_id, call)
        order = TokenOrder(data.name, role, data.lifetime_days)
        token, secret = await service.create_token(session, user_id, order, peppers=services.peppers)
    return show_created_token(token, secret)


@delete(
    "/tokens/{token_id:str}",
    permission=Permission.HAVE_TOKENS,
    tags=["Operator tokens"],
    summary="Revoke an operator token",
    operation_id="revoke_operator_token",
    responses=answers.REVOKE,
)
async def revoke_token(
    request: OperatorRequest,
    services: Given,
    token_id: Annotated[str, PathParameter(max_length=100, description="The token's id, `otk_…`.")],
) -> None:
    """The token opens nothing from now on. Your own; anybody's, if you may manage them. A repeat changes nothing."""
    try:
        wanted = OperatorTokenId(decode_id(OPERATOR_TOKEN, token_id))
    except Invalid:
        raise NotFound("no such operator token") from None
    async with services.database.operator(origin_of(request)) as session:
        await _check_own(session, request, wanted)
        await queries.revoke_token(session, wanted)


async def _check_own(session: AsyncSession, request: OperatorRequest, wanted: OperatorTokenId) -> None:
    """Raises `NotFound` for a token that the caller must not know of."""
    token = await service.get_token(session, wanted)
    if token.user_id != request.auth.user_id and not may(request.auth.role, Permission.MANAGE_TOKENS):
        raise NotFound("no such operator token")
