"""SQL across tenants: lists, and what the page of one tenant shows."""

from collections.abc import Collection, Sequence
from datetime import datetime
from functools import cache
from typing import Any
from uuid import UUID

from msgspec import Struct
from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Executable,
    RowMapping,
    SQLColumnExpression,
    Subquery,
    Uuid,
    and_,
    bindparam,
    false,
    func,
    literal,
    select,
    tuple_,
)
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_billing.budgets.models import Budget
from chappe_billing.grants.models import BudgetGrant
from chappe_billing.ledger.models import LedgerEntry, LedgerTransaction
from chappe_billing.usage.models import UsageMonth
from chappe_control.console.tenants.paging import After, Listing, Order, Sort
from chappe_store.arrays import is_among
from chappe_store.audit_log.models import AuditEntry
from chappe_store.session import TenantScope
from chappe_tenants.api_keys.models import ApiKey
from chappe_tenants.api_keys.queries import OWN_LIMIT
from chappe_tenants.members.models import Member
from chappe_tenants.organisations.models import Tenant
from chappe_tenants.organisations.queries import matches
from chappe_tenants.projects.models import Project

PAGE_ROWS = 50
MAX_KEYS = 200
MAX_MEMBERS = 200
MAX_TRANSACTIONS = 20
MAX_RELATED = 50
MAX_STEPS = 20


class TenantRow(Struct, frozen=True):
    """A tenant in the list. `pending` is what unexpired grants could still spend, `spend` what was paid this month."""

    id: UUID
    name: str
    state: str
    regions: list[str]
    currency: str
    created_at: datetime
    available_nano: int
    credit_limit_nano: int
    requests: int
    tokens: int
    spend_nano: int
    pending_nano: int
    members: int
    last_activity_at: datetime | None


class RelatedRow(Struct, frozen=True):
    """A tenant that this one belongs to (`above`), or that belongs to it. `relation` is the lower one's."""

    id: UUID
    name: str
    state: str
    relation: str | None
    above: bool


class StepRow(Struct, frozen=True):
    """A state that began, why, and which kind of actor decided it."""

    at: datetime
    state: str
    reason: str | None
    actor_kind: str


class KeyRow(Struct, frozen=True):
    """A key without anything secret. `purpose` marks the one that browsers' tokens stand for."""

    id: UUID
    name: str
    kind: str
    prefix: str
    project: str
    regions: list[str] | None
    models: list[str] | None
    requests_per_minute: int | None
    purpose: str | None
    created_at: datetime
    revoked_at: datetime | None
    last_used_at: datetime | None


class MemberRow(Struct, frozen=True):
    email: str
    role: str
    created_at: datetime


class TransactionRow(Struct, frozen=True):
    """A ledger transaction, and what it did to the tenant's funds: a debit is negative."""

    id: UUID
    kind: str
    currency: str
    posted_at: datetime
    amount_nano: int


async def count_tenants(session: AsyncSession, listing: Listing) -> int:
    """How many match, on all pages."""
    query = select(func.count()).select_from(Tenant).where(*_wanted(listing))
    return await session.scalar(query) or 0


async def list_tenants(session: AsyncSession, listing: Listing, month: datetime) -> list[TenantRow]:
    """Up to `PAGE_ROWS` + 1 tenants; the last one only says that there is another page."""
    value = _sort_value(listing.sort)
    query = _tenants(month).where(*_wanted(listing))
    if listing.after is not None:
        query = query.where(_comes_after(listing.after, value))
    page = query.order_by(*_ordered(listing.order, value, Tenant.id)).limit(PAGE_ROWS + 1).subquery()
    again = {
        Sort.NAME: func.lower(page.c.name),
        Sort.BALANCE: page.c.available_nano,
        Sort.SPEND: page.c.spend_nano,
    }
    query = _completed(page, _ordered(listing.order, again[listing.sort], page.c.id))
    return [_row(row) for row in (await session.execute(query)).mappings()]


async def read_tenant(session: AsyncSession, scope: TenantScope, month: datetime) -> TenantRow | None:
    rows = (await session.execute(_one_tenant(), {"tenant_id": scope.tenant_id, "month": month})).mappings().all()
    return _row(rows[0]) if rows else None


async def read_details(session: AsyncSession, scope: TenantScope) -> Tenant | None:
    return await session.get(Tenant, scope.tenant_id)


