"""SQL of closed months. As the operator."""

from collections.abc import Sequence
from datetime import UTC, date, datetime
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_billing.cut_off.models import CutOffEntry, MonthCutOff
from chappe_billing.cut_off.months import next_month
from chappe_billing.ledger.models import LedgerEntry, LedgerTransaction
from chappe_billing.ledger.postings import TransactionKind
from chappe_billing.usage.models import UsageMonth
from chappe_store.session import TenantScope


async def is_cut_off(session: AsyncSession, tenant_id: UUID, month: date) -> bool:
    return await session.get(MonthCutOff, (tenant_id, month)) is not None


async def months_cut_off(session: AsyncSession, tenant_id: UUID) -> set[date]:
    return set(await session.scalars(select(MonthCutOff.month).where(MonthCutOff.tenant_id == tenant_id)))


async def used_in(session: AsyncSession, tenant_id: UUID, month: date) -> int:
    """What the tenant paid for usage that was posted in this month, less what was given back of usage in it."""
    starts_at = datetime(month.year, month.month, 1, tzinfo=UTC)
    until = next_month(month)
    ends_at = datetime(until.year, until.month, 1, tzinfo=UTC)
    paid = await session.scalar(
        select(UsageMonth.amount_nano - UsageMonth.written_off_nano).where(
            UsageMonth.tenant_id == tenant_id, UsageMonth.month == starts_at
        )
    )
    given = await session.scalar(
        select(func.sum(LedgerEntry.amount_nano))
        .join(LedgerTransaction, LedgerTransaction.id == LedgerEntry.transaction_id)
        .where(
            LedgerTransaction.tenant_id == tenant_id,
            LedgerTransaction.kind == TransactionKind.USAGE_CORRECTION,
            LedgerTransaction.created_at >= starts_at,
            LedgerTransaction.created_at < ends_at,
            LedgerEntry.tenant_id == tenant_id,
        )
    )
    return int(paid or 0) - int(given or 0)


async def paid_in_earlier_months(session: AsyncSession, tenant_id: UUID, first: date, before: date) -> int:
    """Of closed months: what was used, less discounts, with fees."""
    used = await session.scalar(
        select(func.sum(MonthCutOff.used_nano)).where(
            MonthCutOff.tenant_id == tenant_id, MonthCutOff.month >= first, MonthCutOff.month < before
        )
    )
    moved = await session.scalar(
        select(func.sum(CutOffEntry.amount_nano)).where(
            CutOffEntry.tenant_id == tenant_id, CutOffEntry.month >= first, CutOffEntry.month < before
        )
    )
    return int(used or 0) - int(moved or 0)


async def insert_cut_off(session: AsyncSession, cut_off: MonthCutOff, entries: Sequence[CutOffEntry]) -> None:
    session.add(cut_off)
    await session.flush()
    session.add_all(entries)
    await session.flush()


async def list_entries(session: AsyncSession, scope: TenantScope) -> Sequence[CutOffEntry]:
    """Newest month first."""
    statement = (
        select(CutOffEntry)
        .where(CutOffEntry.tenant_id == scope.tenant_id)
        .order_by(CutOffEntry.month.desc(), CutOffEntry.term_id)
    )
    return (await session.scalars(statement)).all()
