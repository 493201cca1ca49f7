"""Closing batches, and reading what is in them."""

from collections.abc import AsyncIterator, Iterator, Sequence
from datetime import datetime
from hashlib import sha256
from uuid import UUID

import msgspec
from msgspec import Struct
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_billing.feed import queries
from chappe_billing.feed.manifest import FEED, Manifest, Totals, file_of, read_running, read_totals, run_on
from chappe_billing.feed.models import RatedUsageBatch, RatedUsageEntry
from chappe_billing.feed.queries import Waiting
from chappe_billing.feed.records import FORMAT, Record, lines_of, money_record, usage_record
from chappe_kernel.errors import ChappeError, Conflict, Invalid, NotFound
from chappe_store.queries import read_epoch, read_now

DEFAULT_RECORDS = 10_000
MAX_REASON_LENGTH = 500
# A batch has no more things than this in it; a group of them that is read at once has about this many records.
_MAX_ENTRIES = 2_000
_GROUP_RECORDS = 500
_MAX_SHOWN = 1_000


class FeedState(Struct, frozen=True):
    """`acknowledged_until`: all batches up to this number are acknowledged. `gaps` are batches that are not, although a
    later one is: the consumer lacks them, or did not say."""

    last: Manifest | None
    waiting: int
    waiting_since: datetime | None
    acknowledged_until: int
    gaps: tuple[int, ...]
    unacknowledged_since: datetime | None


class FeedNotIntact(ChappeError):
    """What the feed would say is not what the ledger says: nothing more is delivered until somebody has looked."""

    default_code = "feed_not_intact"


async def close_batch(session: AsyncSession, *, max_records: int = DEFAULT_RECORDS) -> Manifest | None:
    """Give the next number to what waits, oldest first, and take it off the queue; None when nothing waits.

    As the operator; one closes at a time. All in the caller's transaction: whatever is killed when, a thing is in one
    batch or waits. What is committed later waits for a later batch, so numbers are in the order of commits. A batch has
    `max_records` and what is left of the last transaction's, at most. Raises `FeedNotIntact`.
    """
    await queries.take_turn(session)
    waiting = await queries.list_waiting(session, _MAX_ENTRIES)
    taken = _fill(waiting, max_records)
    moving = [each for each in taken if each.lines]
    manifest = await _close(session, moving) if moving else None
    await queries.forget_waiting(session, [each.id for each in taken])
    if manifest is None and taken:
        # Only transactions that move nothing of a tenant's: there may be others behind them.
        return await close_batch(session, max_records=max_records)
    return manifest


async def get_batch(session: AsyncSession, sequence: int) -> RatedUsageBatch:
    """Raises `NotFound`."""
    batch = await queries.find_batch(session, sequence)
    if batch is None:
        raise NotFound(f"the feed has no batch {sequence}")
    return batch


def manifest_of(batch: RatedUsageBatch) -> Manifest:
    return Manifest(
        feed=FEED,
        format=batch.format,
        epoch=str(batch.epoch),
        sequence=batch.sequence,
        file=file_of(batch.epoch, batch.sequence),
        sha256=batch.digest.hex(),
        size_bytes=batch.size_bytes,
        records=batch.records,
        records_before=batch.records_before,
        totals=read_totals(batch.totals),
        running=read_running(batch.running),
        closed_at=batch.closed_at,
        previous=batch.previous.hex() if batch.previous else None,
        chain=batch.chain.hex(),
    )


async def read_content(session: AsyncSession, batch: RatedUsageBatch) -> AsyncIterator[bytes]:
    """The batch's lines in pieces, always the same. In a read-only snapshot (`audit`).

    Raises `Conflict` (`batch_archived`) when its usage has been dropped with its month: its file is all that is left.
    """
    entries = await queries.list_entries(session, batch.sequence)
    digest = sha256()
    async for records in _read_records(session, batch.sequence, entries):
        piece = lines_of(records)
        digest.update(piece)
        yield piece
    if digest.digest() != batch.digest:
        raise Conflict(
            f"batch {batch.sequence} cannot be made again: its records are no longer all in the database",
            code="batch_archived",
        )


async def acknowledge(session: AsyncSession, sequence: int, *, chain: str) -> None:
    """Note that a consumer has this very batch. As the operator; safe to repeat.

    Raises `NotFound`, or `Conflict` (`batch_differs`) when the consumer's batch of that number is another one: it was
    altered on its way, or is of an epoch that ended with a restore.
    """
    batch = await get_batch(session, sequence)
    if batch.chain.hex() != chain:
        raise Conflict(f"batch {sequence} has another chain than the one that you name", code="batch_differs")
    await queries.insert_acknowledgement(session, sequence)


async def request_again(session: AsyncSession, sequence: int, *, reason: str) -> None:
    """Have the batch's file written again. As the operator. Raises `NotFound`, or `Invalid` without a reason."""
    reason = reason.strip()
    if not 1 <= len(reason) <= MAX_REASON_LENGTH:
        raise Invalid(f"a reason has 1 to {MAX_REASON_LENGTH} characters", param="reason")
    await get_batch(session, sequence)
    await queries.insert_request(session, sequence, reason)


