"""SQL of alerts."""

from collections.abc import Collection, Mapping
from datetime import date, datetime, timedelta
from typing import Any
from uuid import UUID

from msgspec import Struct
from sqlalchemy import func, insert, select, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_billing.alerts.models import Alert, AlertSettings, PaymentFailure
from chappe_billing.budgets.models import Budget
from chappe_billing.usage.models import UsageDay
from chappe_store.arrays import is_among
from chappe_store.session import TenantScope
from chappe_tenants.members.models import Member
from chappe_tenants.organisations.models import Tenant
from chappe_tenants.quotas.models import Quota

_SETTINGS = (
    *("muted", "to_members", "emails", "language", "low_balance_nano", "low_balance_days"),
    "forecast_limit_nano",
)


class Settings(Struct, frozen=True):
    """As a tenant has them, or the defaults."""

    muted: tuple[str, ...] = ()
    to_members: bool = True
    emails: tuple[str, ...] = ()
    language: str | None = None
    low_balance_nano: int | None = None
    low_balance_days: int | None = 7
    forecast_limit_nano: int | None = None


class Standing(Struct, frozen=True):
    """An alert that was raised, with its figures of then."""

    id: UUID
    kind: str
    subject: str
    figures: dict[str, Any]
    raised_at: datetime
    recovered_at: datetime | None


class Balance(Struct, frozen=True):
    tenant_id: UUID
    currency: str
    spendable_nano: int


class Reader(Struct, frozen=True):
    """Somebody who is told, and the language that they last used the portal in, if they did."""

    email: str
    language: str | None


async def read_settings(session: AsyncSession, tenant_ids: Collection[UUID]) -> dict[UUID, Settings]:
    """Of those that have set some."""
    rows = await session.scalars(select(AlertSettings).where(is_among(AlertSettings.tenant_id, tenant_ids)))
    return {row.tenant_id: _settings(row) for row in rows}


async def put_settings(session: AsyncSession, scope: TenantScope, settings: Settings) -> None:
    values = {name: list(value) if isinstance(value := getattr(settings, name), tuple) else value for name in _SETTINGS}
    statement = upsert(AlertSettings).values(tenant_id=scope.tenant_id, **values)
    await session.execute(statement.on_conflict_do_update(index_elements=["tenant_id"], set_=values))


async def tenants_to_watch(session: AsyncSession) -> list[UUID]:
    """Those that spent in the last days or have an alert that stands, unless they are closed: nothing changes for the
    others, but what they set themselves."""
    spent = select(UsageDay.tenant_id).where(UsageDay.day >= func.current_date() - 8)
    stand = select(Alert.tenant_id).where(Alert.recovered_at.is_(None))
    configured = select(AlertSettings.tenant_id).where(AlertSettings.low_balance_nano.is_not(None))
    query = select(Tenant.id).where(
        Tenant.state != "closed",
        Tenant.id.in_(spent.union(stand, configured)),
    )
    return list(await session.scalars(query.order_by(Tenant.id)))


async def read_balances(session: AsyncSession, tenant_ids: Collection[UUID]) -> list[Balance]:
    query = select(
        Budget.tenant_id, Budget.currency, Budget.funds_nano + Budget.credit_limit_nano - Budget.posted_nano
    ).where(is_among(Budget.tenant_id, tenant_ids))
    return [Balance(*row) for row in await session.execute(query)]


async def read_days(session: AsyncSession, tenant_ids: Collection[UUID]) -> dict[UUID, dict[date, int]]:
    """What each paid by day: of this month, and of at least the last eight days."""
    first = func.least(func.date_trunc("month", func.now(), "UTC"), func.now() - timedelta(days=9))
    query = (
        select(UsageDay.tenant_id, UsageDay.day, func.sum(UsageDay.amount_nano - UsageDay.written_off_nano))
        .where(is_among(UsageDay.tenant_id, tenant_ids), UsageDay.day >= func.timezone("UTC", first))
        .group_by(UsageDay.tenant_id, UsageDay.day)
    )
    found: dict[UUID, dict[date, int]] = {}
    for tenant_id, day, paid_nano in await session.execute(query):
        found.setdefault(tenant_id, {})[day] = int(paid_nano)
    return found


