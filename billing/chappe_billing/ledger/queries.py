"""SQL of the ledger."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import msgspec
from msgspec import Struct
from sqlalchemy import BigInteger, cast, func, select, text
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_billing.ledger.models import LedgerAccount, LedgerEntry, LedgerTransaction, PublisherShare
from chappe_billing.ledger.postings import Account, Posting, TransactionKind
from chappe_billing.ledger.sharing import ShareTerms
from chappe_kernel.ids import LedgerTransactionId, PublisherId, TenantId
from chappe_store.arrays import is_among
from chappe_store.session import TenantScope


class OwnTransaction(Struct, frozen=True):
    """A transaction as its tenant sees it. `amount_nano` is what it did to the tenant's funds; a debit is negative."""

    id: UUID
    posted_at: datetime
    currency: str
    amount_nano: int


class Statement(Struct, frozen=True):
    """A transaction in a tenant's statement. `amount_nano` is what it did to the funds; a debit is negative."""

    id: UUID
    kind: TransactionKind
    currency: str
    reference: str | None
    reason: str | None
    rail: str | None
    reverses: UUID | None
    posted_at: datetime
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
                "legal_entity_id": account.legal_entity_id,
                "tenant_id": account.tenant_id,
                "region": account.region,
                "publisher_id": account.publisher_id,
            }
            for account in missing
        ]
        await session.execute(upsert(LedgerAccount).values(rows).on_conflict_do_nothing(index_elements=["id"]))


async def insert_postings(session: AsyncSession, postings: Sequence[Posting]) -> None:
    """With their entries and shares, in one statement."""
    lines = [(posting, *numbered) for posting in postings for numbered in enumerate(posting.lines, start=1)]
    shares = [(posting.id, share) for posting in postings for share in posting.shares]
    values = {
        "ids": [posting.id for posting in postings],
        "kinds": [posting.kind for posting in postings],
        "tenants": [posting.tenant_id for posting in postings],
        "currencies": [posting.currency for posting in postings],
        "entities": [posting.legal_entity_id for posting in postings],
        "references": [posting.reference for posting in postings],
        "reasons": [posting.reason for posting in postings],
        "rails": [posting.rail for posting in postings],
        "reversed": [posting.reverses for posting in postings],
        "entry_transactions": [posting.id for posting, _, _ in lines],
        "entry_lines": [number for _, number, _ in lines],
        "entry_accounts": [line.account.id for _, _, line in lines],
        "entry_tenants": [line.account.tenant_id for _, _, line in lines],
        "entry_currencies": [posting.currency for posting, _, _ in lines],
        "entry_amounts": [line.amount_nano for _, _, line in lines],
        "share_transactions": [transaction_id for transaction_id, _ in shares],
        "share_listings": [share.listing_id for _, share in shares],
        "share_publishers": [share.publisher_id for _, share in shares],
        "share_regions": [share.region for _, share in shares],
        "share_basis_points": [share.share_bp for _, share in shares],
        "share_bases": [share.base_nano for _, share in shares],
        "share_amounts": [share.share_nano for _, share in shares],
    }
    await session.execute(_INSERT_POSTINGS, values)


