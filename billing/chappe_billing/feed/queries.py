"""SQL of the feed."""

from collections.abc import Callable, Collection, Sequence
from datetime import datetime
from operator import eq, ge, gt, le, lt
from typing import Any
from uuid import UUID

from msgspec import Struct
from sqlalchemy import ARRAY, BigInteger, ColumnElement, Row, Uuid, bindparam, delete, func, insert, select, text
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_billing.feed.models import RatedUsageBatch, RatedUsageEntry, RatedUsageReceipt, RatedUsageWaiting
from chappe_billing.feed.wanted import Wanted
from chappe_billing.ledger.models import LedgerTransaction
from chappe_billing.usage.models import UsageEvent
from chappe_kernel.ids import new_id
from chappe_store.arrays import is_among

# Any number, the same for all who close batches. Two of them take turns until the first one's commit.
_CLOSING = 0x7261746564

_IDS = bindparam("ids", type_=ARRAY(Uuid()))

_WAITING_TRANSACTIONS = text(
    """
    SELECT t.id, t.tenant_id, t.kind, t.currency, t.created_at AS posted_at, own.lines, own.amount_nano,
           CASE t.kind WHEN 'usage' THEN (
               SELECT count(*) FROM usage_event u
               WHERE u.tenant_id = t.tenant_id AND u.posted_at = t.created_at AND u.transaction_id = t.id
           ) ELSE 1 END AS records
    FROM ledger_transaction t
    CROSS JOIN LATERAL (
        SELECT count(*) AS lines, (-coalesce(sum(e.amount_nano), 0))::bigint AS amount_nano
        FROM ledger_entry e WHERE e.transaction_id = t.id AND e.tenant_id = t.tenant_id
    ) own
    WHERE t.id = ANY(:ids)
    """
).bindparams(_IDS)
_WAITING_EVENTS = text(
    """
    SELECT u.request_id AS id, u.tenant_id, 'usage' AS kind, p.currency, u.posted_at
    FROM usage_event u JOIN price_version p ON p.id = u.price_version_id
    WHERE u.request_id = ANY(:ids)
    """
).bindparams(_IDS)
# OFFSET 0: from each entry to its events by their index, whatever the planner thinks that it knows of these tables.
_USAGE = text(
    """
    SELECT e.position, p.currency, l.name AS model, u.*
    FROM rated_usage_entry e
    CROSS JOIN LATERAL (
        SELECT * FROM usage_event u
        WHERE u.tenant_id = e.tenant_id AND u.posted_at = e.posted_at AND u.transaction_id = e.transaction_id OFFSET 0
    ) u
    JOIN price_version p ON p.id = u.price_version_id
    JOIN listing l ON l.id = u.listing_id
    WHERE e.sequence = :sequence AND e.position BETWEEN :first AND :last AND e.kind = 'usage'
      AND e.transaction_id IS NOT NULL
    UNION ALL
    SELECT e.position, p.currency, l.name AS model, u.*
    FROM rated_usage_entry e
    CROSS JOIN LATERAL (SELECT * FROM usage_event u WHERE u.request_id = e.request_id OFFSET 0) u
    JOIN price_version p ON p.id = u.price_version_id
    JOIN listing l ON l.id = u.listing_id
    WHERE e.sequence = :sequence AND e.position BETWEEN :first AND :last AND e.request_id IS NOT NULL
    ORDER BY position, request_id
    """
)
_MONEY = text(
    """
    SELECT e.position, e.kind, e.transaction_id, e.tenant_id, e.amount_nano, e.currency, e.posted_at,
           d.request_id AS corrected_id
    FROM rated_usage_entry e
    LEFT JOIN usage_discrepancy d ON d.transaction_id = e.transaction_id
    WHERE e.sequence = :sequence AND e.position BETWEEN :first AND :last AND e.kind <> 'usage'
    ORDER BY e.position
    """
)


class Waiting(Struct, frozen=True):
    """Something that can go into a batch. `amount_nano` is what it charges; without `lines` it moves nothing that is
    the tenant's."""

    id: UUID
    is_event: bool
    tenant_id: UUID
    kind: str
    currency: str
    posted_at: datetime
    lines: int
    amount_nano: int
    records: int


async def take_turn(session: AsyncSession) -> None:
    """Until the end of this transaction nobody else closes a batch."""
    await session.execute(select(func.pg_advisory_xact_lock(_CLOSING)))


async def list_waiting(session: AsyncSession, limit: int) -> list[Waiting]:
    """The oldest by id, of those that are committed."""
    first = select(RatedUsageWaiting.id, RatedUsageWaiting.is_event).order_by(RatedUsageWaiting.id).limit(limit)
    order = {found.id: found.is_event for found in (await session.execute(first)).all()}
    found = {}
    transactions = [each for each, is_event in order.items() if not is_event]
    for row in (await session.execute(_WAITING_TRANSACTIONS, {"ids": transactions})).mappings():
        found[row["id"]] = Waiting(is_event=False, **row)
    events = [each for each, is_event in order.items() if is_event]
    for row in (await session.execute(_WAITING_EVENTS, {"ids": events})).mappings():
        found[row["id"]] = Waiting(is_event=True, lines=1, amount_nano=0, records=1, **row)
    return [found[each] for each in order if each in found]


