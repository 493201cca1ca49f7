"""The control plane feeds the operator's own BSS: it closes batches regularly, and writes them into a folder."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import structlog
from sqlalchemy.exc import DBAPIError

from chappe_billing.feed.folder import Busy, Folder, deliver
from chappe_billing.feed.service import FeedNotIntact, close_batch
from chappe_kernel.errors import ChappeError
from chappe_store.session import Database

_log = structlog.get_logger()


@asynccontextmanager
async def feeding(database: Database, folder: str, every_s: float, max_records: int) -> AsyncIterator[None]:
    """Close what waits `every_s` while the block runs, and write it if there is a folder. Any number of processes may
    do so side by side."""
    task = asyncio.create_task(_feed_for_ever(database, Folder(Path(folder)) if folder else None, every_s, max_records))
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def _feed_for_ever(database: Database, folder: Folder | None, every_s: float, max_records: int) -> None:
    while True:
        # After the wait, and not before: a control plane that is restarted again and again makes no small batches.
        await asyncio.sleep(every_s)
        await feed_once(database, folder, max_records)


async def feed_once(database: Database, folder: Folder | None, max_records: int) -> None:
    """Close all that waits, and write it. Whatever fails is told, and tried again next time."""
    try:
        while await _close(database, max_records):
            pass
        if folder is not None:
            await deliver(database, folder)
    except FeedNotIntact as error:
        _log.error("rated_usage_feed_not_intact", difference=error.message)
    except Busy:
        pass  # Another control plane writes to the same folder.
    except (ChappeError, DBAPIError, OSError) as error:
        _log.warning("rated_usage_not_fed", error=type(error).__name__)


async def _close(database: Database, max_records: int) -> bool:
    async with database.operator() as session:
        manifest = await close_batch(session, max_records=max_records)
    if manifest is not None:
        # Wherever logs are kept, they bear witness as well.
        _log.info("rated_usage_batch", sequence=manifest.sequence, records=manifest.records, chain=manifest.chain)
    return manifest is not None
