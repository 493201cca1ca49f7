"""What happens to invitations: one is made, sent again, withdrawn, and accepted once. No row holds a link's secret."""

from datetime import timedelta

from msgspec import Struct
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_kernel.errors import Conflict, LimitExceeded, NotFound
from chappe_kernel.ids import AccountId, InvitationId, MemberId, TenantId, new_id
from chappe_store.session import TenantScope
from chappe_tenants.bearer_secrets import digest_secret, is_well_formed, new_secret
from chappe_tenants.invitations import queries
from chappe_tenants.invitations.queries import FoundInvitation, InvitationRecord
from chappe_tenants.members import queries as members
from chappe_tenants.members.service import Role, add_member, check_may_give
from chappe_tenants.naming import clean_email
from chappe_tenants.organisations.lifecycle import Authority, TenantState
from chappe_tenants.organisations.service import get_organisation

VALID_FOR = timedelta(days=7)
MAX_MEMBERS = 1000
MAX_INVITATIONS = 100
REST = timedelta(minutes=1)
"""An invitation is sent again at most this often: the mailbox is somebody else's."""


class Invited(Struct, frozen=True):
    """`secret` is stored nowhere: it goes into one link."""

    invitation: InvitationRecord
    secret: str


async def invite(
    session: AsyncSession, scope: TenantScope, *, email: str, role: Role, giver: MemberId | None
) -> Invited:
    """Ask whoever reads mail at this address to become a member. `giver` is None for the operator's own people.

    Raises `Denied` for a role that is not the giver's to give, `Conflict` for a member's address and for one that was
    invited already, `Invalid` for what is no address.
    """
    address = clean_email(email)
    await check_may_give(session, scope, giver, role)
    if await members.has_address(session, scope, address):
        raise Conflict("somebody with this address is a member already", code="already_member", param="email")
    if await queries.count_invitations(session, scope) >= MAX_INVITATIONS:
        text = f"an organisation has at most {MAX_INVITATIONS} open invitations: withdraw one first"
        raise Conflict(text, code="too_many_invitations")
    invitation_id, secret = InvitationId(new_id()), new_secret()
    inserted = await queries.insert_invitation(
        session,
        scope,
        invitation_id=invitation_id,
        email=address,
        role=role,
        digest=digest_secret(secret),
        valid_for=VALID_FOR,
    )
    if not inserted:
        raise Conflict("this address was invited already: send it again", code="already_invited", param="email")
    return Invited(await get_invitation(session, scope, invitation_id), secret)


async def invite_owner(session: AsyncSession, scope: TenantScope, email: str, authority: Authority) -> Invited:
    """Ask somebody to own an organisation, by whoever began it; once more if they were asked before. In the operator's
    role, whoever decides.

    A reseller may as long as nobody owns the customer: later on it would open its customer's doors for itself. Raises
    `Conflict` then, for a closed organisation and for an address that was invited as something else; `LimitExceeded`
    right after the last time; else as `invite` does.
    """
    if (await get_organisation(session, scope)).state == TenantState.CLOSED:
        raise Conflict("a closed organisation has no new members", code="organisation_closed")
    if authority is Authority.RESELLER and await members.count_owners(session, scope):
        raise Conflict("it has an owner, who invites all others", code="has_owner")
    present = await queries.find_by_address(session, scope, clean_email(email))
    if present is None:
        return await invite(session, scope, email=email, role=Role.OWNER, giver=None)
    if present.role != Role.OWNER:
        raise Conflict("this address was invited already, as something else", code="already_invited", param="email")
    return await send_again(session, scope, InvitationId(present.id), giver=None)


async def send_again(
    session: AsyncSession, scope: TenantScope, invitation_id: InvitationId, *, giver: MemberId | None
) -> Invited:
    """Under another secret, for another seven days: links from before open nothing. Expired ones can be sent again.

    Raises `NotFound`, also for another tenant's; `Denied` as `invite` does; `LimitExceeded` right after the last time.
    """
    invitation = await get_invitation(session, scope, invitation_id)
    await check_may_give(session, scope, giver, Role(invitation.role))
    secret = new_secret()
    renewed = await queries.renew_invitation(
        session, scope, invitation_id, digest=digest_secret(secret), valid_for=VALID_FOR, rest=REST
    )
    if not renewed:
        rest_s = REST.total_seconds()
        raise LimitExceeded("this invitation was sent a moment ago", retry_after_s=rest_s, code="sent_lately")
    return Invited(await get_invitation(session, scope, invitation_id), secret)


async def withdraw(
    session: AsyncSession, scope: TenantScope, invitation_id: InvitationId, *, giver: MemberId | None
) -> InvitationRecord:
    """Its link opens nothing any more. Raises `NotFound`, also for another tenant's; `Denied` as `invite` does."""
    invitation = await get_invitation(session, scope, invitation_id)
    await check_may_give(session, scope, giver, Role(invitation.role))
    await queries.delete_invitation(session, scope, invitation_id)
    return invitation


async def get_invitation(session: AsyncSession, scope: TenantScope, invitation_id: InvitationId) -> InvitationRecord:
    """Raises `NotFound`, also for another tenant's."""
    invitation = await queries.read_invitation(session, scope, invitation_id)
    if invitation is None:
        raise NotFound("no such invitation")
    return invitation


async def find_invitation(session: AsyncSession, secret: str) -> FoundInvitation:
    """What whoever holds the link may know. Raises `NotFound`, the same for every link that opens nothing: one that was
    used, withdrawn, sent again or expired, and one that never was."""
    found = await queries.find_invitation(session, digest_secret(secret)) if is_well_formed(secret) else None
    if found is None:
        raise NotFound("this invitation is not valid any more", code="invitation_over")
    return found


async def accept(
    session: AsyncSession, found: FoundInvitation, *, account_id: AccountId, member_id: MemberId
) -> TenantScope:
    """The account becomes a member in the invitation's role, once. It must be the account of the invitation's address,
    and whoever accepts must have shown that it is theirs. As the operator.

    Raises `NotFound` if the invitation is over meanwhile, `Conflict` if the account is a member already or the
    organisation has as many as it may have.
    """
    scope = TenantScope(TenantId(found.tenant_id))
    if not await queries.take_invitation(session, scope, found):
        raise NotFound("this invitation is not valid any more", code="invitation_over")
    if await members.count_members(session, scope) >= MAX_MEMBERS:
        raise Conflict(f"an organisation has at most {MAX_MEMBERS} members", code="too_many_members")
    await add_member(
        session, scope, member_id=member_id, account_id=account_id, email=found.email, role=Role(found.role)
    )
    return scope
