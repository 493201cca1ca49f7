"""Dropping what is old enough, one month after the other, each only when nobody needs its events any more."""

from datetime import date

from msgspec import Struct

from chappe_billing.audit.service import verify_ledger
from chappe_billing.retention import queries
from chappe_kernel.errors import Invalid
from chappe_store.session import Database

MAX_MONTHS_AT_ONCE = 24


class Retained(Struct, frozen=True):
    """What was dropped. `hindrance` is why the next month that is old enough was not."""

    minutes: int
    months: tuple[date, ...]
    hindrance: str | None


async def retain(database: Database, *, keep_months: int, keep_minute_days: int) -> Retained:
    """Drop minutes older than `keep_minute_days`, and months that end more than `keep_months` whole months ago.

    As the operator, in transactions of its own; safe to repeat, to kill and to run twice at once. With 0 months all are
    kept. Before a month is dropped the whole ledger is verified. Raises `Invalid` for numbers that cannot be meant.
    """
    if keep_months < 0 or keep_minute_days < 1:
        raise Invalid("months to keep are at least 0, days of minutes at least 1", code="invalid_retention")
    async with database.operator() as session:
        minutes = await queries.drop_minutes(session, keep_minute_days) if await queries.take_turn(session) else 0
    dropped: list[date] = []
    while keep_months and len(dropped) < MAX_MONTHS_AT_ONCE:
        month, hindrance = await _drop_oldest(database, keep_months, is_first=not dropped)
        if month is None:
            return Retained(minutes, tuple(dropped), hindrance)
        dropped.append(month)
    return Retained(minutes, tuple(dropped), None)


async def _drop_oldest(database: Database, keep_months: int, *, is_first: bool) -> tuple[date | None, str | None]:
    async with database.operator() as session:
        month = await queries.oldest_month(session, keep_months)
        hindrance = None if month is None else await queries.find_hindrance(session, month)
    if month is None or hindrance is not None:
        return None, hindrance
    if is_first:
        async with database.audit() as session:
            if await verify_ledger(session) is not None:
                return None, "the ledger does not verify: see `chappe ledger verify`"
    async with database.operator() as session:
        await queries.refuse_late(session, month)
    async with database.operator() as session:
        # Since nothing can come in any more, what is found now stays so.
        if not await queries.take_turn(session) or await queries.oldest_month(session, keep_months) != month:
            return None, "another process drops it at this moment"
        hindrance = await queries.find_hindrance(session, month)
        if hindrance is not None:
            return None, hindrance
        await queries.seal_and_drop(session, month)
    return month.first, None