async def read_state(session: AsyncSession) -> FeedState:
    """How far the feed is, and how far its consumer. In a read-only snapshot (`audit`)."""
    last = await queries.read_last_batch(session)
    waiting, waiting_since = await queries.count_waiting(session)
    unacknowledged = await queries.list_unacknowledged(session, _MAX_SHOWN)
    highest = await queries.last_acknowledged(session) or 0
    return FeedState(
        last=None if last is None else manifest_of(last),
        waiting=waiting,
        waiting_since=waiting_since,
        acknowledged_until=unacknowledged[0].sequence - 1 if unacknowledged else (last.sequence if last else 0),
        gaps=tuple(batch.sequence for batch in unacknowledged if batch.sequence < highest),
        unacknowledged_since=unacknowledged[0].closed_at if unacknowledged else None,
    )


async def _close(session: AsyncSession, taken: Sequence[Waiting]) -> Manifest:
    before = await queries.read_last_batch(session)
    sequence = before.sequence + 1 if before else 1
    await queries.insert_entries(session, sequence, taken)
    totals, digest, size_bytes = Totals(), sha256(), 0
    async for records in _read_records(session, sequence, await queries.list_entries(session, sequence)):
        piece = lines_of(records)
        digest.update(piece)
        size_bytes += len(piece)
        totals.add(records)
    _check(sequence, taken, totals)
    content = Content(sequence, digest.hexdigest(), size_bytes)
    manifest = _manifest(before, content, totals, await read_epoch(session), await read_now(session))
    session.add(_row(manifest))
    await session.flush()
    return manifest


class Content(Struct, frozen=True):
    """What a batch's lines are, without the lines."""

    sequence: int
    sha256: str
    size_bytes: int


def _manifest(
    before: RatedUsageBatch | None, content: Content, totals: Totals, epoch: UUID, closed_at: datetime
) -> Manifest:
    by_kind = totals.by_kind()
    return Manifest(
        feed=FEED,
        format=FORMAT,
        epoch=str(epoch),
        sequence=content.sequence,
        file=file_of(epoch, content.sequence),
        sha256=content.sha256,
        size_bytes=content.size_bytes,
        records=totals.records,
        records_before=before.records_before + before.records if before else 0,
        totals=by_kind,
        running=run_on(read_running(before.running) if before else (), by_kind),
        closed_at=closed_at,
        previous=before.chain.hex() if before else None,
    ).chained()


def _row(manifest: Manifest) -> RatedUsageBatch:
    return RatedUsageBatch(
        sequence=manifest.sequence,
        epoch=UUID(manifest.epoch),
        format=manifest.format,
        closed_at=manifest.closed_at,
        records=manifest.records,
        records_before=manifest.records_before,
        size_bytes=manifest.size_bytes,
        digest=bytes.fromhex(manifest.sha256),
        totals=msgspec.to_builtins(manifest.totals),
        running=msgspec.to_builtins(manifest.running),
        previous=bytes.fromhex(manifest.previous) if manifest.previous else None,
        chain=bytes.fromhex(manifest.chain),
    )


async def _read_records(
    session: AsyncSession, sequence: int, entries: Sequence[RatedUsageEntry]
) -> AsyncIterator[list[Record]]:
    """The records in order, some hundred at a time."""
    for first, last in _groups(entries):
        found: list[tuple[int, Record]] = [
            (row.position, usage_record(row)) for row in await queries.read_usage(session, sequence, first, last)
        ]
        found += [(row.position, money_record(row)) for row in await queries.read_money(session, sequence, first, last)]
        yield [record for _, record in sorted(found, key=_position)]


def _position(one: tuple[int, Record]) -> int:
    return one[0]


def _groups(entries: Sequence[RatedUsageEntry]) -> Iterator[tuple[int, int]]:
    """First and last positions of entries that are read together."""
    first, records = 0, 0
    for entry in entries:
        records += entry.records
        if records >= _GROUP_RECORDS:
            yield first, entry.position
            first, records = entry.position + 1, 0
    if records:
        yield first, entries[-1].position


def _fill(waiting: Sequence[Waiting], max_records: int) -> list[Waiting]:
    """As many of them, from the first on, as make up `max_records`."""
    taken, records = [], 0
    for each in waiting:
        if records >= max_records:
            break
        taken.append(each)
        records += each.records
    return taken


def _check(sequence: int, taken: Sequence[Waiting], totals: Totals) -> None:
    """That the records say, in number and sum, what the ledger says of these transactions."""
    wanted = Totals()
    for each in taken:
        wanted.count(each.kind, each.currency, each.records, each.amount_nano)
    if wanted.by_kind() != totals.by_kind():
        found = msgspec.json.encode((wanted.by_kind(), totals.by_kind())).decode()
        raise FeedNotIntact(f"batch {sequence} would not say what the ledger says: {found}")
