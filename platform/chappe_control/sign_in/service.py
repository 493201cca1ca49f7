"""What happens at a sign-in: the password is looked at outside of every transaction, and only then a session begins."""

from collections.abc import Sequence

from litestar.datastructures import Cookie
from msgspec import Struct

from chappe_control.origins import CallSource
from chappe_control.sign_in.attempts import Attempts, Realm
from chappe_control.sign_in.devices import Devices
from chappe_control.state import Services
from chappe_kernel.errors import Denied, Invalid, NotFound
from chappe_kernel.ids import MemberId, OperatorUserId, TenantId
from chappe_store.audit_log.origin import ActorKind
from chappe_store.session import NOBODY, TenantScope
from chappe_tenants.accounts import queries as accounts
from chappe_tenants.accounts.queries import FoundAccount, Membership
from chappe_tenants.members import queries as members
from chappe_tenants.naming import clean_email
from chappe_tenants.operators import queries as operators
from chappe_tenants.organisations.service import get_organisation
from chappe_tenants.sessions import service as sessions
from chappe_tenants.sessions.service import MemberVisitor


class SignIn(Struct, frozen=True):
    """What somebody sent. `address` is what attempts are counted by, `presented` the session's secret that the
    browser has already, `device` its cookie from when somebody signed in there before, `language` the one in which the
    page was shown."""

    email: str
    password: str
    address: str
    source: CallSource
    presented: str | None = None
    device: str | None = None
    language: str | None = None


async def sign_in_member(services: Services, asked: SignIn) -> str:
    """A new session's secret; the session that the browser had before is ended.

    Raises `Denied` with code `wrong_sign_in`, the same for an unknown address and a wrong password, and after as much
    work; `Denied` with code `tenant_not_active` or `no_organisation`, only to those who have the password;
    `LimitExceeded`. Of several organisations it is the one that was signed in to last, of those that are active.
    """
    membership = _choose((await prove(services, asked)).memberships)
    scope = TenantScope(TenantId(membership.tenant_id))
    origin = asked.source.origin(ActorKind.MEMBER, membership.member_id)
    async with services.database.tenant(scope, origin) as session:
        secret = await sessions.start_member_session(
            session, scope, MemberId(membership.member_id), language=asked.language
        )
    await sign_out_member(services, asked.presented, asked.source)
    return secret


async def prove(services: Services, asked: SignIn) -> FoundAccount:
    """The account whose password this is. Nobody is signed in by that yet.

    Raises `Denied` with code `wrong_sign_in`, the same for an unknown address and a wrong password, and after as much
    work; `LimitExceeded`.
    """
    email = _readable_email(asked.email)
    attempts = Attempts(services.throttle, services.settings, Realm.PORTAL)
    known = _devices(services, Realm.PORTAL).recognise(asked.device, email)
    noted = await attempts.begin(email, asked.address, known)
    async with services.database.tenant(NOBODY) as session:
        found = await accounts.find_account(session, email)
    right = await services.passwords.verify(found.password_hash if found else None, asked.password)
    if found is None or not right:
        raise _wrong()
    await attempts.succeed(noted)
    return found


async def switch_organisation(
    services: Services, visitor: MemberVisitor, tenant_id: TenantId, source: CallSource
) -> str:
    """A new session's secret, in another organisation of the visitor's account; the one they come from is ended.

    Raises `NotFound` for an organisation that the account is no member of, `Denied` for one that is closed.
    """
    own = next((own for own in visitor.organisations if own.scope.tenant_id == tenant_id), None)
    if own is None:
        raise NotFound("no such organisation")
    async with services.database.tenant(own.scope) as session:
        member_id = await members.find_by_account(session, own.scope, visitor.account_id)
        tenant = await get_organisation(session, own.scope)
    if member_id is None:
        raise NotFound("no such organisation")
    if not sessions.admits_members(tenant.state):
        raise Denied("this organisation is not active", code="tenant_not_active")
    async with services.database.tenant(own.scope, source.origin(ActorKind.MEMBER, member_id)) as session:
        secret = await sessions.start_member_session(session, own.scope, member_id)
    async with services.database.tenant(visitor.scope, source.origin(ActorKind.MEMBER, visitor.member_id)) as session:
        await sessions.end_member_session(session, visitor.scope, visitor.session_id)
    return secret


async def sign_out_member(services: Services, secret: str | None, source: CallSource) -> None:
    """The session ends, if there is one: its row is gone, and with it whatever hangs on it."""
    if not secret:
        return
    async with services.database.tenant(NOBODY) as session:
        own = await sessions.find_own_session(session, secret)
    if own is not None:
        origin = source.origin(ActorKind.MEMBER, own.member_id)
        async with services.database.tenant(own.scope, origin) as session:
            await sessions.end_member_session(session, own.scope, own.session_id)


async def sign_in_operator(services: Services, asked: SignIn) -> str:
    """The same for a user of the operator's. Raises `Denied` with code `wrong_sign_in`, and `LimitExceeded`."""
    email = _readable_email(asked.email)
    attempts = Attempts(services.throttle, services.settings, Realm.CONSOLE)
    known = _devices(services, Realm.CONSOLE).recognise(asked.device, email)
    noted = await attempts.begin(email, asked.address, known)
    async with services.database.operator() as session:
        user = await operators.find_by_email(session, email)
    right = await services.passwords.verify(user.password_hash if user else None, asked.password)
    if user is None or not right:
        raise _wrong()
    await attempts.succeed(noted)
    async with services.database.operator(asked.source.origin(ActorKind.OPERATOR_USER, user.id)) as session:
        secret = await sessions.start_operator_session(session, OperatorUserId(user.id))
    await sign_out_operator(services, asked.presented, asked.source)
    return secret


async def sign_out_operator(services: Services, secret: str | None, source: CallSource) -> None:
    """The session ends, if there is one."""
    if not secret:
        return
    async with services.database.operator() as session:
        found = await sessions.find_operator(session, secret)
    if found is not None:
        visitor, _ = found
        async with services.database.operator(source.origin(ActorKind.OPERATOR_USER, visitor.user_id)) as session:
            await sessions.end_operator_session(session, visitor.session_id)


def device_cookie(services: Services, realm: Realm, email: str) -> Cookie:
    """For the browser in which somebody has just signed in as `email`, however they typed it."""
    return _devices(services, realm).sign(_readable_email(email))


def _devices(services: Services, realm: Realm) -> Devices:
    return Devices(services.peppers, realm, services.clock)


def _choose(memberships: Sequence[Membership]) -> Membership:
    """The first that somebody may sign in to."""
    for membership in memberships:
        if sessions.admits_members(membership.tenant_state):
            return membership
    if memberships:
        raise Denied("this organisation is not active", code="tenant_not_active")
    raise Denied("this account is a member of no organisation", code="no_organisation")


def _readable_email(text: str) -> str:
    """The address as it is stored, or one that nobody has."""
    try:
        return clean_email(text)
    except Invalid:
        return ""


def _wrong() -> Denied:
    return Denied("the e-mail address or the password is wrong", code="wrong_sign_in")
