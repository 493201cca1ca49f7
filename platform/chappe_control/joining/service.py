"""What happens behind an invitation's link: whoever reads mail at its address becomes a member, and is signed in.

The link shows that, and no more: whoever has an account already shows that it is theirs, by a session or a password.
"""

from msgspec import Struct
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_control.origins import CallSource
from chappe_control.sign_in.service import SignIn, prove, sign_out_member
from chappe_control.state import Services
from chappe_kernel.errors import Conflict, Denied
from chappe_kernel.ids import AccountId, MemberId, new_id
from chappe_store.audit_log.origin import ActorKind
from chappe_store.session import NOBODY
from chappe_tenants.accounts.service import open_account
from chappe_tenants.invitations.queries import FoundInvitation
from chappe_tenants.invitations.service import accept, find_invitation
from chappe_tenants.sessions.service import MemberVisitor, admits_newcomers, start_member_session


class Joining(Struct, frozen=True):
    """Who accepts. `visitor` is who is signed in, `presented` the secret of their session, `address` what attempts are
    counted by. The password is the account's, or what a new one's shall be: it fits the rules then."""

    visitor: MemberVisitor | None
    presented: str | None
    password: str
    address: str
    source: CallSource


async def look_at(services: Services, secret: str) -> FoundInvitation:
    """It stays good. Raises `NotFound` for a link that opens nothing."""
    async with services.database.tenant(NOBODY) as session:
        return await find_invitation(session, secret)


def is_invited(visitor: MemberVisitor | None, found: FoundInvitation) -> bool:
    """Whether who is signed in is whom the invitation is for."""
    return visitor is not None and visitor.account_id == found.account_id


async def join(services: Services, found: FoundInvitation, asked: Joining) -> str:
    """A new session's secret, in the organisation; the session that the browser had before is ended.

    Raises as `prove` does for a wrong password; `Denied` for an organisation in which nothing can be changed;
    `NotFound` if the invitation is over meanwhile; `Conflict` for a member, and for an address that has got an account
    meanwhile.
    """
    if not admits_newcomers(found.tenant_state):
        raise Denied("this organisation is not active", code="tenant_not_active")
    if found.account_id is None:
        account_id, password_hash = None, await services.passwords.hash(asked.password)
    else:
        account_id, password_hash = await _prove_account(services, found, asked), ""
    member_id = MemberId(new_id())
    async with services.database.operator(asked.source.origin(ActorKind.SIGN_UP, member_id)) as session:
        if account_id is None:
            account_id = await _open_account(session, found, password_hash)
        scope = await accept(session, found, account_id=account_id, member_id=member_id)
        secret = await start_member_session(session, scope, member_id)
    await sign_out_member(services, asked.presented, asked.source)
    return secret


async def _prove_account(services: Services, found: FoundInvitation, asked: Joining) -> AccountId:
    if asked.visitor is not None and is_invited(asked.visitor, found):
        return asked.visitor.account_id
    return (await prove(services, SignIn(found.email, asked.password, asked.address, asked.source))).account_id


async def _open_account(session: AsyncSession, found: FoundInvitation, password_hash: str) -> AccountId:
    try:
        return await open_account(session, email=found.email, password_hash=password_hash)
    except Conflict as error:
        raise Conflict("this address has an account by now", code="account_since") from error
