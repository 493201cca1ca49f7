"""What happens to sessions: a sign-in starts one, each request shows one, signing out ends one. No row is a secret."""

from uuid import UUID

from msgspec import Struct
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_kernel.ids import AccountId, MemberId, OperatorUserId, TenantId, new_id
from chappe_store.session import TenantScope
from chappe_tenants.bearer_secrets import digest_secret, is_well_formed, new_secret
from chappe_tenants.members.queries import note_sign_in
from chappe_tenants.members.service import Role
from chappe_tenants.operators.service import OperatorRole
from chappe_tenants.organisations.lifecycle import Access, TenantState, effect_of
from chappe_tenants.sessions import queries
from chappe_tenants.sessions.lifetimes import CONSOLE, PORTAL


class OwnOrganisation(Struct, frozen=True):
    """One that the visitor's account is a member of. Its scope is proof of that, and good for switching to it."""

    scope: TenantScope
    name: str


class MemberVisitor(Struct, frozen=True):
    """A signed-in member. Only a look-up of the session's secret makes one, and its scope opens this tenant alone,
    as far as the tenant's state lets it.

    `organisations` are all that the account is a member of, by name, this one among them.
    """

    scope: TenantScope
    session_id: UUID
    member_id: MemberId
    account_id: AccountId
    email: str
    role: Role
    tenant_name: str
    tenant_state: TenantState
    currency: str
    organisations: tuple[OwnOrganisation, ...]


class OperatorVisitor(Struct, frozen=True):
    """A signed-in user of the operator's."""

    session_id: UUID
    user_id: OperatorUserId
    email: str
    role: OperatorRole


class OwnSession(Struct, frozen=True):
    """A member's session, to be ended and for nothing else."""

    scope: TenantScope
    session_id: UUID
    member_id: MemberId


def admits_members(tenant_state: str) -> bool:
    """Whether members of an organisation in this state may be signed in to it."""
    return effect_of(tenant_state).members is not Access.NOTHING


def admits_newcomers(tenant_state: str) -> bool:
    """Whether somebody may become a member of an organisation in this state: not while nothing can be changed."""
    return effect_of(tenant_state).members not in {Access.NOTHING, Access.READ}


async def start_member_session(
    session: AsyncSession, scope: TenantScope, member_id: MemberId, *, language: str | None = None
) -> str:
    """A new session's secret, which nobody can read again. Sessions of this tenant that are over are deleted.
    `language` is the portal's for this member, if that is known."""
    await queries.delete_expired_member_sessions(session, scope, PORTAL.idle)
    await note_sign_in(session, scope, member_id, language)
    secret = new_secret()
    await queries.insert_member_session(
        session,
        scope,
        session_id=new_id(),
        member_id=member_id,
        digest=digest_secret(secret),
        absolute=PORTAL.absolute,
    )
    return secret


async def find_member(session: AsyncSession, secret: str) -> tuple[MemberVisitor, bool] | None:
    """Whose session this is, and whether it is time to `touch_member_session`. None: the session is over, was never,
    or its tenant is closed."""
    found = await _find_member_session(session, secret)
    if found is None or not admits_members(found.tenant_state):
        return None
    visitor = MemberVisitor(
        scope=TenantScope(TenantId(found.tenant_id)),
        session_id=found.session_id,
        member_id=MemberId(found.member_id),
        account_id=AccountId(found.account_id),
        email=found.email,
        role=Role(found.role),
        tenant_name=found.tenant_name,
        tenant_state=TenantState(found.tenant_state),
        currency=found.currency,
        organisations=tuple(
            OwnOrganisation(TenantScope(TenantId(tenant_id)), name)
            for tenant_id, name in zip(found.organisation_ids, found.organisation_names, strict=True)
        ),
    )
    return visitor, found.rested


async def find_own_session(session: AsyncSession, secret: str) -> OwnSession | None:
    """The session behind a secret, to end it: whoever holds the secret may, also where the tenant is closed."""
    found = await _find_member_session(session, secret)
    if found is None:
        return None
    return OwnSession(TenantScope(TenantId(found.tenant_id)), found.session_id, MemberId(found.member_id))


async def touch_member_session(session: AsyncSession, visitor: MemberVisitor) -> None:
    """Note in the database's time that the session was seen."""
    await queries.touch_member_session(session, visitor.scope, visitor.session_id)


async def end_member_session(session: AsyncSession, scope: TenantScope, session_id: UUID) -> None:
    """Its secret opens nothing from now on. Safe to repeat."""
    await queries.delete_member_session(session, scope, session_id)


async def start_operator_session(session: AsyncSession, user_id: OperatorUserId) -> str:
    """A new session's secret. All operator sessions that are over are deleted."""
    await queries.delete_expired_operator_sessions(session, CONSOLE.idle)
    secret = new_secret()
    await queries.insert_operator_session(
        session, session_id=new_id(), user_id=user_id, digest=digest_secret(secret), absolute=CONSOLE.absolute
    )
    return secret


async def find_operator(session: AsyncSession, secret: str) -> tuple[OperatorVisitor, bool] | None:
    """Whose session this is, and whether it is time to `touch_operator_session`. None: it is over, or never was."""
    if not is_well_formed(secret):
        return None
    found = await queries.find_operator_session(session, digest_secret(secret), CONSOLE.idle)
    if found is None:
        return None
    visitor = OperatorVisitor(
        session_id=found.session_id,
        user_id=OperatorUserId(found.user_id),
        email=found.email,
        role=OperatorRole(found.role),
    )
    return visitor, found.rested


async def touch_operator_session(session: AsyncSession, visitor: OperatorVisitor) -> None:
    """Note in the database's time that the session was seen."""
    await queries.touch_operator_session(session, visitor.session_id)


async def end_operator_session(session: AsyncSession, session_id: UUID) -> None:
    """Its secret opens nothing from now on. Safe to repeat."""
    await queries.delete_operator_session(session, session_id)


async def _find_member_session(session: AsyncSession, secret: str) -> queries.FoundMemberSession | None:
    if not is_well_formed(secret):
        return None
    return await queries.find_member_session(session, digest_secret(secret), PORTAL.idle)