async def list_related(session: AsyncSession, tenant: Tenant) -> list[RelatedRow]:
    """Its group or reseller first, then its subsidiaries and customers by name."""
    values = {"tenant_id": tenant.id, "parent_id": tenant.parent_id}
    return [RelatedRow(*row) for row in await session.execute(_related(), values)]


async def list_steps(session: AsyncSession, scope: TenantScope) -> list[StepRow]:
    """From state to state, newest first, as the audit log has it."""
    return [StepRow(*row) for row in await session.execute(_steps(), {"tenant_id": scope.tenant_id})]


async def list_keys(session: AsyncSession, scope: TenantScope) -> list[KeyRow]:
    """Newest first, those in use before those that were revoked."""
    return [KeyRow(*row) for row in await session.execute(_keys(), {"tenant_id": scope.tenant_id})]


async def list_members(session: AsyncSession, scope: TenantScope) -> list[MemberRow]:
    return [MemberRow(*row) for row in await session.execute(_members(), {"tenant_id": scope.tenant_id})]


async def last_transactions(session: AsyncSession, scope: TenantScope) -> list[TransactionRow]:
    """Newest first. Only entries on the tenant's own accounts count: the other side is the operator's."""
    return [
        TransactionRow(transaction_id, kind, currency, posted_at, int(amount))
        for transaction_id, kind, currency, posted_at, amount in await session.execute(
            _transactions(), {"tenant_id": scope.tenant_id}
        )
    ]


def after(row: TenantRow, listing: Listing) -> After:
    """The cursor behind this row."""
    values: dict[Sort, str | int] = {
        Sort.NAME: row.name,
        Sort.BALANCE: row.available_nano,
        Sort.SPEND: row.spend_nano,
    }
    return After(listing.sort, listing.order, values[listing.sort], row.id)


_AVAILABLE: ColumnElement[int] = func.coalesce(Budget.funds_nano - Budget.posted_nano, 0)
_SPEND: ColumnElement[int] = func.coalesce(UsageMonth.amount_nano - UsageMonth.written_off_nano, 0)


# A page of one tenant has six of these, fetched every three seconds: to build them takes longer than to run them.


@cache
def _one_tenant() -> Executable:
    return _completed(_tenants(bindparam("month")).where(Tenant.id == bindparam("tenant_id")).subquery(), ())


@cache
def _related() -> Executable:
    parent_id: BindParameter[UUID] = bindparam("parent_id", type_=Uuid())
    return (
        select(
            Tenant.id,
            Tenant.name,
            Tenant.state,
            Tenant.relation,
            func.coalesce(Tenant.id == parent_id, false()).label("above"),
        )
        .where((Tenant.id == parent_id) | (Tenant.parent_id == bindparam("tenant_id")))
        .order_by(Tenant.id != parent_id, func.lower(Tenant.name), Tenant.id)
        .limit(MAX_RELATED)
    )


@cache
def _steps() -> Executable:
    after = AuditEntry.after
    return (
        select(
            AuditEntry.recorded_at, after["state"].as_string(), after["state_reason"].as_string(), AuditEntry.actor_kind
        )
        .where(
            AuditEntry.tenant_id == bindparam("tenant_id"),
            AuditEntry.noun == Tenant.__tablename__,
            after["state"].as_string().is_not(None),
        )
        .order_by(AuditEntry.sequence.desc())
        .limit(MAX_STEPS)
    )


@cache
def _keys() -> Executable:
    return (
        select(
            ApiKey.id,
            ApiKey.name,
            ApiKey.kind,
            ApiKey.prefix,
            Project.name,
            ApiKey.regions,
            ApiKey.models,
            OWN_LIMIT,
            ApiKey.purpose,
            ApiKey.created_at,
            ApiKey.revoked_at,
            ApiKey.last_used_at,
        )
        .join(Project, and_(Project.tenant_id == ApiKey.tenant_id, Project.id == ApiKey.project_id))
        .where(ApiKey.tenant_id == bindparam("tenant_id"))
        .order_by(ApiKey.revoked_at.isnot(None), ApiKey.id.desc())
        .limit(MAX_KEYS)
    )


@cache
def _members() -> Executable:
    return (
        select(Member.email, Member.role, Member.created_at)
        .where(Member.tenant_id == bindparam("tenant_id"))
        .order_by(Member.email)
        .limit(MAX_MEMBERS)
    )


