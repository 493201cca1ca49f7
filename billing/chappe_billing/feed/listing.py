"""Records of closed batches, by what they are about: a page at a time, in the feed's order."""

from msgspec import Struct
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_billing.feed import queries
from chappe_billing.feed.models import RatedUsageEntry
from chappe_billing.feed.records import Record, money_record, usage_record
from chappe_billing.feed.wanted import Wanted
from chappe_kernel.errors import Invalid
from chappe_kernel.ids import LEDGER_TRANSACTION, REQUEST, decode_id


class Placed(Struct, frozen=True):
    """A record and the batch that it is in."""

    sequence: int
    record: Record


async def list_records(session: AsyncSession, wanted: Wanted, *, offset: int, limit: int) -> tuple[int, list[Placed]]:
    """How many there are, and those from `offset` on, `limit` at most. In a read-only snapshot (`audit`).

    What they are about is decided entry by entry, and so is their number: no usage is read but the page's.
    """
    total = await queries.count_records(session, wanted)
    placed: list[Placed] = []
    for entry, before in await queries.find_entries(session, wanted, offset=offset, limit=limit):
        first = max(offset - before, 0)
        records = await _records_of(session, entry)
        placed += [Placed(entry.sequence, record) for record in records[first : first + limit - len(placed)]]
    return total, placed


async def find_record(session: AsyncSession, record_id: str) -> Placed | None:
    """By the record's `id`; None for one that is in no batch (yet)."""
    try:
        if record_id.startswith(f"{REQUEST}_"):
            entry = await queries.find_entry_of_request(session, decode_id(REQUEST, record_id))
        else:
            entry = await queries.find_entry_of_transaction(session, decode_id(LEDGER_TRANSACTION, record_id))
    except Invalid:
        return None
    records = await _records_of(session, entry) if entry else []
    return next((Placed(entry.sequence, record) for record in records if entry and record.id == record_id), None)


async def _records_of(session: AsyncSession, entry: RatedUsageEntry) -> list[Record]:
    place = (session, entry.sequence, entry.position, entry.position)
    if entry.kind == "usage":
        return [usage_record(row) for row in await queries.read_usage(*place)]
    return [money_record(row) for row in await queries.read_money(*place)]