async def forget_waiting(session: AsyncSession, ids: Collection[UUID]) -> None:
    await session.execute(delete(RatedUsageWaiting).where(is_among(RatedUsageWaiting.id, ids)))


async def read_last_batch(session: AsyncSession) -> RatedUsageBatch | None:
    return (
        await session.scalars(select(RatedUsageBatch).order_by(RatedUsageBatch.sequence.desc()).limit(1))
    ).one_or_none()


async def insert_entries(session: AsyncSession, sequence: int, waiting: Sequence[Waiting]) -> None:
    rows = [
        {
            "sequence": sequence,
            "position": position,
            "tenant_id": each.tenant_id,
            "transaction_id": None if each.is_event else each.id,
            "request_id": each.id if each.is_event else None,
            "kind": each.kind,
            "currency": each.currency,
            "records": each.records,
            "amount_nano": each.amount_nano,
            "posted_at": each.posted_at,
        }
        for position, each in enumerate(waiting)
    ]
    await (await session.connection()).execute(insert(RatedUsageEntry), rows)


async def list_entries(session: AsyncSession, sequence: int) -> Sequence[RatedUsageEntry]:
    return (
        await session.scalars(
            select(RatedUsageEntry).where(RatedUsageEntry.sequence == sequence).order_by(RatedUsageEntry.position)
        )
    ).all()


async def read_usage(session: AsyncSession, sequence: int, first: int, last: int) -> Sequence[Row[Any]]:
    """The requests of the entries from position `first` to `last`, by position and id."""
    return (await session.execute(_USAGE, {"sequence": sequence, "first": first, "last": last})).all()


async def read_money(session: AsyncSession, sequence: int, first: int, last: int) -> Sequence[Row[Any]]:
    """The other transactions of the entries from position `first` to `last`."""
    return (await session.execute(_MONEY, {"sequence": sequence, "first": first, "last": last})).all()


async def find_batch(session: AsyncSession, sequence: int) -> RatedUsageBatch | None:
    return await session.get(RatedUsageBatch, sequence)


async def list_batches(session: AsyncSession, *, after: int, limit: int) -> Sequence[RatedUsageBatch]:
    """In order, from the one after number `after` on."""
    statement = (
        select(RatedUsageBatch).where(RatedUsageBatch.sequence > after).order_by(RatedUsageBatch.sequence).limit(limit)
    )
    return (await session.scalars(statement)).all()


async def last_sequence_until(session: AsyncSession, epoch: UUID, before: int) -> int:
    """The last batch below this number that was made in this epoch or an earlier one; 0 if there is none."""
    statement = select(func.coalesce(func.max(RatedUsageBatch.sequence), 0)).where(
        RatedUsageBatch.epoch <= epoch, RatedUsageBatch.sequence < before
    )
    return (await session.execute(statement)).scalar_one()


async def list_requested(session: AsyncSession) -> Sequence[RatedUsageReceipt]:
    """Requests of the last seven days to have a batch again."""
    statement = (
        select(RatedUsageReceipt)
        .where(
            RatedUsageReceipt.kind == "requested", RatedUsageReceipt.created_at > func.now() - text("interval '7 days'")
        )
        .order_by(RatedUsageReceipt.id)
    )
    return (await session.scalars(statement)).all()


async def insert_request(session: AsyncSession, sequence: int, reason: str) -> None:
    values = {"id": new_id(), "sequence": sequence, "kind": "requested", "reason": reason}
    await session.execute(insert(RatedUsageReceipt).values(values))


async def insert_acknowledgement(session: AsyncSession, sequence: int) -> bool:
    """Whether it is the first of this batch."""
    statement = (
        upsert(RatedUsageReceipt)
        .values(id=new_id(), sequence=sequence, kind="acknowledged")
        .on_conflict_do_nothing(index_elements=["sequence"], index_where=text("kind = 'acknowledged'"))
        .returning(RatedUsageReceipt.id)
    )
    return (await session.execute(statement)).one_or_none() is not None


async def list_acknowledged(session: AsyncSession, sequences: Sequence[int]) -> dict[int, datetime]:
    """When each of these batches was acknowledged; the others are missing."""
    statement = select(RatedUsageReceipt.sequence, RatedUsageReceipt.created_at).where(
        RatedUsageReceipt.kind == "acknowledged", RatedUsageReceipt.sequence.in_(sequences)
    )
    return {row.sequence: row.created_at for row in await session.execute(statement)}


async def list_unacknowledged(session: AsyncSession, limit: int) -> Sequence[RatedUsageBatch]:
    """The first batches that nobody acknowledged."""
    acknowledged = (
        select(RatedUsageReceipt.id)
        .where(RatedUsageReceipt.kind == "acknowledged", RatedUsageReceipt.sequence == RatedUsageBatch.sequence)
        .exists()
    )
    statement = select(RatedUsageBatch).where(~acknowledged).order_by(RatedUsageBatch.sequence).limit(limit)
    return (await session.scalars(statement)).all()