@cache
def _transactions() -> Executable:
    newest = (
        select(LedgerTransaction)
        .where(LedgerTransaction.tenant_id == bindparam("tenant_id"))
        .order_by(LedgerTransaction.id.desc())
        .limit(MAX_TRANSACTIONS)
        .subquery()
    )
    own = (
        select(func.coalesce(func.sum(LedgerEntry.amount_nano), 0))
        .where(LedgerEntry.transaction_id == newest.c.id, LedgerEntry.tenant_id == bindparam("tenant_id"))
        .scalar_subquery()
    )
    return select(newest.c.id, newest.c.kind, newest.c.currency, newest.c.created_at, own).order_by(newest.c.id.desc())


def _tenants(month: datetime | BindParameter[datetime]) -> Any:
    return (
        select(
            Tenant.id,
            Tenant.name,
            Tenant.state,
            Tenant.allowed_regions.label("regions"),
            func.coalesce(Budget.currency, Tenant.currency).label("currency"),
            Tenant.created_at,
            _AVAILABLE.label("available_nano"),
            func.coalesce(Budget.credit_limit_nano, 0).label("credit_limit_nano"),
            func.coalesce(UsageMonth.requests, 0).label("requests"),
            func.coalesce(UsageMonth.prompt_tokens + UsageMonth.completion_tokens, 0).label("tokens"),
            _SPEND.label("spend_nano"),
        )
        .outerjoin(Budget, Budget.tenant_id == Tenant.id)
        .outerjoin(UsageMonth, and_(UsageMonth.tenant_id == Tenant.id, UsageMonth.month == month))
    )


def _completed(page: Subquery, order: Sequence[SQLColumnExpression[Any]]) -> Executable:
    """Each row of `page` with what has to be looked up for it: an outer query, so only for the rows of one page."""
    # From the grants, as the tenant's own balance has it: one that expired counts no more.
    pending = (
        select(
            func.coalesce(func.sum(BudgetGrant.amount_nano - BudgetGrant.returned_nano - BudgetGrant.posted_nano), 0)
        )
        .where(
            BudgetGrant.tenant_id == page.c.id,
            BudgetGrant.released_at.is_(None),
            BudgetGrant.release_at > func.now(),
        )
        .scalar_subquery()
    )
    members = select(func.count()).where(Member.tenant_id == page.c.id).scalar_subquery()
    activity = select(func.max(ApiKey.last_used_at)).where(ApiKey.tenant_id == page.c.id).scalar_subquery()
    return select(
        *page.c, pending.label("pending_nano"), members.label("members"), activity.label("last_activity_at")
    ).order_by(*order)


def _row(row: RowMapping) -> TenantRow:
    return TenantRow(**{**row, "pending_nano": int(row["pending_nano"])})


def _sort_value(sort: Sort) -> ColumnElement[Any]:
    by: dict[Sort, ColumnElement[Any]] = {
        Sort.NAME: func.lower(Tenant.name),
        Sort.BALANCE: _AVAILABLE,
        Sort.SPEND: _SPEND,
    }
    return by[sort]


def _ordered(order: Order, *columns: SQLColumnExpression[Any]) -> list[SQLColumnExpression[Any]]:
    return [column.desc() for column in columns] if order is Order.DESCENDING else list(columns)


def _comes_after(last: After, value: ColumnElement[Any]) -> ColumnElement[bool]:
    place = func.lower(last.value) if isinstance(last.value, str) else literal(last.value)
    here, there = tuple_(value, Tenant.id), tuple_(place, literal(last.tenant_id))
    return here < there if last.order is Order.DESCENDING else here > there


def _wanted(listing: Listing) -> list[ColumnElement[bool]]:
    found = [matches(listing.search)] if listing.search else []
    return found if listing.state is None else [*found, Tenant.state == listing.state]


def shown(rows: Sequence[TenantRow]) -> tuple[Sequence[TenantRow], bool]:
    """The page's rows, and whether more follow."""
    return rows[:PAGE_ROWS], len(rows) > PAGE_ROWS


async def read_tenant_names(session: AsyncSession, tenant_ids: Collection[UUID]) -> dict[UUID, str]:
    """Those of them that there are."""
    rows = await session.execute(select(Tenant.id, Tenant.name).where(is_among(Tenant.id, tenant_ids)))
    return {row.id: row.name for row in rows}
