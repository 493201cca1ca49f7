"""What the page of members shows."""

from collections.abc import Sequence
from uuid import UUID

from msgspec import Struct
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_control.cursors import cut_page
from chappe_store.session import TenantScope
from chappe_tenants.invitations.queries import InvitationRecord, list_invitations
from chappe_tenants.invitations.service import MAX_INVITATIONS
from chappe_tenants.members.queries import MemberRecord, count_owners, list_members

MEMBERS_PER_PAGE = 25


class MembersPage(Struct, frozen=True):
    """`owners` is how many there are: the last one can neither go nor become something else. `invitations` are all."""

    members: Sequence[MemberRecord]
    next_cursor: str | None
    owners: int
    invitations: Sequence[InvitationRecord]


async def read_members(
    session: AsyncSession, scope: TenantScope, before: UUID | None, *, with_invitations: bool
) -> MembersPage:
    rows = await list_members(session, scope, limit=MEMBERS_PER_PAGE + 1, before=before)
    shown, next_cursor = cut_page(rows, MEMBERS_PER_PAGE, lambda member: member.id)
    owners = await count_owners(session, scope)
    if not with_invitations:
        return MembersPage(shown, next_cursor, owners, ())
    return MembersPage(
        shown, next_cursor, owners, await list_invitations(session, scope, limit=MAX_INVITATIONS, before=None)
    )
