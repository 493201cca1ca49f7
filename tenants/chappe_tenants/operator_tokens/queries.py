"""SQL for operator tokens. The digest is written and looked for, and never selected."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

from msgspec import Struct
from sqlalchemy import ColumnElement, and_, func, insert, or_, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_kernel.ids import OperatorTokenId, OperatorUserId
from chappe_kernel.wire.control import KeyDigest
from chappe_tenants.operator_tokens.models import OperatorToken as Token
from chappe_tenants.operators.models import OperatorUser

_REST = timedelta(minutes=1)
"""`last_used_at` is written at most this often."""


class TokenRecord(Struct, frozen=True):
    """A token as the operator's people may see it. `email` is its user's."""

    id: UUID
    user_id: UUID
    email: str
    name: str
    role: str
    prefix: str
    created_at: datetime
    expires_at: datetime
    revoked_at: datetime | None
    last_used_at: datetime | None


class FoundToken(Struct, frozen=True):
    """What the look-up says of a token that lives: its own role, and its user's as of now."""

    token_id: UUID
    user_id: UUID
    email: str
    role: str
    user_role: str


_RECORDS = select(
    Token.id,
    Token.user_id,
    OperatorUser.email,
    Token.name,
    Token.role,
    Token.prefix,
    Token.created_at,
    Token.expires_at,
    Token.revoked_at,
    Token.last_used_at,
).join(OperatorUser, OperatorUser.id == Token.user_id)


async def find_token(session: AsyncSession, digests: Sequence[KeyDigest]) -> FoundToken | None:
    """By one descent of the index per pepper. The database's clock decides whether it lives."""
    asked = [(digest.pepper_version, digest.digest) for digest in digests]
    query = (
        select(Token.id, Token.user_id, OperatorUser.email, Token.role, OperatorUser.role)
        .join(OperatorUser, OperatorUser.id == Token.user_id)
        .where(tuple_(Token.pepper_version, Token.digest).in_(asked), _lives())
    )
    row = (await session.execute(query)).first()
    return None if row is None else FoundToken(*row)


async def touch_token(session: AsyncSession, token_id: UUID) -> None:
    """Note that it was used, at most once a minute."""
    await session.execute(
        update(Token)
        .where(Token.id == token_id, or_(Token.last_used_at.is_(None), Token.last_used_at < func.now() - _REST))
        .values(last_used_at=func.now())
    )


async def count_live_tokens(session: AsyncSession, user_id: OperatorUserId) -> int:
    return await session.scalar(select(func.count()).where(Token.user_id == user_id, _lives())) or 0


async def insert_token(
    session: AsyncSession,
    *,
    token_id: OperatorTokenId,
    user_id: OperatorUserId,
    name: str,
    role: str,
    prefix: str,
    digest: KeyDigest,
    lifetime: timedelta,
) -> None:
    await session.execute(
        insert(Token).values(
            id=token_id,
            user_id=user_id,
            name=name,
            role=role,
            prefix=prefix,
            pepper_version=digest.pepper_version,
            digest=digest.digest,
            expires_at=func.now() + lifetime,
        )
    )


async def read_token(session: AsyncSession, token_id: OperatorTokenId) -> TokenRecord | None:
    row = (await session.execute(_RECORDS.where(Token.id == token_id))).mappings().first()
    return None if row is None else TokenRecord(**row)


async def list_tokens(
    session: AsyncSession, *, user_id: OperatorUserId | None, limit: int, before: UUID | None
) -> list[TokenRecord]:
    """Newest first; of one user, or everybody's."""
    query = _RECORDS.order_by(Token.id.desc()).limit(limit)
    if user_id is not None:
        query = query.where(Token.user_id == user_id)
    if before is not None:
        query = query.where(Token.id < before)
    return [TokenRecord(**row) for row in (await session.execute(query)).mappings()]


async def revoke_token(session: AsyncSession, token_id: OperatorTokenId) -> None:
    """A repeat keeps the first time."""
    await _revoke(session, Token.id == token_id)


async def revoke_tokens_of(session: AsyncSession, user_id: UUID) -> None:
    await _revoke(session, Token.user_id == user_id)


async def _revoke(session: AsyncSession, which: ColumnElement[bool]) -> None:
    await session.execute(update(Token).where(which, Token.revoked_at.is_(None)).values(revoked_at=func.now()))


def _lives() -> ColumnElement[bool]:
    return and_(Token.revoked_at.is_(None), Token.expires_at > func.now())