async def last_acknowledged(session: AsyncSession) -> int | None:
    """The highest number that somebody acknowledged."""
    statement = select(func.max(RatedUsageReceipt.sequence)).where(RatedUsageReceipt.kind == "acknowledged")
    return (await session.execute(statement)).scalar_one()


async def count_waiting(session: AsyncSession) -> tuple[int, datetime | None]:
    """How many things wait, and since when the oldest ledger transaction of them does."""
    count = (await session.execute(select(func.count()).select_from(RatedUsageWaiting))).scalar_one()
    oldest = (
        select(LedgerTransaction.created_at)
        .join(RatedUsageWaiting, RatedUsageWaiting.id == LedgerTransaction.id)
        .order_by(RatedUsageWaiting.id)
        .limit(1)
    )
    return count, (await session.execute(oldest)).scalar_one_or_none()


async def count_records(session: AsyncSession, wanted: Wanted) -> int:
    if wanted.is_all:
        last = await read_last_batch(session)
        return last.records_before + last.records if last else 0
    total = select(func.coalesce(func.sum(RatedUsageEntry.records), 0)).where(*_conditions(wanted))
    return int((await session.execute(total)).scalar_one())


async def find_entries(
    session: AsyncSession, wanted: Wanted, *, offset: int, limit: int
) -> list[tuple[RatedUsageEntry, int]]:
    """The entries that have the records from `offset` on, and how many records there are before each."""
    first, before_first = await _first_batch(session, offset) if wanted.is_all else (0, 0)
    place = (RatedUsageEntry.sequence, RatedUsageEntry.position)
    before = (func.sum(RatedUsageEntry.records).over(order_by=place) - RatedUsageEntry.records).cast(BigInteger)
    numbered = (
        select(*place, (before + before_first).label("before"), RatedUsageEntry.records)
        .where(RatedUsageEntry.sequence >= first, *_conditions(wanted))
        .order_by(*place)
    )
    if wanted.is_all:
        # Each entry has a record at least: no more entries than this can be on the page.
        numbered = numbered.where(RatedUsageEntry.sequence <= await _last_batch(session, offset + limit))
    found = numbered.subquery()
    statement = (
        select(RatedUsageEntry, found.c.before)
        .join(found, (found.c.sequence == RatedUsageEntry.sequence) & (found.c.position == RatedUsageEntry.position))
        .where(found.c.before < offset + limit, found.c.before + found.c.records > offset)
        .order_by(*place)
    )
    return [(entry, int(count)) for entry, count in await session.execute(statement)]


async def find_entry_of_request(session: AsyncSession, request_id: UUID) -> RatedUsageEntry | None:
    event = (
        await session.execute(select(UsageEvent.transaction_id).where(UsageEvent.request_id == request_id))
    ).one_or_none()
    if event is None:
        return None
    if event.transaction_id is not None:
        return await find_entry_of_transaction(session, event.transaction_id)
    statement = select(RatedUsageEntry).where(RatedUsageEntry.request_id == request_id)
    return (await session.scalars(statement)).one_or_none()


async def find_entry_of_transaction(session: AsyncSession, transaction_id: UUID) -> RatedUsageEntry | None:
    statement = select(RatedUsageEntry).where(RatedUsageEntry.transaction_id == transaction_id)
    return (await session.scalars(statement)).one_or_none()


def _conditions(wanted: Wanted) -> list[ColumnElement[bool]]:
    entry = RatedUsageEntry
    possible: tuple[tuple[object, Callable[[Any, Any], Any], Any], ...] = (
        (wanted.sequence, eq, entry.sequence),
        (wanted.tenant_id, eq, entry.tenant_id),
        (wanted.kind, eq, entry.kind),
        (wanted.posted_from, ge, entry.posted_at),
        (wanted.posted_after, gt, entry.posted_at),
        (wanted.posted_before, lt, entry.posted_at),
        (wanted.posted_until, le, entry.posted_at),
    )
    return [compare(column, value) for value, compare, column in possible if value is not None]


async def _first_batch(session: AsyncSession, offset: int) -> tuple[int, int]:
    """The batch that has the record at `offset`, and how many records there are before it."""
    statement = (
        select(RatedUsageBatch.sequence, RatedUsageBatch.records_before)
        .where(RatedUsageBatch.records_before <= offset)
        .order_by(RatedUsageBatch.records_before.desc())
        .limit(1)
    )
    row = (await session.execute(statement)).one_or_none()
    return (0, 0) if row is None else (row.sequence, row.records_before)


async def _last_batch(session: AsyncSession, until: int) -> int:
    """The last batch that has a record before `until`."""
    statement = select(func.coalesce(func.max(RatedUsageBatch.sequence), 0)).where(
        RatedUsageBatch.records_before < until
    )
    return (await session.execute(statement)).scalar_one()
