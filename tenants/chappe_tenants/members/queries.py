"""SQL for members."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from msgspec import Struct
from sqlalchemy import delete, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_kernel.ids import AccountId, MemberId
from chappe_store.session import TenantScope
from chappe_tenants.members.models import Member

# With a hash of the tenant's id it makes those take turns who change its owners. The trigger that keeps an owner takes
# the same (migration 0009); taken first of all locks, two changes at once wait for each other instead of deadlocking.
_OWNERS_LOCK = 0x6F776E72


class MemberRecord(Struct, frozen=True):
    """A member as their organisation may see them."""

    id: UUID
    account_id: UUID
    email: str
    role: str
    created_at: datetime
    last_signed_in_at: datetime | None


_SHOWN = tuple(getattr(Member, name) for name in MemberRecord.__struct_fields__)


async def lock_owners(session: AsyncSession, scope: TenantScope) -> None:
    """Until the transaction ends nobody else changes a role in this organisation, or removes a member."""
    await session.execute(select(func.pg_advisory_xact_lock(_OWNERS_LOCK, func.hashtext(str(scope.tenant_id)))))


async def read_member(session: AsyncSession, scope: TenantScope, member_id: UUID) -> MemberRecord | None:
    query = select(*_SHOWN).where(Member.tenant_id == scope.tenant_id, Member.id == member_id)
    row = (await session.execute(query)).mappings().first()
    return None if row is None else MemberRecord(**row)


async def find_by_account(session: AsyncSession, scope: TenantScope, account_id: AccountId) -> MemberId | None:
    query = select(Member.id).where(Member.tenant_id == scope.tenant_id, Member.account_id == account_id)
    found = await session.scalar(query)
    return None if found is None else MemberId(found)


async def has_address(session: AsyncSession, scope: TenantScope, email: str) -> bool:
    """Whether a member of this organisation has the address."""
    found = await session.scalar(select(Member.id).where(Member.tenant_id == scope.tenant_id, Member.email == email))
    return found is not None


async def list_members(
    session: AsyncSession, scope: TenantScope, *, limit: int, before: UUID | None
) -> Sequence[MemberRecord]:
    """Newest first."""
    query = select(*_SHOWN).where(Member.tenant_id == scope.tenant_id).order_by(Member.id.desc()).limit(limit)
    if before is not None:
        query = query.where(Member.id < before)
    return [MemberRecord(**row) for row in (await session.execute(query)).mappings()]


async def count_members(session: AsyncSession, scope: TenantScope) -> int:
    return await session.scalar(select(func.count()).where(Member.tenant_id == scope.tenant_id)) or 0


async def count_owners(session: AsyncSession, scope: TenantScope) -> int:
    query = select(func.count()).where(Member.tenant_id == scope.tenant_id, Member.role == "owner")
    return await session.scalar(query) or 0


async def insert_member(
    session: AsyncSession, scope: TenantScope, *, member_id: MemberId, account_id: AccountId, email: str, role: str
) -> bool:
    """False, and nothing inserted, if the account is a member of this organisation. `email` is the account's."""
    inserted = await session.scalar(
        insert(Member)
        .values(tenant_id=scope.tenant_id, id=member_id, account_id=account_id, email=email, role=role)
        .on_conflict_do_nothing(index_elements=["tenant_id", "account_id"])
        .returning(Member.id)
    )
    return inserted is not None


async def set_role(session: AsyncSession, scope: TenantScope, member_id: UUID, role: str) -> None:
    await session.execute(
        update(Member).where(Member.tenant_id == scope.tenant_id, Member.id == member_id).values(role=role)
    )


async def note_sign_in(
    session: AsyncSession, scope: TenantScope, member_id: MemberId, language: str | None = None
) -> None:
    """In the database's time. A language that is not known leaves the one that was."""
    await session.execute(
        update(Member)
        .where(Member.tenant_id == scope.tenant_id, Member.id == member_id)
        .values(last_signed_in_at=func.now(), **({} if language is None else {"language": language}))
    )


async def delete_member(session: AsyncSession, scope: TenantScope, member_id: UUID) -> None:
    """Sessions and their browser tokens go with the row."""
    await session.execute(delete(Member).where(Member.tenant_id == scope.tenant_id, Member.id == member_id))
