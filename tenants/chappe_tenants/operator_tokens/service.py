"""What happens to operator tokens: one of the operator's people makes one, a program uses it, somebody revokes it."""

from collections.abc import Sequence
from datetime import timedelta

from msgspec import Struct
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_kernel.api_keys import Pepper, display_prefix, generate_operator_token, is_operator_token
from chappe_kernel.errors import Conflict, NotFound, Unauthenticated
from chappe_kernel.ids import OperatorTokenId, OperatorUserId, new_id
from chappe_tenants.api_keys.service import digest_all
from chappe_tenants.naming import clean_name
from chappe_tenants.operator_tokens import queries
from chappe_tenants.operator_tokens.queries import TokenRecord
from chappe_tenants.operators.service import OperatorRole, find_operator
from chappe_tenants.peppers import newest

MAX_LIVE_TOKENS = 50
MAX_LIFETIME_DAYS = 366
DEFAULT_LIFETIME_DAYS = 90


class OperatorCaller(Struct, frozen=True):
    """A program of one of the operator's people. Only `authenticate` makes one.

    `role` is the token's own; `user_role` what its user is at this moment. The token may do what both may.
    """

    token_id: OperatorTokenId
    user_id: OperatorUserId
    email: str
    role: OperatorRole
    user_role: OperatorRole


class TokenOrder(Struct, frozen=True):
    """What somebody asks of a new token. Whether they may give this role is for the caller to check."""

    name: str
    role: OperatorRole
    lifetime_days: int = DEFAULT_LIFETIME_DAYS


async def authenticate(session: AsyncSession, secret: str, peppers: Sequence[Pepper]) -> OperatorCaller:
    """Whose token this is; notes that it was used. Raises `Unauthenticated`: there is none, it is over, or revoked."""
    found = await queries.find_token(session, digest_all(secret, peppers)) if is_operator_token(secret) else None
    if found is None:
        raise Unauthenticated("there is no such operator token", code="invalid_operator_token")
    await queries.touch_token(session, found.token_id)
    return OperatorCaller(
        token_id=OperatorTokenId(found.token_id),
        user_id=OperatorUserId(found.user_id),
        email=found.email,
        role=OperatorRole(found.role),
        user_role=OperatorRole(found.user_role),
    )


async def create_token(
    session: AsyncSession, user_id: OperatorUserId, order: TokenOrder, *, peppers: tuple[Pepper, ...]
) -> tuple[TokenRecord, str]:
    """A new token and its secret, which nobody can read again. Raises `Conflict` when the user has too many."""
    if await queries.count_live_tokens(session, user_id) >= MAX_LIVE_TOKENS:
        raise Conflict(f"one user has at most {MAX_LIVE_TOKENS} tokens", code="too_many_tokens")
    secret = generate_operator_token()
    (digest,) = digest_all(secret, [newest(peppers)])
    token_id = OperatorTokenId(new_id())
    await queries.insert_token(
        session,
        token_id=token_id,
        user_id=user_id,
        name=clean_name(order.name, param="name"),
        role=order.role,
        prefix=display_prefix(secret),
        digest=digest,
        lifetime=timedelta(days=order.lifetime_days),
    )
    return await get_token(session, token_id), secret


async def get_token(session: AsyncSession, token_id: OperatorTokenId) -> TokenRecord:
    """Raises `NotFound`."""
    token = await queries.read_token(session, token_id)
    if token is None:
        raise NotFound("no such operator token")
    return token


async def create_token_for(
    session: AsyncSession, *, email: str, name: str, lifetime_days: int, peppers: tuple[Pepper, ...]
) -> str:
    """A new token's secret, with the role that the user of this address has. Raises as `create_token`, `NotFound`."""
    user = await find_operator(session, email)
    order = TokenOrder(name, OperatorRole(user.role), lifetime_days)
    _, secret = await create_token(session, OperatorUserId(user.id), order, peppers=peppers)
    return secret


async def revoke_tokens_of(session: AsyncSession, *, email: str) -> None:
    """All that the user has: none opens anything from now on. Raises `NotFound` for an unknown address."""
    user = await find_operator(session, email)
    await queries.revoke_tokens_of(session, user.id)
