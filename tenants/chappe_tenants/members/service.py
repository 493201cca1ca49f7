"""What happens to members: an account becomes one, gets another role, and is one no more."""

from enum import StrEnum

from sqlalchemy.ext.asyncio import AsyncSession

from chappe_kernel.errors import Conflict, NotFound
from chappe_kernel.ids import AccountId, MemberId, new_id
from chappe_store.session import TenantScope
from chappe_tenants.accounts.service import put_account
from chappe_tenants.members import queries
from chappe_tenants.members.queries import MemberRecord
from chappe_tenants.naming import clean_email


class Role(StrEnum):
    """What a member may do in their tenant."""

    OWNER = "owner"
    ADMIN = "admin"
    DEVELOPER = "developer"
    BILLING = "billing"
    VIEWER = "viewer"


def may_give(giver: Role, role: Role) -> bool:
    """Whether somebody who manages members in the role `giver` may give `role`, or take it away.

    Only owners make owners and unmake them, so that nobody rises through somebody whom they invite.
    """
    return role is not Role.OWNER or giver is Role.OWNER


async def put_member(session: AsyncSession, scope: TenantScope, *, email: str, password: str, role: Role) -> None:
    """The account exists with this password afterwards, and is a member. Safe to repeat: a member keeps their role, and
    an unchanged password its hash. As the operator."""
    address = clean_email(email)
    account_id = await put_account(session, email=address, password=password)
    if await queries.find_by_account(session, scope, account_id) is None:
        await add_member(session, scope, member_id=MemberId(new_id()), account_id=account_id, email=address, role=role)


async def add_member(
    session: AsyncSession, scope: TenantScope, *, member_id: MemberId, account_id: AccountId, email: str, role: Role
) -> None:
    """The account becomes a member. `email` is its address. Raises `Conflict` if it is one already. As the operator."""
    added = await queries.insert_member(
        session, scope, member_id=member_id, account_id=account_id, email=email, role=role
    )
    if not added:
        raise Conflict("somebody with this address is a member already", code="already_member", param="email")


async def get_member(session: AsyncSession, scope: TenantScope, member_id: MemberId) -> MemberRecord:
    """Raises `NotFound`, also for another tenant's."""
    member = await queries.read_member(session, scope, member_id)
    if member is None:
        raise NotFound("no such member")
    return member
