"""SQL of the audit log. Entries are written by triggers alone: see the migration and `triggers`."""

from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from msgspec import Raw, Struct
from sqlalchemy import Row, Text, cast, func, insert, select
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_store.audit_log.chain import Checkpoint, Entry, Position, Record
from chappe_store.audit_log.models import AuditCheckpoint, AuditEntry
from chappe_store.session import TenantScope

# Any constant will do; it makes two processes that want to sign take turns.
_SIGNING_LOCK = 0x6368617070650004
_PAGE = 1000

_CHECKPOINT_COLUMNS = tuple(getattr(AuditCheckpoint, name) for name in Checkpoint.__struct_fields__)
# As text: the hash is over these very bytes.
_JSON_COLUMNS = (cast(AuditEntry.before, Text).label("before"), cast(AuditEntry.after, Text).label("after"))
_ENTRY_COLUMNS = (
    *(getattr(AuditEntry, name) for name in Entry.__struct_fields__ if name not in {"before", "after"}),
    *_JSON_COLUMNS,
)


class ListedEntry(Struct, frozen=True):
    """An entry as its tenant may see it. Not its number: the gaps would tell how busy others are."""

    id: UUID
    recorded_at: datetime
    actor_kind: str
    actor: str
    address: str | None
    request_id: UUID | None
    action: str
    noun: str
    subject: str
    before: Raw
    after: Raw


_LISTED_COLUMNS = (
    *(getattr(AuditEntry, name) for name in ListedEntry.__struct_fields__ if name not in {"before", "after"}),
    *_JSON_COLUMNS,
)


async def list_entries(
    session: AsyncSession, scope: TenantScope, *, limit: int, before: UUID | None
) -> Sequence[ListedEntry]:
    """Newest first. `before` is the id of an entry of this tenant; after any other id there is nothing."""
    query = (
        select(*_LISTED_COLUMNS)
        .where(AuditEntry.tenant_id == scope.tenant_id)
        .order_by(AuditEntry.sequence.desc())
        .limit(limit)
    )
    if before is not None:
        # By number and not by id, which clocks make: pages follow the chain's order whatever a clock did.
        at = select(AuditEntry.sequence).where(AuditEntry.tenant_id == scope.tenant_id, AuditEntry.id == before)
        query = query.where(AuditEntry.sequence < at.scalar_subquery())
    return [ListedEntry(**_with_json(row)) for row in await session.execute(query)]


async def read_log(session: AsyncSession, *, after: int = 0) -> AsyncIterator[Record]:
    """Entries with a number over `after` in their order, each followed by its checkpoint; at the end, checkpoints of
    entries that are not there. In pages, so in bounded memory; as the operator, in one snapshot (`audit`)."""
    while True:
        query = select(*_ENTRY_COLUMNS).where(AuditEntry.sequence > after).order_by(AuditEntry.sequence).limit(_PAGE)
        rows = (await session.execute(query)).all()
        # The last page takes all that is left of the checkpoints, however far ahead they are.
        until = rows[-1].sequence if len(rows) == _PAGE else None
        checkpoints = await _read_checkpoints(session, after, until)
        for row in rows:
            while checkpoints and checkpoints[-1].sequence < row.sequence:
                yield checkpoints.pop()
            yield _entry(row)
            if checkpoints and checkpoints[-1].sequence == row.sequence:
                yield checkpoints.pop()
        while checkpoints:
            yield checkpoints.pop()
        if until is None:
            return
        after = until


async def read_end(session: AsyncSession) -> Position | None:
    """Where the log ends; None while it is empty."""
    query = select(AuditEntry.sequence, AuditEntry.hash).order_by(AuditEntry.sequence.desc()).limit(1)
    row = (await session.execute(query)).first()
    return None if row is None else Position(row.sequence, row.hash.hex())


async def read_position(session: AsyncSession, sequence: int) -> Position | None:
    found = await session.scalar(select(AuditEntry.hash).where(AuditEntry.sequence == sequence))
    return None if found is None else Position(sequence, found.hex())


async def last_checkpoint(session: AsyncSession) -> Checkpoint | None:
    query = select(*_CHECKPOINT_COLUMNS).order_by(AuditCheckpoint.sequence.desc()).limit(1)
    row = (await session.execute(query)).first()
    return None if row is None else _checkpoint(row)


async def lock_signing(session: AsyncSession) -> datetime:
    """Make those who want to sign take turns until the transaction ends; the database's time."""
    await session.execute(select(func.pg_advisory_xact_lock(_SIGNING_LOCK)))
    now: datetime = (await session.execute(select(func.clock_timestamp()))).scalar_one()
    return now


async def insert_checkpoint(session: AsyncSession, checkpoint: Checkpoint) -> None:
    previous = checkpoint.previous_signature
    await session.execute(
        insert(AuditCheckpoint).values(
            sequence=checkpoint.sequence,
            hash=bytes.fromhex(checkpoint.hash),
            made_at=checkpoint.made_at,
            key_version=checkpoint.key_version,
            previous_signature=None if previous is None else bytes.fromhex(previous),
            signature=bytes.fromhex(checkpoint.signature),
        )
    )


async def _read_checkpoints(session: AsyncSession, after: int, until: int | None) -> list[Checkpoint]:
    """Last one first, to be popped in their order. Never more than a page of entries has, but for a log cut short."""
    query = select(*_CHECKPOINT_COLUMNS).where(AuditCheckpoint.sequence > after)
    if until is not None:
        query = query.where(AuditCheckpoint.sequence <= until)
    query = query.order_by(AuditCheckpoint.sequence).limit(_PAGE)
    return [_checkpoint(row) for row in await session.execute(query)][::-1]


def _entry(row: Row[Any]) -> Entry:
    return Entry(**_with_json(row) | {"hash": row.hash.hex()})


def _checkpoint(row: Row[Any]) -> Checkpoint:
    values = row._asdict()
    previous = row.previous_signature
    return Checkpoint(
        **values
        | {
            "hash": row.hash.hex(),
            "signature": row.signature.hex(),
            "previous_signature": None if previous is None else previous.hex(),
        }
    )


def _with_json(row: Row[Any]) -> dict[str, Any]:
    values = row._asdict()
    for name in ("before", "after"):
        values[name] = Raw(b"null" if values[name] is None else values[name].encode())
    return values