async def read_whole_budgets(session: AsyncSession, tenant_ids: Collection[UUID]) -> dict[UUID, dict[UUID, int]]:
    """Monthly budgets of whole organisations, for all models together: by their own word or by contract."""
    query = select(Quota.tenant_id, Quota.id, Quota.monthly_budget_nano).where(
        is_among(Quota.tenant_id, tenant_ids),
        Quota.level.in_(["tenant", "contract"]),
        Quota.model.is_(None),
        Quota.monthly_budget_nano > 0,
    )
    found: dict[UUID, dict[UUID, int]] = {}
    for tenant_id, quota_id, nano in await session.execute(query):
        found.setdefault(tenant_id, {})[quota_id] = nano or 0
    return found


async def read_standing(session: AsyncSession, tenant_ids: Collection[UUID]) -> dict[UUID, set[tuple[str, str]]]:
    query = select(Alert.tenant_id, Alert.kind, Alert.subject).where(
        is_among(Alert.tenant_id, tenant_ids), Alert.recovered_at.is_(None)
    )
    found: dict[UUID, set[tuple[str, str]]] = {}
    for tenant_id, kind, subject in await session.execute(query):
        found.setdefault(tenant_id, set()).add((kind, subject))
    return found


async def insert_alert(
    session: AsyncSession, tenant_id: UUID, alert_id: UUID, *, kind: str, subject: str, figures: Mapping[str, Any]
) -> bool:
    """False, and nothing inserted, while one of this kind and subject stands."""
    statement = (
        upsert(Alert)
        .values(tenant_id=tenant_id, id=alert_id, kind=kind, subject=subject, figures=dict(figures))
        .on_conflict_do_nothing(
            index_elements=["tenant_id", "kind", "subject"], index_where=Alert.recovered_at.is_(None)
        )
        .returning(Alert.id)
    )
    return await session.scalar(statement) is not None


async def recover(session: AsyncSession, tenant_id: UUID, kind: str, subject: str) -> None:
    await session.execute(
        update(Alert)
        .where(
            Alert.tenant_id == tenant_id,
            Alert.kind == kind,
            Alert.subject == subject,
            Alert.recovered_at.is_(None),
        )
        .values(recovered_at=func.now())
        .execution_options(synchronize_session=False)
    )


async def list_alerts(
    session: AsyncSession, scope: TenantScope, *, limit: int, before: UUID | None = None
) -> list[Standing]:
    """Newest first."""
    columns = (getattr(Alert, name) for name in Standing.__struct_fields__)
    query = select(*columns).where(Alert.tenant_id == scope.tenant_id).order_by(Alert.id.desc()).limit(limit)
    if before is not None:
        query = query.where(Alert.id < before)
    return [Standing(*row) for row in await session.execute(query)]


async def read_readers(session: AsyncSession, tenant_id: UUID) -> list[Reader]:
    """Owners and billing members."""
    query = select(Member.email, Member.language).where(
        Member.tenant_id == tenant_id, Member.role.in_(["owner", "billing"])
    )
    return [Reader(*row) for row in await session.execute(query.order_by(Member.email))]


async def insert_failure(session: AsyncSession, tenant_id: UUID, failure_id: UUID, **values: Any) -> None:
    await session.execute(insert(PaymentFailure).values(tenant_id=tenant_id, id=failure_id, **values))


async def recover_failures(session: AsyncSession, tenant_id: UUID, invoice_id: UUID | None, *, before: UUID) -> int:
    """How many stood, of this invoice, or of those without one. `before` is the message that a payment came in: what
    failed after it (a bank took it back) stands, in whatever order the two are heard of."""
    about = PaymentFailure.invoice_id.is_(None) if invoice_id is None else PaymentFailure.invoice_id == invoice_id
    gone = await session.execute(
        update(PaymentFailure)
        .where(
            PaymentFailure.tenant_id == tenant_id,
            about,
            PaymentFailure.recovered_at.is_(None),
            PaymentFailure.id < before,
        )
        .values(recovered_at=func.now())
        .returning(PaymentFailure.id)
        .execution_options(synchronize_session=False)
    )
    return len(gone.all())


def _settings(row: AlertSettings) -> Settings:
    values = {name: getattr(row, name) for name in _SETTINGS}
    return Settings(**values | {"muted": tuple(row.muted), "emails": tuple(row.emails)})
