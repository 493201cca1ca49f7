"""Invoice runs: begun once for each entity and month, worked on by any number of processes, killed and continued
anywhere. A payer's invoices and what the run says of it are one transaction."""

from datetime import UTC, date, datetime, timedelta
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from chappe_billing.cut_off.months import next_month
from chappe_billing.cut_off.service import GRACE
from chappe_billing.invoice_runs import queries
from chappe_billing.invoice_runs.queries import RunState, Verdict
from chappe_billing.invoices.models import InvoiceRun, Outcome
from chappe_billing.invoicing import service as invoicing
from chappe_kernel.errors import ChappeError, Conflict, Invalid, NotFound
from chappe_kernel.ids import InvoiceRunId, TenantId, new_id
from chappe_store.audit_log.origin import command_origin
from chappe_store.queries import read_now
from chappe_store.session import Database


async def begin_run(session: AsyncSession, legal_entity_id: UUID, month: date) -> InvoiceRun:
    """The run of a month that is over, begun now if it was not. Raises `Conflict` (`month_not_over`,
    `billed_externally`) and `NotFound`."""
    if month.day != 1:
        raise Invalid("a month is named by its first day", param="month")
    if legal_entity_id not in await queries.entities_that_invoice(session, month):
        raise Conflict("no such legal entity, or its invoices are made elsewhere", code="billed_externally")
    cut_off_at = _start_of(next_month(month))
    if await read_now(session) < cut_off_at + GRACE:
        raise Conflict("a month is invoiced once it is over, and an hour later", code="month_not_over")
    is_new = await queries.insert_run(session, InvoiceRunId(new_id()), legal_entity_id, month, cut_off_at)
    run = await queries.find_run(session, legal_entity_id, month)
    if run is None:
        raise NotFound("no such run")
    if is_new:
        await queries.add_payers(session, run)
    return run


async def work_on(database: Database, run_id: UUID, cut_off_at: datetime, *, again: bool = True) -> int:
    """Decide about every payer that is waiting, and with `again` about those that were left for later; how many were
    decided. Each in a transaction of its own: what is killed in one is as if it had not begun."""
    async with database.audit() as session:
        payers = await queries.list_open(session, run_id, again=again)
    decided = 0
    for tenant_id in payers:
        async with database.operator(command_origin()) as session:
            decided += await decide_about(session, run_id, tenant_id, cut_off_at)
    async with database.operator(command_origin()) as session:
        await queries.end_run(session, run_id)
    return decided


async def decide_about(session: AsyncSession, run_id: UUID, tenant_id: UUID, cut_off_at: datetime) -> bool:
    """Issue what is due to one payer, and say what became of it; whether that was this transaction's to do."""
    if not await queries.claim(session, run_id, tenant_id):
        return False
    try:
        async with session.begin_nested():
            verdict = await _verdict(session, run_id, tenant_id, cut_off_at)
    except ChappeError as error:
        verdict = Verdict(Outcome.LATER, error.code, error.message)
    await queries.decide(session, run_id, tenant_id, verdict)
    return True


async def _verdict(session: AsyncSession, run_id: UUID, tenant_id: UUID, cut_off_at: datetime) -> Verdict:
    month = (cut_off_at - timedelta(days=1)).date().replace(day=1)
    if await queries.awaits_cut_off(session, tenant_id, month):
        raise Conflict("a contract's entries of the month are not posted yet", code="month_not_cut_off")
    issued = await invoicing.issue(session, TenantId(tenant_id), cut_off_at=cut_off_at, run_id=run_id)
    return Verdict(Outcome.ISSUED, invoices=len(issued)) if issued else Verdict(Outcome.NOTHING)


async def run_due(database: Database) -> int:
    """What the control plane does by itself: begin last month's runs once it is over and its grace has passed, and work
    on all that are open; how many payers were decided about."""
    async with database.operator(command_origin()) as session:
        over = _start_of((await read_now(session) - GRACE).date())
        month = (over - timedelta(days=1)).date().replace(day=1)
        for entity in await queries.entities_that_invoice(session, month):
            known = await queries.find_run(session, entity, month)
            if known is None and await queries.has_history(session, entity, over):
                await begin_run(session, entity, month)
        runs = [(run.id, run.cut_off_at) for run in await queries.open_runs(session)]
    decided = 0
    for run_id, cut_off_at in runs:
        decided += await work_on(database, run_id, cut_off_at)
    return decided


def _start_of(day: date) -> datetime:
    """Of the day's month, in UTC."""
    return datetime(day.year, day.month, 1, tzinfo=UTC)


async def get_state(session: AsyncSession, run_id: UUID) -> RunState:
    """Raises `NotFound`."""
    state = await queries.find_state(session, run_id)
    if state is None:
        raise NotFound("no such invoice run")
    return state
