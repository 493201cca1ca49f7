"""SQL of the ledger."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from msgspec import Struct
from sqlalchemy import func, insert, select
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_billing.ledger.models import LedgerAccount, LedgerEntry, LedgerTransaction
from chappe_billing.ledger.postings import Account, Posting, TransactionKind
from chappe_kernel.ids import LedgerTransactionId, TenantId
from chappe_store.arrays import is_among
from chappe_store.session import TenantScope


class OwnTransaction(Struct, frozen=True):
    """A transaction as its tenant sees it. `amount_nano` is what it did to the tenant's funds; a debit is negative."""

    id: UUID
    posted_at: datetime
    currency: str
    amount_nano: int


async def ensure_accounts(session: AsyncSession, accounts: Sequence[Account]) -> None:
    """Make those that do not exist yet."""
    ids = [account.id for account in accounts]
    known = set(await session.scalars(select(LedgerAccount.id).where(is_among(LedgerAccount.id, ids))))
    # Sorted, so that two transactions that make the same accounts wait for each other in one order.
    missing = sorted((account for account in accounts if account.id not in known), key=lambda account: account.id)
    if missing:
        rows = [
            {
                "id": account.id,
                "kind": account.kind,
                "currency": account.currency,
                "tenant_id": account.tenant_id,
                "region": account.region,
            }
            for account in missing
        ]
        await session.execute(upsert(LedgerAccount).values(rows).on_conflict_do_nothing(index_elements=["id"]))


async def insert_postings(session: AsyncSession, postings: Sequence[Posting]) -> None:
    connection = await session.connection()
    await connection.execute(
        insert(LedgerTransaction),
        [
            {
                "id": posting.id,
                "kind": posting.kind,
                "tenant_id": posting.tenant_id,
                "currency": posting.currency,
            }
            for posting in postings
        ],
    )
    await connection.execute(
        insert(LedgerEntry),
        [
            {
                "transaction_id": posting.id,
                "line": number,
                "account_id": line.account.id,
                "tenant_id": line.account.tenant_id,
                "currency": posting.currency,
                "amount_nano": line.amount_nano,
            }
            for posting in postings
            for number, line in enumerate(posting.lines, start=1)
        ],
    )


async def find_welcome_credit(session: AsyncSession, tenant_id: TenantId) -> LedgerTransactionId | None:
    statement = select(LedgerTransaction.id).where(
        LedgerTransaction.kind == TransactionKind.WELCOME_CREDIT, LedgerTransaction.tenant_id == tenant_id
    )
    found = await session.scalar(statement)
    return None if found is None else LedgerTransactionId(found)


async def find_own_transaction(
    session: AsyncSession, scope: TenantScope, transaction_id: LedgerTransactionId
) -> OwnTransaction | None:
    """None for one that is unknown or another tenant's."""
    own = (
        select(func.coalesce(func.sum(LedgerEntry.amount_nano), 0))
        .where(LedgerEntry.transaction_id == LedgerTransaction.id, LedgerEntry.tenant_id == scope.tenant_id)
        .scalar_subquery()
    )
    statement = select(LedgerTransaction.id, LedgerTransaction.created_at, LedgerTransaction.currency, own).where(
        LedgerTransaction.tenant_id == scope.tenant_id, LedgerTransaction.id == transaction_id
    )
    row = (await session.execute(statement)).one_or_none()
    if row is None:
        return None
    found, posted_at, currency, amount_nano = row
    return OwnTransaction(found, posted_at, currency, int(amount_nano))
