"""SQL of the journal. As the operator."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_billing.journal.entries import Movement
from chappe_billing.journal.models import JournalAccount

_MOVEMENTS = text(
    """
    SELECT t.kind, a.kind, a.region, sum(e.amount_nano)::bigint
    FROM ledger_transaction t
    JOIN ledger_entry e ON e.transaction_id = t.id
    JOIN ledger_account a ON a.id = e.account_id
    WHERE t.legal_entity_id = :entity AND t.created_at >= :starts_at AND t.created_at < :ends_at
    GROUP BY 1, 2, 3
    """
)
_ACCRUED = text(
    """
    SELECT coalesce(-sum(least(s.at_start, 0)), 0)::bigint, coalesce(-sum(least(s.at_end, 0)), 0)::bigint
    FROM (
        SELECT coalesce(sum(e.amount_nano) FILTER (WHERE t.created_at < :starts_at), 0) AS at_start,
               sum(e.amount_nano) AS at_end
        FROM ledger_account a
        JOIN ledger_entry e ON e.account_id = a.id
        JOIN ledger_transaction t ON t.id = e.transaction_id
        WHERE a.legal_entity_id = :entity AND a.kind = 'tenant_funds' AND t.created_at < :ends_at
        GROUP BY a.id
    ) s
    """
)


async def read_movements(
    session: AsyncSession, legal_entity_id: UUID, starts_at: datetime, ends_at: datetime
) -> list[Movement]:
    values = {"entity": legal_entity_id, "starts_at": starts_at, "ends_at": ends_at}
    return [Movement(*row) for row in await session.execute(_MOVEMENTS, values)]


async def read_accrued(
    session: AsyncSession, legal_entity_id: UUID, starts_at: datetime, ends_at: datetime
) -> tuple[int, int]:
    """How far below zero tenants' funds were, at the start and at the end."""
    values = {"entity": legal_entity_id, "starts_at": starts_at, "ends_at": ends_at}
    start, end = (await session.execute(_ACCRUED, values)).one()
    return start, end


async def read_numbers(session: AsyncSession, legal_entity_id: UUID) -> dict[str, str]:
    """By account."""
    statement = select(JournalAccount.account, JournalAccount.number).where(
        JournalAccount.legal_entity_id == legal_entity_id
    )
    return dict((await session.execute(statement)).tuples().all())


async def put_number(session: AsyncSession, legal_entity_id: UUID, account: str, number: str) -> None:
    statement = insert(JournalAccount).values(legal_entity_id=legal_entity_id, account=account, number=number)
    await session.execute(
        statement.on_conflict_do_update(
            index_elements=["legal_entity_id", "account"], set_={"number": statement.excluded.number}
        )
    )
