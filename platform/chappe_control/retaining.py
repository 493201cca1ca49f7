"""The control plane drops usage that is older than what is to be kept."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import structlog
from sqlalchemy.exc import DBAPIError

from chappe_billing.retention.service import retain
from chappe_kernel.errors import Unavailable
from chappe_store.session import Database

_EVERY_S = 3600.0
_FIRST_AFTER_S = 60.0
_log = structlog.get_logger()


@asynccontextmanager
async def retaining(database: Database, months: int, minute_days: int) -> AsyncIterator[None]:
    """Look once an hour while the block runs, and first when the start's own work is over. Any number of processes may
    do so side by side."""
    task = asyncio.create_task(_retain_for_ever(database, months, minute_days))
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def _retain_for_ever(database: Database, months: int, minute_days: int) -> None:
    await asyncio.sleep(_FIRST_AFTER_S)
    while True:
        try:
            done = await retain(database, keep_months=months, keep_minute_days=minute_days)
            _log.info(
                "usage_retained",
                minutes=done.minutes,
                months=[f"{month:%Y-%m}" for month in done.months],
                hindrance=done.hindrance,
            )
        except (Unavailable, DBAPIError, OSError) as error:
            # A lock that is not to be had soon, or a database that is away: an hour later is early enough.
            _log.warning("usage_not_retained", error=type(error).__name__)
        await asyncio.sleep(_EVERY_S)
