"""SQL for members."""

from uuid import UUID

from msgspec import Struct
from sqlalchemy import select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_kernel.ids import MemberId
from chappe_store.session import TenantScope
from chappe_tenants.members.models import Member

_FIND_SIGN_IN = text("SELECT * FROM find_member_by_email(:address)")


class FoundSignIn(Struct, frozen=True):
    """What a sign-in needs to know before a tenant is known."""

    tenant_id: UUID
    member_id: UUID
    password_hash: str
    tenant_state: str


async def find_sign_in(session: AsyncSession, email: str) -> FoundSignIn | None:
    """Across tenants, by a function that alone may look before the tenant is known."""
    row = (await session.execute(_FIND_SIGN_IN, {"address": email})).mappings().first()
    return None if row is None else FoundSignIn(**row)


async def find_by_email(session: AsyncSession, scope: TenantScope, email: str) -> Member | None:
    found: Member | None = await session.scalar(
        select(Member).where(Member.tenant_id == scope.tenant_id, Member.email == email)
    )
    return found


async def insert_member(
    session: AsyncSession, scope: TenantScope, *, member_id: MemberId, email: str, role: str, password_hash: str
) -> bool:
    """False, and nothing inserted, if somebody has this address, in whatever tenant."""
    inserted = await session.scalar(
        insert(Member)
        .values(tenant_id=scope.tenant_id, id=member_id, email=email, role=role, password_hash=password_hash)
        .on_conflict_do_nothing(index_elements=["email"])
        .returning(Member.id)
    )
    return inserted is not None


async def set_password(session: AsyncSession, scope: TenantScope, member_id: UUID, password_hash: str) -> None:
    await session.execute(
        update(Member)
        .where(Member.tenant_id == scope.tenant_id, Member.id == member_id)
        .values(password_hash=password_hash)
    )
