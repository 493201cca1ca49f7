"""Notices that the database is another than before: restored by other means than `chappe restore`, or a standby that
was promoted. Until it has its new epoch it lends nothing, and acknowledges nothing."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog
from sqlalchemy.exc import DBAPIError

from chappe_billing.restoring.service import mark_if_restored
from chappe_kernel.errors import Unavailable
from chappe_store.audit_log.origin import command_origin
from chappe_store.queries import is_same_server
from chappe_store.session import Database

_log = structlog.get_logger()
_LOOK_EVERY_S = 1.0


@asynccontextmanager
async def noticing_restores(database: Database) -> AsyncIterator[None]:
    """For as long as the block runs."""
    task = asyncio.create_task(_notice_for_ever(database))
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def notice_restore(database: Database) -> None:
    """Give the database a new epoch, if it needs one. One that is away is looked at again."""
    try:
        async with database.operator() as session:
            if await is_same_server(session):
                return
        async with database.operator(command_origin()) as session:
            await mark_if_restored(session)
    except Unavailable:
        _log.info("database_not_looked_at")


async def _notice_for_ever(database: Database) -> None:
    while True:
        await asyncio.sleep(_LOOK_EVERY_S)
        try:
            await notice_restore(database)
        except (DBAPIError, OSError) as error:
            # It went away in mid-statement. The next look is the remedy.
            _log.info("database_not_looked_at", error=type(error).__name__)
