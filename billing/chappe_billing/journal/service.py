"""A month's journal of a legal entity, and the numbers that its accounts have there. As the operator."""

import re
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from chappe_billing.cut_off.months import next_month
from chappe_billing.cut_off.service import GRACE
from chappe_billing.journal import queries
from chappe_billing.journal.entries import ACCOUNTS, JournalLine, journal_of
from chappe_kernel.errors import Conflict, Invalid
from chappe_store.queries import read_now
from chappe_tenants.legal_entities.service import get_entity

_NUMBER = re.compile(r"[A-Za-z0-9._-]{1,30}", re.ASCII)


async def read_journal(session: AsyncSession, legal_entity_id: UUID, month: date) -> list[JournalLine]:
    """All that was posted in a month that is over, summed: the same lines each time. In a snapshot. Raises `NotFound`
    and `Conflict` (`month_not_over`)."""
    entity = await get_entity(session, legal_entity_id)
    starts_at, ends_at = _start_of(month), _start_of(next_month(month))
    if await read_now(session) < ends_at + GRACE:
        raise Conflict("a month's journal is complete once it is over, and an hour later", code="month_not_over")
    movements = await queries.read_movements(session, legal_entity_id, starts_at, ends_at)
    return journal_of(
        movements,
        last_day=ends_at.date() - timedelta(days=1),
        currency=entity.currency,
        accrued_nano=await queries.read_accrued(session, legal_entity_id, starts_at, ends_at),
        numbers=await queries.read_numbers(session, legal_entity_id),
    )


async def number_accounts(session: AsyncSession, legal_entity_id: UUID, numbers: Mapping[str, str]) -> dict[str, str]:
    """Say what the entity's general ledger calls these accounts; all that are said so far. Raises `NotFound` and
    `Invalid`."""
    await get_entity(session, legal_entity_id)
    for account, number in sorted(numbers.items()):
        if account not in ACCOUNTS:
            raise Invalid(f"accounts are {', '.join(ACCOUNTS)}", code="unknown_account", param=account)
        if _NUMBER.fullmatch(number) is None:
            raise Invalid("a number is 1 to 30 letters, digits, dots and dashes", param=account)
        await queries.put_number(session, legal_entity_id, account, number)
    return await queries.read_numbers(session, legal_entity_id)


def _start_of(month: date) -> datetime:
    return datetime(month.year, month.month, 1, tzinfo=UTC)
