"""The control plane feeds the operator's own BSS: it closes batches regularly, and writes them into a folder."""

from pathlib import Path

import structlog

from chappe_billing.feed.folder import Busy, Folder, deliver
from chappe_billing.feed.service import FeedNotIntact, close_batch
from chappe_store.session import Database

_log = structlog.get_logger()


class Feeder:
    """Any number of processes may feed side by side. Without a folder the API alone has the batches."""

    def __init__(self, database: Database, folder: str, max_records: int) -> None:
        self._database = database
        self._folder = Folder(Path(folder)) if folder else None
        self._max_records = max_records

    async def feed(self) -> int:
        """Close all that waits, and write it; how many batches were closed."""
        closed = 0
        try:
            while await self._close():
                closed += 1
            if self._folder is not None:
                await deliver(self._database, self._folder)
        except FeedNotIntact as error:
            _log.error("rated_usage_feed_not_intact", difference=error.message)
        except Busy:
            pass  # Another process writes to the same folder.
        return closed

    async def _close(self) -> bool:
        async with self._database.operator() as session:
            manifest = await close_batch(session, max_records=self._max_records)
        if manifest is not None:
            # Wherever logs are kept, they bear witness as well.
            _log.info("rated_usage_batch", sequence=manifest.sequence, records=manifest.records, chain=manifest.chain)
        return manifest is not None
