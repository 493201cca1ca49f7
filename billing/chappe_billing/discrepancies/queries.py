"""SQL of discrepancies."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from msgspec import Struct
from sqlalchemy import Select, func, select, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_billing.budgets.models import Budget
from chappe_billing.discrepancies.models import UsageDiscrepancy
from chappe_billing.usage.models import UsageEvent


class ListedDiscrepancy(Struct, frozen=True):
    """A discrepancy beside what was posted. `paid_nano` is what the tenant paid for the request."""

    id: UUID
    request_id: UUID
    tenant_id: UUID
    region: str
    gateway: str
    kind: str
    outcome: str
    completion_tokens: int
    amount_nano: int
    posted_outcome: str
    posted_completion_tokens: int
    paid_nano: int
    currency: str
    opened_at: datetime
    resolved_at: datetime | None
    reason: str | None
    corrected_nano: int | None


async def insert_discrepancies(session: AsyncSession, rows: Sequence[Mapping[str, Any]]) -> int:
    """Open those that are not known yet; how many those were."""
    if not rows:
        return 0
    statement = (
        upsert(UsageDiscrepancy)
        .values(rows)
        .on_conflict_do_nothing(index_elements=["request_id", "digest"])
        .returning(UsageDiscrepancy.id)
    )
    return len((await session.scalars(statement)).all())


async def list_discrepancies(session: AsyncSession, *, resolved: bool, limit: int) -> list[ListedDiscrepancy]:
    """At most `limit`, oldest first: the open ones, or with `resolved` all. As the operator."""
    statement = _listing(resolved=resolved).order_by(UsageDiscrepancy.id).limit(limit)
    return [_listed(*row) for row in await session.execute(statement)]


async def list_newest(
    session: AsyncSession, *, resolved: bool, limit: int, before: UUID | None = None
) -> list[ListedDiscrepancy]:
    """The same, newest first; `before` is the last one of the page before."""
    statement = _listing(resolved=resolved).order_by(UsageDiscrepancy.id.desc()).limit(limit)
    if before is not None:
        statement = statement.where(UsageDiscrepancy.id < before)
    return [_listed(*row) for row in await session.execute(statement)]


def _listing(*, resolved: bool) -> Select[UsageDiscrepancy, UsageEvent, str]:
    statement = (
        select(UsageDiscrepancy, UsageEvent, Budget.currency)
        .join(UsageEvent, UsageEvent.request_id == UsageDiscrepancy.request_id)
        .join(Budget, Budget.tenant_id == UsageDiscrepancy.tenant_id)
    )
    return statement if resolved else statement.where(UsageDiscrepancy.resolved_at.is_(None))


async def find_tenant(session: AsyncSession, discrepancy_id: UUID) -> UUID | None:
    """Whose request it is about."""
    found: UUID | None = await session.scalar(
        select(UsageDiscrepancy.tenant_id).where(UsageDiscrepancy.id == discrepancy_id)
    )
    return found


async def read_discrepancy(session: AsyncSession, discrepancy_id: UUID) -> UsageDiscrepancy:
    """As it is now."""
    return await session.get_one(UsageDiscrepancy, discrepancy_id, populate_existing=True)


async def find_event(session: AsyncSession, request_id: UUID) -> UsageEvent | None:
    return await session.get(UsageEvent, request_id)


async def sum_corrected(session: AsyncSession, request_id: UUID) -> int:
    """What has been given back for a request so far."""
    statement = select(func.coalesce(func.sum(UsageDiscrepancy.corrected_nano), 0)).where(
        UsageDiscrepancy.request_id == request_id
    )
    return int((await session.execute(statement)).scalar_one() or 0)


async def resolve(
    session: AsyncSession,
    discrepancy_id: UUID,
    *,
    reason: str,
    corrected_nano: int | None = None,
    transaction_id: UUID | None = None,
) -> None:
    """Only under the lock of the tenant's budget, and only once: the database refuses a second time."""
    await session.execute(
        update(UsageDiscrepancy)
        .where(UsageDiscrepancy.id == discrepancy_id)
        .values(resolved_at=func.now(), reason=reason, corrected_nano=corrected_nano, transaction_id=transaction_id)
        .execution_options(synchronize_session=False)
    )


def _listed(found: UsageDiscrepancy, event: UsageEvent, currency: str) -> ListedDiscrepancy:
    return ListedDiscrepancy(
        id=found.id,
        request_id=found.request_id,
        tenant_id=found.tenant_id,
        region=found.region,
        gateway=found.gateway,
        kind=found.kind,
        outcome=found.outcome,
        completion_tokens=found.completion_tokens,
        amount_nano=found.amount_nano,
        posted_outcome=event.outcome,
        posted_completion_tokens=event.completion_tokens,
        paid_nano=event.amount_nano - event.written_off_nano,
        currency=currency,
        opened_at=found.opened_at,
        resolved_at=found.resolved_at,
        reason=found.reason,
        corrected_nano=found.corrected_nano,
    )
