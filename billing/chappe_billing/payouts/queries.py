"""SQL of what publishers earned and were paid. As the operator."""

from collections.abc import Collection, Sequence
from datetime import datetime
from uuid import UUID

import msgspec
from msgspec import Struct
from sqlalchemy import BigInteger, Uuid, bindparam, cast, func, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_billing.ledger.models import LedgerAccount, LedgerEntry, LedgerTransaction, PublisherShare
from chappe_billing.ledger.postings import AccountKind, TransactionKind
from chappe_catalogue.listings.models import Listing
from chappe_catalogue.publishers.models import Publisher
from chappe_kernel.ids import LegalEntityId, PublisherId
from chappe_store.arrays import is_among


class Owed(Struct, frozen=True):
    """What a legal entity owes a publisher: less than nothing, when corrections took back what was paid already."""

    publisher_id: UUID
    legal_entity_id: UUID
    currency: str
    payable_nano: int


class Payout(Struct, frozen=True):
    """`taken_back`: it was a mistake."""

    id: UUID
    legal_entity_id: UUID
    currency: str
    reference: str
    note: str | None
    rail: str | None
    paid_at: datetime
    amount_nano: int
    taken_back: bool


class Earned(Struct, frozen=True):
    """What a listing's usage in a region brought in a month, by one term. `base_nano` is what tenants paid."""

    listing: str
    region: str
    share_bp: int
    kind: TransactionKind
    base_nano: int
    share_nano: int


class Movements(Struct, frozen=True):
    """What happened to a publisher's accounts before a period, and within it by kind of transaction. A reversal is of
    a payout: nothing else of theirs is reversed."""

    before_nano: int
    by_kind: dict[TransactionKind, int]


async def list_publishers(session: AsyncSession, *, limit: int, before: UUID | None = None) -> Sequence[Publisher]:
    """Newest first."""
    statement = select(Publisher).order_by(Publisher.id.desc()).limit(limit)
    if before is not None:
        statement = statement.where(Publisher.id < before)
    return (await session.scalars(statement)).all()


async def find_publisher(session: AsyncSession, publisher_id: UUID) -> Publisher | None:
    found: Publisher | None = await session.get(Publisher, publisher_id)
    return found


async def read_owed(session: AsyncSession, publisher_ids: Collection[UUID]) -> list[Owed]:
    """By legal entity, of those with whom these publishers ever had an account."""
    columns = (LedgerAccount.publisher_id, LedgerAccount.legal_entity_id, LedgerAccount.currency)
    statement = (
        select(*columns, cast(func.coalesce(func.sum(LedgerEntry.amount_nano), 0), BigInteger).label("payable_nano"))
        .outerjoin(LedgerEntry, LedgerEntry.account_id == LedgerAccount.id)
        .where(LedgerAccount.kind == AccountKind.PUBLISHER_PAYABLE, is_among(LedgerAccount.publisher_id, publisher_ids))
        .group_by(*columns)
        .order_by(*columns)
    )
    return msgspec.convert([dict(row) for row in (await session.execute(statement)).mappings()], list[Owed])


async def lock_payouts(session: AsyncSession, publisher_id: PublisherId, entity_id: LegalEntityId) -> None:
    """Make those who pay one publisher out of one entity's books take turns until the transaction ends."""
    key = f"publisher payout {entity_id} {publisher_id}"
    await session.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(key, 0))))


async def list_payouts(
    session: AsyncSession, publisher_id: UUID, *, limit: int, before: UUID | None = None
) -> list[Payout]:
    """Newest first."""
    bound = {"publisher_id": publisher_id} | ({} if before is None else {"id": before})
    return await _read_payouts(session, "" if before is None else "AND t.id < :id", bound, limit)


async def find_payout(session: AsyncSession, publisher_id: UUID, payout_id: UUID) -> Payout | None:
    found = await _read_payouts(session, "AND t.id = :id", {"publisher_id": publisher_id, "id": payout_id}, 1)
    return found[0] if found else None


async def read_movements(
    session: AsyncSession, publisher_id: UUID, entity_id: UUID, since: datetime, until: datetime
) -> Movements:
    """In one legal entity's books, from `since` until just before `until`."""
    earlier = (LedgerTransaction.created_at < since).label("earlier")
    statement = (
        select(earlier, LedgerTransaction.kind, cast(func.sum(LedgerEntry.amount_nano), BigInteger))
        .join(LedgerEntry, LedgerEntry.transaction_id == LedgerTransaction.id)
        .join(LedgerAccount, LedgerAccount.id == LedgerEntry.account_id)
        .where(
            LedgerAccount.kind == AccountKind.PUBLISHER_PAYABLE,
            LedgerAccount.publisher_id == publisher_id,
            LedgerAccount.legal_entity_id == entity_id,
            LedgerTransaction.created_at < until,
        )
        .group_by(earlier, LedgerTransaction.kind)
    )
    rows = (await session.execute(statement)).all()
    return Movements(
        sum(amount for is_earlier, _, amount in rows if is_earlier),
        {TransactionKind(kind): amount for is_earlier, kind, amount in rows if not is_earlier},
    )


async def read_earned(
    session: AsyncSession, publisher_id: UUID, entity_id: UUID, since: datetime, until: datetime
) -> list[Earned]:
    """By listing, region, term, and whether it was earned or taken back."""
    columns = (Listing.name.label("listing"), PublisherShare.region, PublisherShare.share_bp, LedgerTransaction.kind)
    sums = (
        cast(func.sum(value), BigInteger).label(name)
        for name, value in (("base_nano", PublisherShare.base_nano), ("share_nano", PublisherShare.share_nano))
    )
    statement = (
        select(*columns, *sums)
        .join(LedgerTransaction, LedgerTransaction.id == PublisherShare.transaction_id)
        .join(Listing, Listing.id == PublisherShare.listing_id)
        .where(
            PublisherShare.publisher_id == publisher_id,
            LedgerTransaction.legal_entity_id == entity_id,
            LedgerTransaction.created_at >= since,
            LedgerTransaction.created_at < until,
        )
        .group_by(*columns)
        .order_by(*columns)
    )
    return msgspec.convert([dict(row) for row in (await session.execute(statement)).mappings()], list[Earned])


async def _read_payouts(session: AsyncSession, narrowed: str, bound: dict[str, UUID], limit: int) -> list[Payout]:
    statement = text(
        f"""
        SELECT t.id, t.legal_entity_id, t.currency, t.reference, t.reason AS note, t.rail, t.created_at AS paid_at,
               -e.amount_nano AS amount_nano,
               EXISTS (SELECT FROM ledger_transaction r WHERE r.reverses = t.id) AS taken_back
        FROM ledger_account a
        JOIN ledger_entry e ON e.account_id = a.id
        JOIN ledger_transaction t ON t.id = e.transaction_id
        WHERE a.kind = 'publisher_payable' AND a.publisher_id = :publisher_id AND a.region IS NULL
          AND t.kind = 'publisher_share' {narrowed}
        ORDER BY t.id DESC LIMIT :limit
        """  # noqa: S608 -- one of the two texts above, and no value
    ).bindparams(*(bindparam(name, type_=Uuid()) for name in bound))
    rows = (await session.execute(statement, {**bound, "limit": limit})).mappings()
    return msgspec.convert([dict(row) for row in rows], list[Payout])
