"""The store's own SQL."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_kernel.errors import Unavailable
from chappe_store.models import Instance, KeyChange, KeysRevision
from chappe_store.session import TenantScope


async def read_epoch(session: AsyncSession) -> UUID:
    """The database's identity; it changes with a restore. Raises `Unavailable` on a server that has not been given one
    yet: whoever told its epoch to a gateway would make the gateway forget what only the lost database had."""
    epoch, is_same = (await session.execute(select(Instance.epoch, Instance.server == func.server_identity()))).one()
    if not is_same:
        raise Unavailable("the database was restored and has no identity yet", code="database_restored")
    found: UUID = epoch
    return found


async def is_same_server(session: AsyncSession, *, for_update: bool = False) -> bool:
    """Whether the epoch was given to this server, on this timeline. With `for_update` nobody else can renew it now."""
    query = select(Instance.server == func.server_identity())
    return bool((await session.execute(query.with_for_update() if for_update else query)).scalar_one())


async def read_now(session: AsyncSession) -> datetime:
    """The database's time, at which this transaction began."""
    return (await session.execute(select(func.now()))).scalar_one()


async def renew_epoch(session: AsyncSession) -> UUID:
    """Give the database a new identity, after it was restored from a backup: regions send their records again."""
    values = {"epoch": func.uuidv7(), "server": func.server_identity()}
    statement = update(Instance).values(values).returning(Instance.epoch)
    return (await session.execute(statement)).scalar_one()


async def read_keys_revision(session: AsyncSession) -> int:
    return (await session.execute(select(KeysRevision.revision))).scalar_one()


async def bump_keys_revision(session: AsyncSession) -> None:
    """Announce, when this transaction commits, that some key's facts changed. Locks the row until then."""
    await session.execute(update(KeysRevision).values(revision=KeysRevision.revision + 1))


async def read_key_changes(session: AsyncSession, since: int, limit: int) -> Sequence[KeyChange]:
    """The first `limit` after this revision. Read a revision before, and these have all that led to it."""
    query = select(KeyChange).where(KeyChange.revision > since).order_by(KeyChange.revision).limit(limit)
    return (await session.scalars(query)).all()


async def read_last_key_change(session: AsyncSession, scope: TenantScope) -> KeyChange | None:
    """The newest that concerns this tenant or one of its keys."""
    query = select(KeyChange).where(KeyChange.tenant_id == scope.tenant_id).order_by(KeyChange.revision.desc()).limit(1)
    return (await session.scalars(query)).one_or_none()