_INSERT_POSTINGS = text(
    """
    WITH headers AS (
        INSERT INTO ledger_transaction (
            id, kind, tenant_id, currency, legal_entity_id, reference, reason, rail, reverses
        )
        SELECT * FROM unnest(
            CAST(:ids AS uuid[]), CAST(:kinds AS text[]), CAST(:tenants AS uuid[]), CAST(:currencies AS text[]),
            CAST(:entities AS uuid[]), CAST(:references AS text[]), CAST(:reasons AS text[]),
            CAST(:rails AS text[]), CAST(:reversed AS uuid[])
        )
    ), entries AS (
        INSERT INTO ledger_entry (transaction_id, line, account_id, tenant_id, currency, amount_nano)
        SELECT * FROM unnest(
            CAST(:entry_transactions AS uuid[]), CAST(:entry_lines AS bigint[]), CAST(:entry_accounts AS uuid[]),
            CAST(:entry_tenants AS uuid[]), CAST(:entry_currencies AS text[]), CAST(:entry_amounts AS bigint[])
        )
    )
    INSERT INTO publisher_share (
        transaction_id, listing_id, publisher_id, region, share_bp, base_nano, share_nano
    )
    SELECT * FROM unnest(
        CAST(:share_transactions AS uuid[]), CAST(:share_listings AS uuid[]), CAST(:share_publishers AS uuid[]),
        CAST(:share_regions AS text[]), CAST(:share_basis_points AS bigint[]), CAST(:share_bases AS bigint[]),
        CAST(:share_amounts AS bigint[])
    )
    """
)


async def find_welcome_credit(session: AsyncSession, tenant_id: TenantId) -> LedgerTransactionId | None:
    statement = select(LedgerTransaction.id).where(
        LedgerTransaction.kind == TransactionKind.WELCOME_CREDIT, LedgerTransaction.tenant_id == tenant_id
    )
    found = await session.scalar(statement)
    return None if found is None else LedgerTransactionId(found)


async def find_share_terms(
    session: AsyncSession, transaction_id: LedgerTransactionId | None, listing_id: UUID, tenant_id: TenantId
) -> ShareTerms | None:
    """By which a listing's usage was shared in this transaction of the tenant's; None when it was not."""
    statement = select(PublisherShare.publisher_id, PublisherShare.share_bp, PublisherShare.region).where(
        PublisherShare.transaction_id == transaction_id, PublisherShare.listing_id == listing_id
    )
    row = (await session.execute(statement)).one_or_none()
    if row is None:
        return None
    left = await read_shares_left(session, tenant_id, listing_id, row.region)
    return ShareTerms(
        PublisherId(row.publisher_id), row.share_bp, left_nano=left.get((row.publisher_id, row.share_bp), 0)
    )


async def read_shares_left(
    session: AsyncSession, tenant_id: TenantId, listing_id: UUID, region: str
) -> dict[tuple[UUID, int], int]:
    """What publishers still have of a tenant's usage of a listing in a region, by publisher and term."""
    columns = (PublisherShare.publisher_id, PublisherShare.share_bp)
    statement = (
        select(*columns, func.sum(PublisherShare.share_nano))
        .join(LedgerTransaction, LedgerTransaction.id == PublisherShare.transaction_id)
        .where(
            LedgerTransaction.tenant_id == tenant_id,
            PublisherShare.listing_id == listing_id,
            PublisherShare.region == region,
        )
        .group_by(*columns)
    )
    return {(publisher_id, share_bp): int(left) for publisher_id, share_bp, left in await session.execute(statement)}


async def list_transactions(
    session: AsyncSession, scope: TenantScope, *, limit: int, before: UUID | None = None
) -> list[Statement]:
    """The tenant's own, newest first by id; `before` is the last one of the page before."""
    newest = select(LedgerTransaction).where(LedgerTransaction.tenant_id == scope.tenant_id)
    if before is not None:
        newest = newest.where(LedgerTransaction.id < before)
    page = newest.order_by(LedgerTransaction.id.desc()).limit(limit).subquery()
    own = (
        select(cast(func.coalesce(func.sum(LedgerEntry.amount_nano), 0), BigInteger))
        .where(LedgerEntry.transaction_id == page.c.id, LedgerEntry.tenant_id == scope.tenant_id)
        .scalar_subquery()
    )
    columns = ("id", "kind", "currency", "reference", "reason", "rail", "reverses")
    statement = select(
        *(page.c[name] for name in columns), page.c.created_at.label("posted_at"), own.label("amount_nano")
    )
    rows = await session.execute(statement.order_by(page.c.id.desc()))
    return msgspec.convert([dict(row) for row in rows.mappings()], list[Statement])


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
