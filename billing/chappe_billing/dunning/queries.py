"""SQL of dunning. As the operator."""

from collections.abc import Collection, Sequence
from datetime import UTC, date, datetime
from uuid import UUID

from msgspec import Struct
from sqlalchemy import func, insert, select, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_billing.alerts.models import PaymentFailure
from chappe_billing.dunning.models import DunningPause, DunningPolicy, DunningStep, DunningSuspension
from chappe_billing.dunning.rules import Failure, Policy, Step, StepKind, Taken
from chappe_store.arrays import is_among
from chappe_tenants.organisations.models import Tenant


class Debtor(Struct, frozen=True):
    """What is known of a tenant beside its invoices. `suspension_id` is of a suspension by dunning that still stands
    exactly as it was made."""

    tenant_id: UUID
    name: str
    legal_entity_id: UUID
    state: str
    suspension_id: UUID | None
    stale_suspension_id: UUID | None
    """Of one that somebody else has lifted, or made their own, since."""


class LoggedStep(Struct, frozen=True):
    tenant_id: UUID
    name: str
    invoice_id: UUID
    number: str
    kind: str
    level: int
    open_nano: int
    currency: str
    due_on: date
    taken_at: datetime


class Pause(Struct, frozen=True):
    tenant_id: UUID
    reason: str
    until: datetime


async def read_policies(session: AsyncSession) -> dict[UUID, Policy]:
    """Of legal entities that have one of their own."""
    return {row.legal_entity_id: _policy(row) for row in await session.scalars(select(DunningPolicy))}


async def put_policy(session: AsyncSession, legal_entity_id: UUID, policy: Policy) -> None:
    values = {
        "enabled": policy.enabled,
        "reminder_days": policy.reminder_days,
        "notice_days": list(policy.notice_days),
        "retry_days": list(policy.retry_days),
        "suspend_days": policy.suspend_days,
        "grace_days": policy.grace_days,
    }
    statement = upsert(DunningPolicy).values(legal_entity_id=legal_entity_id, **values)
    await session.execute(statement.on_conflict_do_update(index_elements=["legal_entity_id"], set_=values))


async def read_debtors(session: AsyncSession, tenant_ids: Collection[UUID]) -> dict[UUID, Debtor]:
    query = (
        select(Tenant, DunningSuspension)
        .outerjoin(
            DunningSuspension,
            (DunningSuspension.tenant_id == Tenant.id) & DunningSuspension.lifted_at.is_(None),
        )
        .where(is_among(Tenant.id, tenant_ids))
        .execution_options(populate_existing=True)
    )
    return {tenant.id: _debtor(tenant, suspension) for tenant, suspension in await session.execute(query)}


async def suspended_tenants(session: AsyncSession) -> list[UUID]:
    """Those whom dunning suspended and has not let in again."""
    return list(await session.scalars(select(DunningSuspension.tenant_id).where(DunningSuspension.lifted_at.is_(None))))


async def read_taken(session: AsyncSession, tenant_ids: Collection[UUID]) -> dict[UUID, list[Taken]]:
    query = select(
        DunningStep.tenant_id, DunningStep.invoice_id, DunningStep.kind, DunningStep.level, DunningStep.taken_at
    ).where(is_among(DunningStep.tenant_id, tenant_ids))
    found: dict[UUID, list[Taken]] = {}
    for tenant_id, invoice_id, kind, level, taken_at in await session.execute(query):
        taken = Taken(invoice_id, StepKind(kind), level, taken_at.astimezone(UTC).date())
        found.setdefault(tenant_id, []).append(taken)
    return found


async def read_failures(session: AsyncSession, tenant_ids: Collection[UUID]) -> dict[UUID, dict[UUID, Failure]]:
    """By tenant and invoice: failures for which nothing has made up."""
    stands = PaymentFailure.recovered_at.is_(None)
    query = (
        select(
            PaymentFailure.tenant_id,
            PaymentFailure.invoice_id,
            func.min(PaymentFailure.failed_at).filter(stands),
            func.count().filter(stands),
            func.count().filter(~stands),
        )
        .where(is_among(PaymentFailure.tenant_id, tenant_ids), PaymentFailure.invoice_id.is_not(None))
        .group_by(PaymentFailure.tenant_id, PaymentFailure.invoice_id)
        .having(func.bool_or(stands))
    )
    found: dict[UUID, dict[UUID, Failure]] = {}
    for tenant_id, invoice_id, first_at, times, before in await session.execute(query):
        if invoice_id is not None:
            found.setdefault(tenant_id, {})[invoice_id] = Failure(first_at.astimezone(UTC).date(), times, before)
    return found


