"""SQL of invoice runs. As the operator."""

from collections.abc import Sequence
from datetime import UTC, date, datetime
from uuid import UUID

import msgspec
from msgspec import Struct
from sqlalchemy import func, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_billing.cut_off.months import next_month
from chappe_billing.invoices.models import InvoiceRun, InvoiceRunTenant, Outcome
from chappe_billing.ledger.models import LedgerTransaction
from chappe_kernel.ids import InvoiceRunId
from chappe_tenants.organisations.models import Tenant

_OPEN = (Outcome.WAITING, Outcome.LATER)


class Verdict(Struct, frozen=True):
    """What a run makes of a payer; see `InvoiceRunTenant`."""

    outcome: Outcome
    code: str | None = None
    detail: str | None = None
    invoices: int = 0


class RunState(Struct, frozen=True):
    """A run with how many of its payers have each outcome, and the invoices that it issued."""

    id: UUID
    legal_entity_id: UUID
    month: date
    cut_off_at: datetime
    started_at: datetime
    ended_at: datetime | None
    waiting: int
    issued: int
    nothing: int
    later: int
    invoices: int


class Entry(Struct, frozen=True):
    """A line of a run's log."""

    tenant_id: UUID
    name: str
    outcome: Outcome
    code: str | None
    detail: str | None
    invoices: int
    decided_at: datetime | None


_THAT_INVOICE = text(
    """
    SELECT l.id FROM legal_entity l
    WHERE EXISTS (
        SELECT FROM legal_entity_payments h
        WHERE h.legal_entity_id = l.id AND h.payments <> 'external' AND h.since < :ends_at
          AND NOT EXISTS (
              SELECT FROM legal_entity_payments n
              WHERE n.legal_entity_id = l.id AND n.since > h.since AND n.since <= :starts_at
          )
    )
    ORDER BY l.id
    """
)


async def entities_that_invoice(session: AsyncSession, month: date) -> list[UUID]:
    """Those whose invoices were made here at any time of a month, which begins with this day."""
    starts_at = datetime(month.year, month.month, 1, tzinfo=UTC)
    next_first = next_month(month)
    values = {"starts_at": starts_at, "ends_at": datetime(next_first.year, next_first.month, 1, tzinfo=UTC)}
    return list(await session.scalars(_THAT_INVOICE, values))


async def find_run(session: AsyncSession, legal_entity_id: UUID, month: date) -> InvoiceRun | None:
    statement = select(InvoiceRun).where(InvoiceRun.legal_entity_id == legal_entity_id, InvoiceRun.month == month)
    found: InvoiceRun | None = await session.scalar(statement.execution_options(populate_existing=True))
    return found


async def insert_run(
    session: AsyncSession, run_id: InvoiceRunId, legal_entity_id: UUID, month: date, cut_off_at: datetime
) -> bool:
    """False when another process began it first."""
    statement = insert(InvoiceRun).values(
        id=run_id, legal_entity_id=legal_entity_id, month=month, cut_off_at=cut_off_at
    )
    made = await session.scalar(
        statement.on_conflict_do_nothing(index_elements=["legal_entity_id", "month"]).returning(InvoiceRun.id)
    )
    return made is not None


_ADD_PAYERS = text(
    """
    INSERT INTO invoice_run_tenant (run_id, tenant_id)
    SELECT :run_id, t.id
    FROM tenant t
    WHERE t.legal_entity_id = :entity
      AND NOT EXISTS (SELECT FROM billing_profile p WHERE p.tenant_id = t.id AND p.billed_to IS NOT NULL)
      AND (EXISTS (SELECT FROM budget b WHERE b.tenant_id = t.id)
           OR EXISTS (SELECT FROM billing_profile p WHERE p.billed_to = t.id))
    """
)


async def add_payers(session: AsyncSession, run: InvoiceRun) -> None:
    """All tenants of the entity that stand on nobody else's invoice."""
    await session.execute(_ADD_PAYERS, {"run_id": run.id, "entity": run.legal_entity_id})


async def has_history(session: AsyncSession, legal_entity_id: UUID, before: datetime) -> bool:
    """Whether anything was posted in its books before then."""
    statement = select(LedgerTransaction.id).where(
        LedgerTransaction.legal_entity_id == legal_entity_id, LedgerTransaction.created_at < before
    )
    return await session.scalar(statement.limit(1)) is not None


_AWAITED = text(
    """
    SELECT EXISTS (
        SELECT FROM contract_term k
        WHERE (k.tenant_id = :payer OR k.tenant_id IN (SELECT tenant_id FROM billing_profile WHERE billed_to = :payer))
          AND k.first_month <= CAST(:month AS date)
          AND NOT EXISTS (SELECT FROM month_cut_off c WHERE c.tenant_id = k.tenant_id AND c.month = :month)
    )
    """
)


async def awaits_cut_off(session: AsyncSession, payer: UUID, month: date) -> bool:
    """Whether a contract of somebody on the payer's invoice asks for entries of a month that are not posted yet."""
    return bool(await session.scalar(_AWAITED, {"payer": payer, "month": month}))


