"""SQL for sessions. A member's digest is written here and read only by the database's own look-up function."""

from datetime import timedelta
from functools import cache
from uuid import UUID

from msgspec import Struct
from sqlalchemy import Executable, Interval, bindparam, delete, func, insert, or_, select, text, tuple_, update
from sqlalchemy.dialects.postgresql import BYTEA
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_kernel.ids import AccountId, MemberId, OperatorUserId
from chappe_store.session import TenantScope
from chappe_tenants.members.models import Member
from chappe_tenants.operators.models import OperatorUser
from chappe_tenants.sessions.lifetimes import REST
from chappe_tenants.sessions.models import MemberSession, OperatorSession


class FoundMemberSession(Struct, frozen=True):
    """What the look-up says of a session that has not expired. `organisation_ids` and `organisation_names` are those
    that its account is a member of, by name. `rested`: it is time to note that it was seen."""

    tenant_id: UUID
    session_id: UUID
    member_id: UUID
    account_id: UUID
    email: str
    role: str
    tenant_name: str
    tenant_state: str
    currency: str
    organisation_ids: list[UUID]
    organisation_names: list[str]
    rested: bool


class FoundOperatorSession(Struct, frozen=True):
    session_id: UUID
    user_id: UUID
    email: str
    role: str
    rested: bool


_FIND = text("SELECT * FROM find_portal_session(:asked, :idle, :rest)").bindparams(
    bindparam("asked", type_=BYTEA), bindparam("idle", type_=Interval), bindparam("rest", type_=Interval)
)


async def find_member_session(session: AsyncSession, digest: bytes, idle: timedelta) -> FoundMemberSession | None:
    """By a function that alone may look before the tenant is known."""
    row = (await session.execute(_FIND, {"asked": digest, "idle": idle, "rest": REST})).mappings().first()
    return None if row is None else FoundMemberSession(**row)


async def insert_member_session(
    session: AsyncSession,
    scope: TenantScope,
    *,
    session_id: UUID,
    member_id: MemberId,
    digest: bytes,
    absolute: timedelta,
) -> None:
    await session.execute(
        insert(MemberSession).values(
            tenant_id=scope.tenant_id,
            id=session_id,
            member_id=member_id,
            digest=digest,
            expires_at=func.now() + absolute,
        )
    )


async def touch_member_session(session: AsyncSession, scope: TenantScope, session_id: UUID) -> None:
    """Two requests at once write once: the second finds the row seen already."""
    await session.execute(
        update(MemberSession)
        .where(
            MemberSession.tenant_id == scope.tenant_id,
            MemberSession.id == session_id,
            MemberSession.seen_at < func.now() - REST,
        )
        .values(seen_at=func.now())
    )


async def delete_member_session(session: AsyncSession, scope: TenantScope, session_id: UUID) -> None:
    await session.execute(
        delete(MemberSession).where(MemberSession.tenant_id == scope.tenant_id, MemberSession.id == session_id)
    )


async def delete_sessions_of_account(session: AsyncSession, account_id: AccountId) -> None:
    """In whatever tenant: for the operator's role."""
    own = select(Member.tenant_id, Member.id).where(Member.account_id == account_id)
    await session.execute(
        delete(MemberSession).where(tuple_(MemberSession.tenant_id, MemberSession.member_id).in_(own))
    )


async def delete_expired_member_sessions(session: AsyncSession, scope: TenantScope, idle: timedelta) -> None:
    """Of the whole tenant."""
    await session.execute(
        delete(MemberSession).where(
            MemberSession.tenant_id == scope.tenant_id,
            or_(MemberSession.expires_at <= func.now(), MemberSession.seen_at <= func.now() - idle),
        )
    )


async def find_operator_session(session: AsyncSession, digest: bytes, idle: timedelta) -> FoundOperatorSession | None:
    row = (await session.execute(_operator_session(idle), {"digest": digest})).mappings().first()
    return None if row is None else FoundOperatorSession(**row)


# Every page of the console asks it: to build the statement takes longer than to run it.
@cache
def _operator_session(idle: timedelta) -> Executable:
    return (
        select(
            OperatorSession.id.label("session_id"),
            OperatorSession.user_id,
            OperatorUser.email,
            OperatorUser.role,
            (OperatorSession.seen_at < func.now() - REST).label("rested"),
        )
        .join(OperatorUser, OperatorUser.id == OperatorSession.user_id)
        .where(
            OperatorSession.digest == bindparam("digest"),
            OperatorSession.expires_at > func.now(),
            OperatorSession.seen_at > func.now() - idle,
        )
    )


async def insert_operator_session(
    session: AsyncSession, *, session_id: UUID, user_id: OperatorUserId, digest: bytes, absolute: timedelta
) -> None:
    await session.execute(
        insert(OperatorSession).values(id=session_id, user_id=user_id, digest=digest, expires_at=func.now() + absolute)
    )


async def touch_operator_session(session: AsyncSession, session_id: UUID) -> None:
    await session.execute(
        update(OperatorSession)
        .where(OperatorSession.id == session_id, OperatorSession.seen_at < func.now() - REST)
        .values(seen_at=func.now())
    )


async def delete_operator_session(session: AsyncSession, session_id: UUID) -> None:
    await session.execute(delete(OperatorSession).where(OperatorSession.id == session_id))


async def delete_sessions_of_operator(session: AsyncSession, user_id: UUID) -> None:
    await session.execute(delete(OperatorSession).where(OperatorSession.user_id == user_id))


async def delete_expired_operator_sessions(session: AsyncSession, idle: timedelta) -> None:
    await session.execute(
        delete(OperatorSession).where(
            or_(OperatorSession.expires_at <= func.now(), OperatorSession.seen_at <= func.now() - idle)
        )
    )
