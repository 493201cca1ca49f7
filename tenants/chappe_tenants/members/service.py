"""What happens to members."""

from enum import StrEnum

from sqlalchemy.ext.asyncio import AsyncSession

from chappe_kernel.errors import Conflict
from chappe_kernel.ids import MemberId, new_id
from chappe_store.session import TenantScope
from chappe_tenants.members import queries
from chappe_tenants.naming import clean_email
from chappe_tenants.passwords import hash_password, verify_password


class Role(StrEnum):
    """What a member may do in their tenant."""

    OWNER = "owner"
    ADMIN = "admin"
    DEVELOPER = "developer"
    BILLING = "billing"
    VIEWER = "viewer"


async def put_member(session: AsyncSession, scope: TenantScope, *, email: str, password: str, role: Role) -> None:
    """The member exists with this password afterwards. Safe to repeat: an unchanged password keeps its hash.

    Raises `Conflict` if a member of another tenant has the address.
    """
    address = clean_email(email)
    member = await queries.find_by_email(session, scope, address)
    if member is None:
        await add_member(
            session,
            scope,
            member_id=MemberId(new_id()),
            email=address,
            password_hash=hash_password(password),
            role=role,
        )
    elif not verify_password(member.password_hash, password):
        await queries.set_password(session, scope, member.id, hash_password(password))


async def add_member(
    session: AsyncSession, scope: TenantScope, *, member_id: MemberId, email: str, password_hash: str, role: Role
) -> None:
    """A new member. `email` is clean. Raises `Conflict` if somebody has the address, in whatever tenant."""
    added = await queries.insert_member(
        session, scope, member_id=member_id, email=email, role=role, password_hash=password_hash
    )
    if not added:
        raise Conflict("somebody has this address already", code="email_taken", param="email")