async def read_pauses(session: AsyncSession, tenant_ids: Collection[UUID] | None = None) -> dict[UUID, Pause]:
    """Those that hold now; of everybody if nobody is named."""
    query = select(DunningPause.tenant_id, DunningPause.reason, DunningPause.until).where(
        DunningPause.ended_at.is_(None), DunningPause.until > func.now()
    )
    if tenant_ids is not None:
        query = query.where(is_among(DunningPause.tenant_id, tenant_ids))
    return {row.tenant_id: Pause(*row) for row in await session.execute(query)}


async def end_pause(session: AsyncSession, tenant_id: UUID) -> None:
    await session.execute(
        update(DunningPause)
        .where(DunningPause.tenant_id == tenant_id, DunningPause.ended_at.is_(None))
        .values(ended_at=func.now())
        .execution_options(synchronize_session=False)
    )


async def insert_pause(session: AsyncSession, tenant_id: UUID, pause_id: UUID, *, reason: str, until: datetime) -> None:
    """Another of the tenant's must not be open: end it first."""
    await session.execute(insert(DunningPause).values(tenant_id=tenant_id, id=pause_id, reason=reason, until=until))


async def insert_step(session: AsyncSession, tenant_id: UUID, step: Step) -> bool:
    """False, and nothing inserted, if it was taken before."""
    invoice = step.invoice
    statement = (
        upsert(DunningStep)
        .values(
            tenant_id=tenant_id,
            invoice_id=invoice.id,
            kind=step.kind,
            level=step.level,
            open_nano=invoice.open_nano,
            currency=invoice.currency,
            number=invoice.number,
            due_on=invoice.due_on or invoice.issued_on,
        )
        .on_conflict_do_nothing()
        .returning(DunningStep.level)
    )
    return await session.scalar(statement) is not None


async def insert_suspension(session: AsyncSession, tenant_id: UUID, suspension_id: UUID, invoice_id: UUID) -> None:
    await session.execute(
        insert(DunningSuspension).values(tenant_id=tenant_id, id=suspension_id, invoice_id=invoice_id)
    )


async def lift_suspension(session: AsyncSession, tenant_id: UUID, suspension_id: UUID) -> None:
    await session.execute(
        update(DunningSuspension)
        .where(DunningSuspension.tenant_id == tenant_id, DunningSuspension.id == suspension_id)
        .values(lifted_at=func.now())
        .execution_options(synchronize_session=False)
    )


async def list_steps(session: AsyncSession, *, tenant_id: UUID | None = None, limit: int) -> Sequence[LoggedStep]:
    """Newest first, of one tenant or of all."""
    columns = ("tenant_id", "invoice_id", "number", "kind", "level", "open_nano", "currency", "due_on", "taken_at")
    query = (
        select(*(getattr(DunningStep, name) for name in columns), Tenant.name)
        .join(Tenant, Tenant.id == DunningStep.tenant_id)
        .order_by(DunningStep.taken_at.desc(), DunningStep.invoice_id, DunningStep.kind)
        .limit(limit)
    )
    if tenant_id is not None:
        query = query.where(DunningStep.tenant_id == tenant_id)
    return [LoggedStep(**row) for row in (await session.execute(query)).mappings()]


def _policy(row: DunningPolicy) -> Policy:
    return Policy(
        enabled=row.enabled,
        reminder_days=row.reminder_days,
        notice_days=tuple(row.notice_days),
        retry_days=tuple(row.retry_days),
        suspend_days=row.suspend_days,
        grace_days=row.grace_days,
    )


def _debtor(tenant: Tenant, suspension: DunningSuspension | None) -> Debtor:
    """The moment of the suspension is the transaction's, as the tenant's row has it too: whoever changed the state
    since did it at another one."""
    is_ours = (
        suspension is not None
        and tenant.state == "suspended"
        and tenant.state_reason == "unpaid"
        and tenant.state_changed_at == suspension.suspended_at
    )
    known = None if suspension is None else suspension.id
    return Debtor(
        tenant_id=tenant.id,
        name=tenant.name,
        legal_entity_id=tenant.legal_entity_id,
        state=tenant.state,
        suspension_id=known if is_ours else None,
        stale_suspension_id=None if is_ours else known,
    )
