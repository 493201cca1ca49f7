"""The control plane signs the audit log regularly, and raises the alarm when it is not what it signed before."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import structlog
from sqlalchemy.exc import DBAPIError

from chappe_kernel.errors import Unavailable
from chappe_store.audit_log.chain import Checkpoint, NotIntact
from chappe_store.audit_log.service import make_checkpoint
from chappe_store.audit_log.signing import SigningKeys
from chappe_store.session import Database

_log = structlog.get_logger()


@asynccontextmanager
async def sign_regularly(database: Database, keys: SigningKeys, every_s: float) -> AsyncIterator[None]:
    """Sign at once and then `every_s`, while the block runs. Any number of processes may do so side by side."""
    task = asyncio.create_task(_sign_for_ever(database, keys, every_s))
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def _sign_for_ever(database: Database, keys: SigningKeys, every_s: float) -> None:
    seen: Checkpoint | None = None
    while True:
        seen = await _sign(database, keys, seen)
        await asyncio.sleep(every_s)


async def _sign(database: Database, keys: SigningKeys, seen: Checkpoint | None) -> Checkpoint | None:
    """The newest checkpoint that this process knows: kept in mind, so that not even the log's removal is silent."""
    try:
        async with database.operator() as session:
            made = await make_checkpoint(session, keys, seen=seen)
    except NotIntact as error:
        _log.error("audit_log_not_intact", difference=error.message)
        return seen
    except (Unavailable, DBAPIError, OSError) as error:
        _log.warning("audit_log_not_signed", error=type(error).__name__)
        return seen
    if made is not None and made != seen:
        # Wherever logs are kept, they bear witness as well.
        _log.info("audit_log_signed", sequence=made.sequence, hash=made.hash, signature=made.signature)
    return made
