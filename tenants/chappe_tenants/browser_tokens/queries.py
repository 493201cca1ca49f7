"""SQL for browser tokens. The digest is written here and read only by the database's own look-up function."""

from datetime import datetime, timedelta
from uuid import UUID

from msgspec import Struct
from sqlalchemy import delete, extract, func, insert, select
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_kernel.ids import KeyId, new_id
from chappe_kernel.wire.control import KeyDigest
from chappe_store.session import TenantScope
from chappe_tenants.browser_tokens.models import BrowserToken
from chappe_tenants.sessions.models import MemberSession

# Any constant will do; with a hash of the session's id it makes two issuers of one session take turns.
_ISSUE_LOCK = 0x62726F77


class LiveTokens(Struct, frozen=True):
    """How many tokens of one session live, and when the first of them ends."""

    count: int
    first_ends_in_s: float


async def lock_session(session: AsyncSession, scope: TenantScope, session_id: UUID) -> datetime | None:
    """When the session expires; None if it is over. Until the transaction ends nobody else issues for it, and a
    sign-out waits."""
    query = (
        select(MemberSession.expires_at)
        .where(
            MemberSession.tenant_id == scope.tenant_id,
            MemberSession.id == session_id,
            MemberSession.expires_at > func.now(),
        )
        .with_for_update(read=True, key_share=True)
    )
    expires_at: datetime | None = await session.scalar(query)
    await session.execute(select(func.pg_advisory_xact_lock(_ISSUE_LOCK, func.hashtext(str(session_id)))))
    return expires_at


async def count_live(session: AsyncSession, scope: TenantScope, session_id: UUID) -> LiveTokens:
    first_ends_in = func.min(BrowserToken.expires_at) - func.now()
    query = select(func.count(), func.coalesce(extract("epoch", first_ends_in), 0)).where(
        BrowserToken.tenant_id == scope.tenant_id,
        BrowserToken.session_id == session_id,
        BrowserToken.expires_at > func.now(),
    )
    count, first_ends_in_s = (await session.execute(query)).one()
    return LiveTokens(count, float(first_ends_in_s))


async def insert_token(
    session: AsyncSession,
    scope: TenantScope,
    *,
    digest: KeyDigest,
    key_id: KeyId,
    session_id: UUID,
    lifetime: timedelta,
    no_later_than: datetime,
) -> float:
    """How many seconds it lives, by the database's clock."""
    statement = (
        insert(BrowserToken)
        .values(
            tenant_id=scope.tenant_id,
            id=new_id(),
            pepper_version=digest.pepper_version,
            digest=digest.digest,
            key_id=key_id,
            session_id=session_id,
            expires_at=func.least(func.now() + lifetime, no_later_than),
        )
        .returning(extract("epoch", BrowserToken.expires_at - func.now()))
    )
    return float((await session.execute(statement)).scalar_one())


async def delete_expired(session: AsyncSession, scope: TenantScope, session_id: UUID) -> None:
    """Of this session; the others' go when they issue again, or with their session. No gateway need hear of it."""
    await session.execute(
        delete(BrowserToken).where(
            BrowserToken.tenant_id == scope.tenant_id,
            BrowserToken.session_id == session_id,
            BrowserToken.expires_at <= func.now(),
        )
    )


async def delete_token(session: AsyncSession, scope: TenantScope, token_id: UUID) -> None:
    await session.execute(
        delete(BrowserToken).where(BrowserToken.tenant_id == scope.tenant_id, BrowserToken.id == token_id)
    )
