"""Sums across tenants by hour: of what was used, and of what the ledger says about it."""

from datetime import datetime
from typing import Self
from uuid import UUID

from msgspec import Struct
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_billing.budgets.models import Budget
from chappe_billing.ledger.models import LedgerAccount, LedgerEntry, LedgerTransaction
from chappe_billing.ledger.postings import AccountKind, TransactionKind
from chappe_billing.usage.models import UsageHour


class Sums(Struct, frozen=True):
    """Usage in numbers. `rated` is what the prices make of it, `written_off` the part that nobody pays."""

    requests: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    rated_nano: int = 0
    written_off_nano: int = 0

    @property
    def revenue_nano(self) -> int:
        """What tenants paid."""
        return self.rated_nano - self.written_off_nano

    def __add__(self, other: Self) -> "Sums":
        return Sums(
            self.requests + other.requests,
            self.prompt_tokens + other.prompt_tokens,
            self.cached_tokens + other.cached_tokens,
            self.completion_tokens + other.completion_tokens,
            self.rated_nano + other.rated_nano,
            self.written_off_nano + other.written_off_nano,
        )


class UsedInHour(Struct, frozen=True):
    """Usage of one listing in one region, posted in the hour that begins at `hour`, in one currency."""

    hour: datetime
    region: str
    listing_id: UUID
    currency: str
    sums: Sums


class BookedInHour(Struct, frozen=True):
    """What entries of one kind of account add up to. Revenue and publishers' shares are kept by region; write-offs have
    none."""

    hour: datetime
    kind: AccountKind
    region: str | None
    currency: str
    amount_nano: int


async def used_by_hour(session: AsyncSession, *, since: datetime, until: datetime) -> list[UsedInHour]:
    """Whole hours that begin in [since, until)."""
    # The currency is the budget's that paid: a listing may be sold in another one by now.
    key = (UsageHour.hour, UsageHour.region, UsageHour.listing_id, Budget.currency)
    columns = (
        UsageHour.requests,
        UsageHour.prompt_tokens,
        UsageHour.cached_tokens,
        UsageHour.completion_tokens,
        UsageHour.amount_nano,
        UsageHour.written_off_nano,
    )
    statement = (
        select(*key, *(func.sum(column) for column in columns))
        .join(Budget, Budget.tenant_id == UsageHour.tenant_id)
        .where(UsageHour.hour >= since, UsageHour.hour < until)
        .group_by(*key)
    )
    rows = await session.execute(statement)
    return [
        UsedInHour(hour, region, listing_id, currency, Sums(*(int(total) for total in sums)))
        for hour, region, listing_id, currency, *sums in rows
    ]


async def booked_by_hour(session: AsyncSession, *, since: datetime, until: datetime) -> list[BookedInHour]:
    """Entries of usage transactions of [since, until) on the revenue, publishers' and write-off accounts; credits
    are positive."""
    # Transactions of the period first, then their entries, accounts last: from the accounts' side the way leads
    # through every entry that they ever had, and the planner cannot know better.
    posted = (
        select(LedgerTransaction.id, func.date_trunc("hour", LedgerTransaction.created_at).label("hour"))
        .where(
            LedgerTransaction.kind == TransactionKind.USAGE,
            LedgerTransaction.created_at >= since,
            LedgerTransaction.created_at < until,
        )
        .cte("posted")
        .prefix_with("MATERIALIZED")
    )
    sums = (
        select(posted.c.hour, LedgerEntry.account_id, func.sum(LedgerEntry.amount_nano).label("amount_nano"))
        .join(posted, posted.c.id == LedgerEntry.transaction_id)
        .where(LedgerEntry.tenant_id.is_(None))
        .group_by(posted.c.hour, LedgerEntry.account_id)
        .subquery()
    )
    statement = (
        select(sums.c.hour, LedgerAccount.kind, LedgerAccount.region, LedgerAccount.currency, sums.c.amount_nano)
        .join(LedgerAccount, LedgerAccount.id == sums.c.account_id)
        .where(LedgerAccount.kind.in_((AccountKind.REVENUE, AccountKind.PUBLISHER_PAYABLE, AccountKind.WRITE_OFF)))
    )
    rows = await session.execute(statement)
    return [
        BookedInHour(begins, AccountKind(kind), region, currency, int(amount))
        for begins, kind, region, currency, amount in rows
    ]
