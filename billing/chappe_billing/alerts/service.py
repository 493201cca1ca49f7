"""Looking whether anything crossed a limit or recovered, and what tenants set about it."""

from collections.abc import Mapping
from datetime import date, datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from chappe_billing.alerts import queries
from chappe_billing.alerts.crossing import Finances, Limits, changes, watch
from chappe_billing.alerts.forecast import forecast, pace_of
from chappe_billing.alerts.kinds import NOTICE, AlertKind
from chappe_billing.alerts.queries import Balance, Settings
from chappe_kernel.errors import Invalid
from chappe_kernel.ids import ALERT, QUOTA, TENANT, TenantId, encode_id, new_id
from chappe_store.outbox import enqueue
from chappe_store.queries import read_now
from chappe_store.session import Database, TenantScope
from chappe_tenants.naming import clean_email

MAX_EMAILS: Final = 10
MUTABLE: Final = (
    *("budget.threshold_reached", AlertKind.FORECAST, AlertKind.LOW_BALANCE),
    *("payment.failed", "payment.succeeded"),
)
"""Letters that a tenant may do without. What is about a suspension or an overdue invoice always comes."""
_AT_ONCE: Final = 500


async def check_alerts(database: Database) -> int:
    """Raise and recover what crossed or came back, of every tenant; how many were raised. Safe to repeat, to kill, and
    to run at several places: a crossing is told in the transaction that notes it, and noted once."""
    async with database.audit() as session:
        tenant_ids = await queries.tenants_to_watch(session)
    raised = 0
    for start in range(0, len(tenant_ids), _AT_ONCE):
        raised += await _check_some(database, tenant_ids[start : start + _AT_ONCE])
    return raised


async def read_finances(session: AsyncSession, scope: TenantScope) -> tuple[Finances, dict[date, int]] | None:
    """Of one tenant, with what it paid by day; None for one without a budget."""
    now = await read_now(session)
    days = (await queries.read_days(session, [scope.tenant_id])).get(scope.tenant_id, {})
    found = await queries.read_balances(session, [scope.tenant_id])
    return (_finances(found[0], days, now), days) if found else None


async def read_limits(session: AsyncSession, scope: TenantScope, settings: Settings) -> Limits:
    found = await queries.read_whole_budgets(session, [scope.tenant_id])
    return limits_of(settings, found.get(scope.tenant_id, {}))


async def get_settings(session: AsyncSession, scope: TenantScope) -> Settings:
    """What the tenant set, or the defaults."""
    return (await queries.read_settings(session, [scope.tenant_id])).get(scope.tenant_id, Settings())


async def put_settings(session: AsyncSession, scope: TenantScope, settings: Settings) -> Settings:
    """Raises `Invalid` naming the field."""
    if not set(settings.muted) <= set(MUTABLE):
        raise Invalid(f"muted names some of: {', '.join(MUTABLE)}", param="muted")
    if len(settings.emails) > MAX_EMAILS:
        raise Invalid(f"at most {MAX_EMAILS} addresses", param="emails")
    if settings.language not in {None, "en", "fr", "de"}:
        raise Invalid("language is en, fr or de", param="language")
    if not 1 <= (settings.low_balance_days or 1) <= 90:  # noqa: PLR2004 -- as the database has it
        raise Invalid("low_balance_days is 1 to 90", param="low_balance_days")
    if (settings.low_balance_nano or 0) < 0:
        raise Invalid("low_balance is an amount of at least nothing", param="low_balance")
    if settings.forecast_limit_nano is not None and settings.forecast_limit_nano <= 0:
        raise Invalid("forecast_limit is an amount above nothing", param="forecast_limit")
    cleaned = Settings(
        muted=tuple(kind for kind in MUTABLE if kind in settings.muted),
        to_members=settings.to_members,
        emails=tuple(dict.fromkeys(_clean(text) for text in settings.emails)),
        language=settings.language,
        low_balance_nano=settings.low_balance_nano,
        low_balance_days=settings.low_balance_days,
        forecast_limit_nano=settings.forecast_limit_nano,
    )
    await queries.put_settings(session, scope, cleaned)
    return cleaned


def limits_of(settings: Settings, budgets: Mapping[UUID, int]) -> Limits:
    return Limits(
        settings.low_balance_nano,
        settings.low_balance_days,
        settings.forecast_limit_nano,
        {encode_id(QUOTA, quota_id): nano for quota_id, nano in budgets.items()},
    )


async def _check_some(database: Database, tenant_ids: list[UUID]) -> int:
    async with database.audit() as session:
        now = await read_now(session)
        balances = await queries.read_balances(session, tenant_ids)
        days = await queries.read_days(session, tenant_ids)
        budgets = await queries.read_whole_budgets(session, tenant_ids)
        settings = await queries.read_settings(session, tenant_ids)
        standing = await queries.read_standing(session, tenant_ids)
    raised = 0
    for balance in balances:
        tenant_id = balance.tenant_id
        limits = limits_of(settings.get(tenant_id, Settings()), budgets.get(tenant_id, {}))
        found = watch(limits, _finances(balance, days.get(tenant_id, {}), now))
        told, recovered = changes(standing.get(tenant_id, set()), found)
        if told or recovered:
            async with database.operator() as session:
                for kind, subject in sorted(recovered):
                    await queries.recover(session, tenant_id, kind, subject)
                for one in told:
                    raised += await _raise(session, tenant_id, one.kind, one.subject, one.figures)
    return raised


async def _raise(
    session: AsyncSession, tenant_id: UUID, kind: AlertKind, subject: str, figures: dict[str, Any]
) -> bool:
    alert_id = new_id()
    if not await queries.insert_alert(session, tenant_id, alert_id, kind=kind, subject=subject, figures=figures):
        return False
    data = {"alert_id": encode_id(ALERT, alert_id), **figures}
    await enqueue(session, NOTICE, [{"kind": kind, "tenant_id": encode_id(TENANT, tenant_id), "data": data}])
    return True


def _finances(balance: Balance, days: Mapping[date, int], now: datetime) -> Finances:
    return Finances(balance.currency, balance.spendable_nano, pace_of(days, now), forecast(days, now))


def _clean(text: str) -> str:
    try:
        return clean_email(text)
    except Invalid as error:
        raise Invalid(error.message, code=error.code, param="emails") from None


def scope_of(tenant_id: UUID) -> TenantScope:
    """For work of the operator's own about one tenant."""
    return TenantScope(TenantId(tenant_id))
