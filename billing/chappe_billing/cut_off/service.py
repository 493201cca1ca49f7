"""Closing months: once each, in their order, in the database's time."""

from collections.abc import Sequence
from datetime import date, timedelta
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from chappe_billing.budgets import queries as budgets
from chappe_billing.budgets.queries import LockedBudget
from chappe_billing.contract_terms import queries as contract_terms
from chappe_billing.contract_terms.models import ContractTerm
from chappe_billing.contract_terms.reckoning import TermKind, Tier, shortfall, volume_discount
from chappe_billing.cut_off import queries
from chappe_billing.cut_off.models import CutOffEntry, MonthCutOff
from chappe_billing.cut_off.months import months_from
from chappe_billing.ledger import service as ledger
from chappe_billing.ledger.postings import Account, AccountKind, Line, Posting, TransactionKind
from chappe_kernel.errors import Conflict
from chappe_kernel.ids import LedgerTransactionId, TenantId
from chappe_kernel.money import format_nano
from chappe_store.audit_log.origin import command_origin
from chappe_store.outbox import enqueue
from chappe_store.queries import read_now
from chappe_store.session import Database, TenantScope

GRACE = timedelta(hours=1)
"""After a month's end, until whatever began to post in it has ended: longer than any transaction may take."""

_KINDS = {
    TermKind.VOLUME_DISCOUNT: TransactionKind.VOLUME_DISCOUNT,
    TermKind.MINIMUM: TransactionKind.MINIMUM_FEE,
    TermKind.COMMITMENT: TransactionKind.COMMITMENT_FEE,
}


async def cut_off_all(database: Database) -> int:
    """Close every month that is over, of every tenant with terms; how many that were. Safe to repeat, to kill, and to
    run at several places: one transaction for each tenant and month."""
    async with database.audit() as session:
        this_month = (await read_now(session) - GRACE).date().replace(day=1)
        open_months = [
            (tenant_id, month)
            for tenant_id in await contract_terms.tenants_with_terms(session)
            for month in await _open_months(session, tenant_id, this_month)
        ]
    closed = 0
    for tenant_id, month in open_months:
        async with database.operator(command_origin()) as session:
            closed += await cut_off_month(session, tenant_id, month)
    return closed


async def cut_off_month(session: AsyncSession, tenant_id: UUID, month: date) -> bool:
    """Post what the tenant's terms ask for, and close the month; whether it was open. A fee may leave a debt.

    As the operator; locks the tenant's budget. Raises `Conflict` for a month that is not over, or after an open one."""
    budget = (await budgets.lock_budgets(session, [tenant_id]))[tenant_id]
    if await queries.is_cut_off(session, tenant_id, month):
        return False
    open_months = await _open_months(session, tenant_id, (await read_now(session) - GRACE).date().replace(day=1))
    if not open_months or open_months[0] != month:
        raise Conflict("months are closed in their order, once they are over", code="month_not_over")
    used_nano = await queries.used_in(session, tenant_id, month)
    entries = await _entries(session, tenant_id, month, used_nano)
    postings = [_posting(budget, month, term, entry) for term, entry in entries if entry.amount_nano]
    await ledger.post(session, postings)
    cut_off = MonthCutOff(tenant_id=tenant_id, month=month, used_nano=used_nano)
    await queries.insert_cut_off(session, cut_off, [entry for _, entry in entries])
    moved_nano = sum(entry.amount_nano for _, entry in entries)
    if moved_nano:
        await budgets.add_funds(session, TenantId(tenant_id), moved_nano)
    await enqueue(session, "month.cut_off", [_announcement(budget, month, used_nano, moved_nano)])
    return True


async def _open_months(session: AsyncSession, tenant_id: UUID, until: date) -> list[date]:
    terms = await contract_terms.list_terms(session, TenantScope(TenantId(tenant_id)))
    if not terms:
        return []
    closed = await queries.months_cut_off(session, tenant_id)
    return [month for month in months_from(min(term.first_month for term in terms), until) if month not in closed]


async def _entries(
    session: AsyncSession, tenant_id: UUID, month: date, used_nano: int
) -> list[tuple[ContractTerm, CutOffEntry]]:
    """For each term that holds, in the order in which they are reckoned."""
    terms = [
        term
        for term in await contract_terms.list_terms(session, TenantScope(TenantId(tenant_id)))
        if term.first_month <= month and (term.last_month is None or month <= term.last_month)
    ]
    entries = []
    paid_nano = used_nano
    for kind in TermKind:
        for term in sorted((term for term in terms if term.kind == kind), key=lambda term: term.id):
            base_nano, amount_nano = await _reckon(session, term, month, used_nano=used_nano, paid_nano=paid_nano)
            paid_nano -= amount_nano
            transaction_id = ledger.new_transaction_id() if amount_nano else None
            entry = CutOffEntry(
                tenant_id=tenant_id,
                month=month,
                term_id=term.id,
                base_nano=base_nano,
                amount_nano=amount_nano,
                transaction_id=transaction_id,
            )
            entries.append((term, entry))
    return entries


async def _reckon(
    session: AsyncSession, term: ContractTerm, month: date, *, used_nano: int, paid_nano: int
) -> tuple[int, int]:
    """What it is reckoned from, and what it does to the tenant's funds."""
    least_nano = term.amount_nano or 0
    if term.kind == TermKind.VOLUME_DISCOUNT:
        return used_nano, volume_discount(_tiers(term), used_nano)
    if term.kind == TermKind.MINIMUM:
        return paid_nano, -shortfall(least_nano, paid_nano)
    earlier = await queries.paid_in_earlier_months(session, term.tenant_id, term.first_month, month)
    is_last = month == term.last_month
    return earlier + paid_nano, -shortfall(least_nano, earlier + paid_nano) if is_last else 0


def _tiers(term: ContractTerm) -> Sequence[Tier]:
    return [Tier(*pair) for pair in zip(term.tier_from_nano, term.tier_basis_points, strict=True)]


def _posting(budget: LockedBudget, month: date, term: ContractTerm, entry: CutOffEntry) -> Posting:
    tenant_id = TenantId(budget.tenant_id)
    currency, entity = budget.currency, budget.legal_entity_id
    transaction_id = LedgerTransactionId(entry.transaction_id) if entry.transaction_id else ledger.new_transaction_id()
    return Posting(
        id=transaction_id,
        kind=_KINDS[TermKind(term.kind)],
        tenant_id=tenant_id,
        currency=currency,
        lines=(
            Line(Account(AccountKind.TENANT_FUNDS, currency, entity, tenant_id=tenant_id), entry.amount_nano),
            Line(Account(AccountKind.REVENUE, currency, entity), -entry.amount_nano),
        ),
        reference=f"cut-off {month:%Y-%m} {term.id}",
        reason=f"{term.kind.replace('_', ' ')} of {month:%Y-%m}",
    )


def _announcement(budget: LockedBudget, month: date, used_nano: int, moved_nano: int) -> dict[str, str]:
    return {
        "tenant_id": str(budget.tenant_id),
        "month": f"{month:%Y-%m}",
        "used": format_nano(used_nano),
        "moved": format_nano(moved_nano),
        "currency": budget.currency,
    }
