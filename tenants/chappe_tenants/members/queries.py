"""SQL for members."""

from uuid import UUID

from sqlalchemy import select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_kernel.ids import MemberId
from chappe_store.session import TenantScope
from chappe_tenants.members.models import Member


async def find_by_email(session: AsyncSession, scope: TenantScope, email: str) -> Member | None:
    found: Member | None = await session.scalar(
        select(Member).where(Member.tenant_id == scope.tenant_id, Member.email == email)
    )
    return found


async def insert_member(
    session: AsyncSession, scope: TenantScope, *, member_id: MemberId, email: str, role: str, password_hash: str
) -> None:
    """A member who exists already stays as they are."""
    await session.execute(
        insert(Member)
        .values(tenant_id=scope.tenant_id, id=member_id, email=email, role=role, password_hash=password_hash)
        .on_conflict_do_nothing(index_elements=["tenant_id", "email"])
    )


async def set_password(session: AsyncSession, scope: TenantScope, member_id: UUID, password_hash: str) -> None:
    await session.execute(
        update(Member)
        .where(Member.tenant_id == scope.tenant_id, Member.id == member_id)
        .values(password_hash=password_hash)
    )
