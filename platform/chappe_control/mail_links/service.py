"""What happens to links. A link's secret is in one mail, sealed until it is sent, and nowhere else."""

from collections.abc import Mapping
from datetime import timedelta
from enum import StrEnum
from typing import Final

from msgspec import Struct
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_control.mail_links import queries
from chappe_control.mail_links.models import MailLink
from chappe_kernel.errors import NotFound
from chappe_kernel.ids import new_id
from chappe_tenants.bearer_secrets import digest_secret, is_well_formed, new_secret

# Nobody's mailbox is filled by somebody who types its address again and again. The letters that came before still work.
_MOST_PER_HOUR: Final = 5
_HOUR: Final = timedelta(hours=1)


class Purpose(StrEnum):
    """What a link is good for, and nothing else."""

    SIGN_UP = "sign_up"
    RESET = "password_reset"


VALID_FOR: Mapping[Purpose, timedelta] = {
    Purpose.SIGN_UP: timedelta(hours=24),
    Purpose.RESET: timedelta(hours=1),
}


class OpenedLink(Struct, frozen=True):
    """What is known of whoever holds the link's secret: they read mail at `email`."""

    email: str
    organisation: str | None


async def make_link(
    session: AsyncSession, purpose: Purpose, email: str, *, organisation: str | None = None
) -> str | None:
    """A new link's secret; None if the address has had too many within the hour. The same work for every address."""
    await queries.delete_expired(session)
    if await queries.count_links(session, purpose, email, _HOUR) >= _MOST_PER_HOUR:
        return None
    secret = new_secret()
    await queries.insert_link(
        session,
        link_id=new_id(),
        purpose=purpose,
        email=email,
        organisation=organisation,
        digest=digest_secret(secret),
        valid_for=VALID_FOR[purpose],
    )
    return secret


async def look_at_link(session: AsyncSession, purpose: Purpose, secret: str) -> OpenedLink:
    """What the link is about; it stays good. Raises `NotFound` with code `link_over`."""
    return _opened(await queries.find_link(session, purpose, digest_secret(secret)) if is_well_formed(secret) else None)


async def use_link(session: AsyncSession, purpose: Purpose, secret: str) -> OpenedLink:
    """Ends the link, and all others of its address that are for the same. Raises `NotFound` with code `link_over`."""
    link = _opened(
        await queries.delete_link(session, purpose, digest_secret(secret)) if is_well_formed(secret) else None
    )
    await queries.delete_links_of(session, purpose, link.email)
    return link


def _opened(found: MailLink | None) -> OpenedLink:
    if found is None:
        raise NotFound("this link was used, or is too old", code="link_over")
    return OpenedLink(found.email, found.organisation)
