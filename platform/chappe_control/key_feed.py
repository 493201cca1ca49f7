"""Whose keys' facts changed since a revision, for gateways that ask several times a second.

However many they are, the database is asked for the revision at most once per `FRESH_S`, and for the changes once per
revision that somebody still is at.
"""

import asyncio

from chappe_kernel.clock import Clock
from chappe_kernel.wire import control as wire
from chappe_store import queries
from chappe_store.session import Database

FRESH_S = 0.1
MAX_CHANGES = 1000
# As many gateways may be at as many revisions; whoever asks for more of them only pays for reading again.
_MAX_ANSWERS = 256


class KeyFeed:
    """Holds the newest revision, when its reading began, and the answers that led to it."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._lock = asyncio.Lock()
        self._newest = wire.KeyChanges("", 0, None)
        self._read_at = float("-inf")
        self._answers: dict[int, wire.KeyChanges] = {}

    async def since(self, revision: int, epoch: str) -> wire.KeyChanges:
        """Not older than `FRESH_S`. Concurrent callers wait for one reading. Raises `Unavailable`."""
        async with self._lock:
            if self._clock.monotonic() >= self._read_at + FRESH_S:
                await self._look()
            newest = self._newest
            if epoch != newest.epoch or revision > newest.revision:
                return newest
            if revision not in self._answers:
                if len(self._answers) >= _MAX_ANSWERS:
                    self._answers.clear()
                self._answers[revision] = await self._read(revision)
            return self._answers[revision]

    async def _look(self) -> None:
        began_at = self._clock.monotonic()
        async with self._database.ingest() as session:
            revision = await queries.read_keys_revision(session)
            epoch = str(await queries.read_epoch(session))
        if (epoch, revision) != (self._newest.epoch, self._newest.revision):
            self._newest = wire.KeyChanges(epoch, revision, None)
            self._answers = {revision: wire.KeyChanges(epoch, revision, ())}
        self._read_at = began_at

    async def _read(self, since: int) -> wire.KeyChanges:
        """Up to the newest revision, which was read before: so none that led to it is missing."""
        async with self._database.ingest() as session:
            found = await queries.read_key_changes(session, since, MAX_CHANGES + 1)
        changes = [wire.KeyChange(change.tenant_id, change.key_id) for change in found if change.tenant_id is not None]
        told = len(changes) == len(found) <= MAX_CHANGES
        return wire.KeyChanges(self._newest.epoch, self._newest.revision, tuple(changes) if told else None)
