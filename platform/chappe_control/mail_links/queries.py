"""SQL for links. As the operator."""

from datetime import timedelta
from uuid import UUID

from sqlalchemy import delete, func, insert, select
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_control.mail_links.models import MailLink


async def insert_link(
    session: AsyncSession,
    *,
    link_id: UUID,
    purpose: str,
    email: str,
    organisation: str | None,
    digest: bytes,
    valid_for: timedelta,
) -> None:
    await session.execute(
        insert(MailLink).values(
            id=link_id,
            purpose=purpose,
            email=email,
            organisation=organisation,
            digest=digest,
            expires_at=func.now() + valid_for,
        )
    )


async def count_links(session: AsyncSession, purpose: str, email: str, since: timedelta) -> int:
    """How many this address was sent lately."""
    query = select(func.count()).where(
        MailLink.email == email, MailLink.purpose == purpose, MailLink.created_at > func.now() - since
    )
    return (await session.execute(query)).scalar_one()


async def find_link(session: AsyncSession, purpose: str, digest: bytes) -> MailLink | None:
    found: MailLink | None = await session.scalar(
        select(MailLink).where(MailLink.digest == digest, MailLink.purpose == purpose, MailLink.expires_at > func.now())
    )
    return found


async def delete_link(session: AsyncSession, purpose: str, digest: bytes) -> MailLink | None:
    """The link that was still good, if there was one. Of two at once, one gets it: the other waits and finds none."""
    deleted: MailLink | None = await session.scalar(
        delete(MailLink)
        .where(MailLink.digest == digest, MailLink.purpose == purpose, MailLink.expires_at > func.now())
        .returning(MailLink)
    )
    return deleted


async def delete_links_of(session: AsyncSession, purpose: str, email: str) -> None:
    await session.execute(delete(MailLink).where(MailLink.email == email, MailLink.purpose == purpose))


async def delete_expired(session: AsyncSession) -> None:
    await session.execute(delete(MailLink).where(MailLink.expires_at <= func.now()))
