"""SQL for applying a catalogue."""

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

# Any constant will do; it makes two appliers take turns.
_APPLY_LOCK = 0x6368617070650002


async def lock_catalogue(session: AsyncSession) -> None:
    """Held until the transaction ends."""
    await session.execute(select(func.pg_advisory_xact_lock(_APPLY_LOCK)))
