"""What happens to members: an account becomes one, gets another role, and is one no more."""

from enum import StrEnum

from sqlalchemy.ext.asyncio import AsyncSession

from chappe_kernel.errors import Conflict, Denied, NotFound
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
    """Whether somebody whose role is `giver`, and who may manage members at all, may give `role` or take it away.

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


async def change_role(
    session: AsyncSession, scope: TenantScope, member_id: MemberId, role: Role, *, giver: MemberId | None
) -> MemberRecord:
    """From the next request on, in open sessions too: each request reads the role. `giver` is None for the operator.

    Raises `NotFound`, also for another tenant's; `Denied` for a role that is not the giver's to give or to take;
    `Conflict` for the last owner.
    """
    await queries.lock_owners(session, scope)
    member = await get_member(session, scope, member_id)
    if member.role != role:
        await check_may_give(session, scope, giver, Role(member.role))
        await check_may_give(session, scope, giver, role)
        await _check_other_owner(session, scope, member)
        await queries.set_role(session, scope, member_id, role)
    return await get_member(session, scope, member_id)


async def remove_member(
    session: AsyncSession, scope: TenantScope, member_id: MemberId, *, giver: MemberId | None
) -> MemberRecord:
    """Who it was. Their sessions and browser tokens end with it. Whoever is no owner may leave, whatever their role.

    Raises as `change_role` does.
    """
    await queries.lock_owners(session, scope)
    member = await get_member(session, scope, member_id)
    if giver != member_id:
        await check_may_give(session, scope, giver, Role(member.role))
    await _check_other_owner(session, scope, member)
    await queries.delete_member(session, scope, member_id)
    return member


async def check_may_give(session: AsyncSession, scope: TenantScope, giver: MemberId | None, role: Role) -> None:
    """Raises `Denied` unless the giver may give this role, by the role that they have now. None is the operator."""
    if giver is None:
        return
    member = await queries.read_member(session, scope, giver)
    if member is None or not may_give(Role(member.role), role):
        raise Denied("only owners make owners, change them and remove them", code="owners_only", param="role")


async def _check_other_owner(session: AsyncSession, scope: TenantScope, member: MemberRecord) -> None:
    """Under `lock_owners`. The database refuses it too, less politely."""
    if member.role == Role.OWNER and await queries.count_owners(session, scope) == 1:
        raise Conflict("an organisation keeps at least one owner: make somebody else one first", code="last_owner")
