"""The feed as files in a folder: a batch's content, its manifest, and which batch is the newest.

Each file comes into being complete, under a name that no other content ever has; the content before its manifest, and
both before the file that names the newest. So a consumer that looks for the next manifest never sees half of a batch,
and whoever is killed while writing does the same again.
"""

import asyncio
import fcntl
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from uuid import UUID

import msgspec
from msgspec import Struct

from chappe_billing.feed import queries
from chappe_billing.feed.manifest import LATEST, Manifest, manifest_file_of
from chappe_billing.feed.models import RatedUsageBatch
from chappe_billing.feed.service import FeedNotIntact, get_batch, manifest_of, read_content
from chappe_store.queries import read_epoch
from chappe_store.session import Database

_PAGE = 100


class Latest(Struct, frozen=True):
    """What `rated-usage-latest.json` says. `answered` are the requests for batches of these days that were met."""

    epoch: str
    sequence: int
    chain: str | None
    answered: tuple[UUID, ...] = ()


class Busy(Exception):
    """Another process writes to this folder."""


class Folder:
    """A folder that the feed is written to, by one process at a time."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Raises `Busy`. The lock ends with the process, however that ends."""
        self._path.mkdir(parents=True, exist_ok=True)
        with (self._path / ".lock").open("a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise Busy from None
            yield

    def read_latest(self) -> Latest | None:
        """None in a new folder. Raises `FeedNotIntact` for a file that is not ours."""
        try:
            return msgspec.json.decode((self._path / LATEST).read_bytes(), type=Latest)
        except FileNotFoundError:
            return None
        except msgspec.MsgspecError as error:
            raise FeedNotIntact(f"{LATEST} is not what the feed wrote: {error}") from None

    async def write_batch(self, manifest: Manifest, content: AsyncIterator[bytes]) -> None:
        """Write, or write again, a batch. Raises `FeedNotIntact` if the content is not what the manifest says."""
        digest = sha256()
        part = self._path / f".{manifest.file}.part"
        with part.open("wb") as file:
            async for piece in content:
                digest.update(piece)
                file.write(piece)
            if digest.hexdigest() != manifest.sha256:
                raise FeedNotIntact(f"the content of batch {manifest.sequence} is not what its manifest says")
            await asyncio.to_thread(_flush, file.fileno())
        part.replace(self._path / manifest.file)
        await asyncio.to_thread(self._put, manifest_file_of(manifest.file), manifest.encoded())

    async def write_latest(self, latest: Latest) -> None:
        await asyncio.to_thread(self._put, LATEST, msgspec.json.encode(latest) + b"\n")

    def _put(self, name: str, content: bytes) -> None:
        part = self._path / f".{name}.part"
        with part.open("wb") as file:
            file.write(content)
            _flush(file.fileno())
        part.replace(self._path / name)
        self._flush_names()

    def _flush_names(self) -> None:
        folder = os.open(self._path, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


async def deliver(database: Database, folder: Folder) -> int:
    """Write all that the folder lacks, and what was asked for again; how many batches that were.

    The folder itself says how far it is, so that nothing has to agree with it: consumers may take files away. Raises
    `Busy`, `FeedNotIntact`, `Unavailable`.
    """
    with folder.locked():
        async with database.audit() as session:
            epoch = str(await read_epoch(session))
        latest = await _starting_point(database, folder, epoch)
        new, latest = await _write_new(database, folder, latest)
        return new + await _write_again(database, folder, latest)


async def _starting_point(database: Database, folder: Folder, epoch: str) -> Latest:
    """What is written already. After a restore, the last of it that the database knows, too."""
    latest = folder.read_latest()
    if latest is None:
        return Latest(epoch, 0, None)
    async with database.audit() as session:
        batch = await queries.find_batch(session, latest.sequence)
        if latest.sequence == 0 or (batch is not None and batch.chain.hex() == latest.chain):
            return latest
        if latest.epoch == epoch:
            raise FeedNotIntact(f"the folder has a batch {latest.sequence} that the database never made")
        common = await queries.last_sequence_until(session, UUID(latest.epoch), latest.sequence)
    return msgspec.structs.replace(latest, sequence=common, chain=None)


async def _write_new(database: Database, folder: Folder, latest: Latest) -> tuple[int, Latest]:
    written = 0
    while True:
        async with database.audit() as session:
            batches = await queries.list_batches(session, after=latest.sequence, limit=_PAGE)
        for batch in batches:
            await _write(database, folder, batch)
            latest = Latest(str(batch.epoch), batch.sequence, batch.chain.hex(), latest.answered)
            await folder.write_latest(latest)
            written += 1
        if len(batches) < _PAGE:
            return written, latest


async def _write_again(database: Database, folder: Folder, latest: Latest) -> int:
    async with database.audit() as session:
        requested = await queries.list_requested(session)
        wanted = {each.sequence for each in requested if each.id not in latest.answered}
        batches = [await get_batch(session, sequence) for sequence in sorted(wanted)]
    for batch in batches:
        await _write(database, folder, batch)
    answered = tuple(each.id for each in requested)
    if answered != latest.answered:
        await folder.write_latest(msgspec.structs.replace(latest, answered=answered))
    return len(batches)


async def _write(database: Database, folder: Folder, batch: RatedUsageBatch) -> None:
    async with database.audit() as session:
        await folder.write_batch(manifest_of(batch), read_content(session, batch))


def _flush(descriptor: int) -> None:
    os.fsync(descriptor)
