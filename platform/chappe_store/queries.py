"""The store's own SQL."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_store.models import Instance, KeysRevision


async def read_epoch(session: AsyncSession) -> UUID:
    """The database's identity; it changes with a restore."""
    return (await session.execute(select(Instance.epoch))).scalar_one()


async def read_now(session: AsyncSession) -> datetime:
    """The database's time, at which this transaction began."""
    return (await session.execute(select(func.now()))).scalar_one()


async def renew_epoch(session: AsyncSession) -> UUID:
    """Give the database a new identity, after it was restored from a backup: regions send their records again."""
    statement = update(Instance).values(epoch=func.uuidv7()).returning(Instance.epoch)
    return (await session.execute(statement)).scalar_one()


async def read_keys_revision(session: AsyncSession) -> int:
    return (await session.execute(select(KeysRevision.revision))).scalar_one()


async def bump_keys_revision(session: AsyncSession) -> None:
    """Announce, when this transaction commits, that some key's facts changed. Locks the row until then."""
    await session.execute(update(KeysRevision).values(revision=KeysRevision.revision + 1))