async def open_runs(session: AsyncSession) -> Sequence[InvoiceRun]:
    statement = select(InvoiceRun).where(InvoiceRun.ended_at.is_(None)).order_by(InvoiceRun.id)
    return (await session.scalars(statement)).all()


async def list_open(session: AsyncSession, run_id: UUID, *, again: bool) -> list[UUID]:
    """Payers that are waiting, and with `again` those that were left for later."""
    outcomes = _OPEN if again else (Outcome.WAITING,)
    statement = (
        select(InvoiceRunTenant.tenant_id)
        .where(InvoiceRunTenant.run_id == run_id, InvoiceRunTenant.outcome.in_(outcomes))
        .order_by(InvoiceRunTenant.tenant_id)
    )
    return list(await session.scalars(statement))


async def claim(session: AsyncSession, run_id: UUID, tenant_id: UUID) -> bool:
    """Whether it is this transaction's to decide: not when another is at it, or it is decided."""
    statement = (
        select(InvoiceRunTenant.tenant_id)
        .where(
            InvoiceRunTenant.run_id == run_id,
            InvoiceRunTenant.tenant_id == tenant_id,
            InvoiceRunTenant.outcome.in_(_OPEN),
        )
        .with_for_update(skip_locked=True)
    )
    return await session.scalar(statement) is not None


async def decide(session: AsyncSession, run_id: UUID, tenant_id: UUID, verdict: Verdict) -> None:
    await session.execute(
        update(InvoiceRunTenant)
        .where(InvoiceRunTenant.run_id == run_id, InvoiceRunTenant.tenant_id == tenant_id)
        .values(
            outcome=verdict.outcome,
            code=verdict.code,
            detail=verdict.detail,
            invoices=verdict.invoices,
            decided_at=func.now(),
        )
        .execution_options(synchronize_session=False)
    )


async def end_run(session: AsyncSession, run_id: UUID) -> bool:
    """When nobody is left to decide about; whether it ended now."""
    still_open = select(InvoiceRunTenant.tenant_id).where(
        InvoiceRunTenant.run_id == run_id, InvoiceRunTenant.outcome.in_(_OPEN)
    )
    ended = await session.scalar(
        update(InvoiceRun)
        .where(InvoiceRun.id == run_id, InvoiceRun.ended_at.is_(None), ~still_open.exists())
        .values(ended_at=func.now())
        .returning(InvoiceRun.id)
        .execution_options(synchronize_session=False)
    )
    return ended is not None


_STATES = """
    SELECT r.id, r.legal_entity_id, r.month, r.cut_off_at, r.started_at, r.ended_at,
           count(*) FILTER (WHERE t.outcome = 'waiting') AS waiting,
           count(*) FILTER (WHERE t.outcome = 'issued') AS issued,
           count(*) FILTER (WHERE t.outcome = 'nothing') AS nothing,
           count(*) FILTER (WHERE t.outcome = 'later') AS later,
           coalesce(sum(t.invoices), 0)::bigint AS invoices
    FROM invoice_run r LEFT JOIN invoice_run_tenant t ON t.run_id = r.id
"""
_ONE_STATE = text(f"{_STATES} WHERE r.id = :run_id GROUP BY r.id")
_LIST_STATES = text(
    f"{_STATES} WHERE CAST(:before AS uuid) IS NULL OR r.id < :before GROUP BY r.id ORDER BY r.id DESC LIMIT :limit"
)


async def find_state(session: AsyncSession, run_id: UUID) -> RunState | None:
    row = (await session.execute(_ONE_STATE, {"run_id": run_id})).mappings().one_or_none()
    return None if row is None else msgspec.convert(dict(row), RunState)


async def list_states(session: AsyncSession, *, limit: int, before: UUID | None = None) -> list[RunState]:
    """Newest first."""
    rows = (await session.execute(_LIST_STATES, {"limit": limit, "before": before})).mappings()
    return msgspec.convert([dict(row) for row in rows], list[RunState])


async def list_log(
    session: AsyncSession, run_id: UUID, *, limit: int, after: UUID | None = None, outcome: Outcome | None = None
) -> list[Entry]:
    """By tenant; `after` is the last of the page before."""
    columns = [getattr(InvoiceRunTenant, name) for name in Entry.__struct_fields__ if name != "name"]
    statement = (
        select(*columns, Tenant.name)
        .join(Tenant, Tenant.id == InvoiceRunTenant.tenant_id)
        .where(InvoiceRunTenant.run_id == run_id)
        .order_by(InvoiceRunTenant.tenant_id)
        .limit(limit)
    )
    if after is not None:
        statement = statement.where(InvoiceRunTenant.tenant_id > after)
    if outcome is not None:
        statement = statement.where(InvoiceRunTenant.outcome == outcome)
    return msgspec.convert([dict(row) for row in (await session.execute(statement)).mappings()], list[Entry])
