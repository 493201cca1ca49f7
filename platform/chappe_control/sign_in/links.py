"""What is asked for by mail: a link to sign up, or to choose a new password, and what happens when it is opened.

Asking does the same for every address and looks nothing up about it. Whoever opens the link has proved that they read
mail at the address; so they may learn, and do, what concerns it.
"""

from datetime import timedelta

from msgspec import Struct

from chappe_control.mail.orders import Order
from chappe_control.mail_links.service import VALID_FOR, OpenedLink, Purpose, look_at_link, make_link, use_link
from chappe_control.onboarding.service import Terms
from chappe_control.onboarding.service import sign_up as open_organisation
from chappe_control.origins import CallSource
from chappe_control.pages.guards import PORTAL_SIGN_IN
from chappe_control.sign_in.letters import Kind
from chappe_control.state import Services
from chappe_kernel.errors import NotFound
from chappe_kernel.ids import AccountId, MemberId, new_id
from chappe_store.audit_log.origin import ActorKind
from chappe_tenants.accounts import service as accounts
from chappe_tenants.accounts.queries import find_by_email
from chappe_tenants.organisations.lifecycle import TenantState
from chappe_tenants.organisations.service import Seller

SIGN_UP_LINK = "/sign-up/confirm"
RESET_LINK = "/reset-password"
FORGOTTEN = "/forgot-password"
_NEWS_FOR = timedelta(days=7)


class LinkAsked(Struct, frozen=True):
    """Who asks, as far as anybody can say: `email` is clean and may be anybody's, `address` is what is counted by."""

    email: str
    language: str
    address: str


async def ask_for_sign_up(services: Services, asked: LinkAsked, organisation: str) -> None:
    """A letter to the address: the link, or that there is an account. Raises `LimitExceeded`."""
    await _count(services, asked)
    async with services.database.operator() as session:
        secret = await make_link(session, Purpose.SIGN_UP, asked.email, organisation=organisation)
        if secret is not None:
            values = {
                "sign_up_url": _url(services, SIGN_UP_LINK, secret),
                "sign_in_url": services.settings.portal_url + PORTAL_SIGN_IN,
            }
            order = Order(Kind.SIGN_UP, asked.email, asked.language, values)
            await services.mail.order(session, order, useful_for=VALID_FOR[Purpose.SIGN_UP])


async def ask_for_password_reset(services: Services, asked: LinkAsked) -> None:
    """A letter to the address, if it has an account. Raises `LimitExceeded`."""
    await _count(services, asked)
    async with services.database.operator() as session:
        secret = await make_link(session, Purpose.RESET, asked.email)
        if secret is not None:
            values = {"reset_url": _url(services, RESET_LINK, secret)}
            order = Order(Kind.RESET, asked.email, asked.language, values)
            await services.mail.order(session, order, useful_for=VALID_FOR[Purpose.RESET])


async def look_at(services: Services, purpose: Purpose, secret: str) -> OpenedLink:
    """What the page behind the link shows. Looking does not use it up: mail scanners look at every link.

    Raises `NotFound` with code `link_over`.
    """
    async with services.database.operator() as session:
        return await look_at_link(session, purpose, secret)


async def finish_sign_up(services: Services, secret: str, password: str, source: CallSource) -> str:
    """A new organisation with its owner, who is signed in: the session's secret. All of it in one transaction.

    Raises `NotFound` with code `link_over`; `Conflict` with code `email_taken` if the address got an account since.
    """
    password_hash = await services.passwords.hash(password)
    settings = services.settings
    terms = Terms(
        Seller(currency=settings.sign_up_currency),
        settings.sign_up_requests_per_minute,
        settings.welcome_credit_nano,
        state=TenantState.APPLIED if settings.sign_up_review else TenantState.ACTIVE,
    )
    owner_id = MemberId(new_id())
    async with services.database.operator(source.origin(ActorKind.SIGN_UP, owner_id)) as session:
        link = await use_link(session, Purpose.SIGN_UP, secret)
        return await open_organisation(
            session,
            organisation=link.organisation or "",
            owner_id=owner_id,
            email=link.email,
            password_hash=password_hash,
            terms=terms,
        )


async def finish_password_reset(
    services: Services, secret: str, password: str, *, language: str, source: CallSource
) -> None:
    """The new password alone opens the account; who was signed in is signed out, and a letter says so.

    Raises `NotFound` with code `link_over`, also if there is no account (any more).
    """
    async with services.database.operator() as session:
        email = (await look_at_link(session, Purpose.RESET, secret)).email
        account = await find_by_email(session, email)
    if account is None:
        raise NotFound("there is no such account", code="link_over")
    password_hash = await services.passwords.hash(password)
    async with services.database.operator(source.origin(ActorKind.MAIL_READER, account.id)) as session:
        await use_link(session, Purpose.RESET, secret)
        await accounts.set_password(session, AccountId(account.id), password_hash)
        values = {"forgot_url": services.settings.portal_url + FORGOTTEN}
        order = Order(Kind.CHANGED, email, language, values)
        await services.mail.order(session, order, useful_for=_NEWS_FOR)


async def _count(services: Services, asked: LinkAsked) -> None:
    await services.throttle.count("links", asked.address, services.settings.links_per_minute)


def _url(services: Services, path: str, secret: str) -> str:
    return f"{services.settings.portal_url}{path}?link={secret}"
