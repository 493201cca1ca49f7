"""SQL of payments that nobody could attribute. As the operator."""

from datetime import datetime
from uuid import UUID

import msgspec
from msgspec import Struct
from sqlalchemy import BindParameter, Uuid, bindparam, func, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_billing.ledger.postings import Rail, TransactionKind


class Payment(Struct, frozen=True):
    """`open_nano` of its `amount_nano` is nobody's yet. `note` is what came with it."""

    id: UUID
    legal_entity_id: UUID
    currency: str
    reference: str
    rail: Rail | None
    note: str | None
    received_at: datetime
    amount_nano: int
    open_nano: int


class Settlement(Struct, frozen=True):
    """What became of a part of a payment: `tenant_id` has it, or without one it was sent back. `taken_back`: that was
    a mistake, and the part is open again."""

    id: UUID
    kind: TransactionKind
    tenant_id: UUID | None
    reference: str
    reason: str | None
    posted_at: datetime
    amount_nano: int
    taken_back: bool


# A payment is what it put into suspense, less what whatever names it took out, less what was taken back of that.
_PAYMENTS = """
    SELECT p.id, p.legal_entity_id, p.currency, p.reference, p.rail, p.reason AS note, p.created_at AS received_at,
           s.amount_nano, s.open_nano
    FROM ledger_transaction p
    CROSS JOIN LATERAL (
        SELECT sum(e.amount_nano)::bigint AS open_nano,
               (sum(e.amount_nano) FILTER (WHERE e.transaction_id = p.id))::bigint AS amount_nano
        FROM ledger_entry e JOIN ledger_account a ON a.id = e.account_id
        WHERE a.kind = 'suspense' AND e.transaction_id IN (
            SELECT p.id
            UNION ALL SELECT t.id FROM ledger_transaction t WHERE t.reverses = p.id
            UNION ALL SELECT r.id FROM ledger_transaction t JOIN ledger_transaction r ON r.reverses = t.id
                      WHERE t.reverses = p.id AND r.kind = 'reversal'
        )
    ) s
    WHERE p.kind = 'suspense'
"""


async def list_payments(
    session: AsyncSession, *, settled: bool, limit: int, entity_id: UUID | None = None, before: UUID | None = None
) -> list[Payment]:
    """Newest first: those of which something is open, or with `settled` all."""
    statement = _PAYMENTS
    values: dict[str, object] = {"limit": limit}
    if not settled:
        statement += " AND s.open_nano > 0"
    if entity_id is not None:
        statement += " AND p.legal_entity_id = :entity_id"
        values["entity_id"] = entity_id
    if before is not None:
        statement += " AND p.id < :before"
        values["before"] = before
    ids = [bindparam(name, type_=Uuid()) for name in values if name != "limit"]
    return await _read(session, f"{statement} ORDER BY p.id DESC LIMIT :limit", ids, values)


async def find_payment(session: AsyncSession, payment_id: UUID) -> Payment | None:
    bound = [bindparam("payment_id", type_=Uuid())]
    found = await _read(session, f"{_PAYMENTS} AND p.id = :payment_id", bound, {"payment_id": payment_id})
    return found[0] if found else None


async def list_settlements(session: AsyncSession, payment_id: UUID) -> list[Settlement]:
    """Oldest first."""
    statement = text(
        """
        SELECT t.id, t.kind, t.tenant_id, t.reference, t.reason, t.created_at AS posted_at,
               (SELECT -sum(e.amount_nano)::bigint FROM ledger_entry e JOIN ledger_account a ON a.id = e.account_id
                WHERE e.transaction_id = t.id AND a.kind = 'suspense') AS amount_nano,
               EXISTS (SELECT FROM ledger_transaction r WHERE r.reverses = t.id AND r.kind = 'reversal') AS taken_back
        FROM ledger_transaction t WHERE t.reverses = :payment_id ORDER BY t.id
        """
    ).bindparams(bindparam("payment_id", type_=Uuid()))
    rows = (await session.execute(statement, {"payment_id": payment_id})).mappings()
    return msgspec.convert([dict(row) for row in rows], list[Settlement])


async def lock_payment(session: AsyncSession, payment_id: UUID) -> None:
    """Make those who settle one payment take turns until the transaction ends: nobody may change a ledger's row, and
    so lock it. After the tenant's budget, before the reference."""
    key = f"suspense {payment_id}"
    await session.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(key, 0))))


async def _read(
    session: AsyncSession, statement: str, bound: list[BindParameter[UUID]], values: dict[str, object]
) -> list[Payment]:
    rows = (await session.execute(text(statement).bindparams(*bound), values)).mappings()
    return msgspec.convert([dict(row) for row in rows], list[Payment])
