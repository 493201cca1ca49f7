"""`chappe invoice`: a month's invoices of a legal entity."""

from datetime import datetime
from uuid import UUID

import click
import msgspec
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_billing.invoice_runs import queries
from chappe_billing.invoice_runs.queries import Entry, RunState
from chappe_billing.invoice_runs.service import begin_run, get_state, work_on
from chappe_billing.invoices.models import Outcome
from chappe_kernel.ids import LEGAL_ENTITY, TENANT, decode_id, encode_id
from chappe_kernel.process import prepare_process
from chappe_store.commands import with_database
from chappe_store.session import Database

_PAGE = 1000


@click.group()
def invoice() -> None:
    """Issue a month's invoices, and see what became of whom."""
    prepare_process("invoice")


@invoice.command()
@click.option("--month", type=click.DateTime(["%Y-%m"]), required=True, help="A month that is over, YYYY-MM.")
@click.option("--entity", help="Only this legal entity, ent_…; by default all that invoice here.")
def run(month: datetime, entity: str | None) -> None:
    """Decide about every customer that nobody decided about yet. May be killed, repeated, and run at several places:
    each invoice is issued once. Exits 1 when somebody is left for later."""

    async def work(database: Database) -> list[RunState]:
        async with database.audit() as session:
            entities = await _entities(session, entity, month)
        return [await _run(database, one, month) for one in entities]

    states = with_database(work)
    for state in states:
        click.echo(
            f"{encode_id(LEGAL_ENTITY, state.legal_entity_id)} {state.month:%Y-%m}: {state.invoices} invoices to "
            f"{state.issued}, nothing for {state.nothing}, {state.later} left for later, {state.waiting} waiting"
        )
    raise SystemExit(any(state.later or state.waiting for state in states))


@invoice.command("log")
@click.option("--month", type=click.DateTime(["%Y-%m"]), required=True, help="YYYY-MM.")
@click.option("--entity", help="Only this legal entity's, ent_….")
@click.option("--outcome", type=click.Choice([outcome.value for outcome in Outcome]), help="Only these.")
def log_(month: datetime, entity: str | None, outcome: str | None) -> None:
    """Print what a month's runs made of each customer: one JSON object a line."""

    async def work(database: Database) -> None:
        async with database.audit() as session:
            entities = await _entities(session, entity, month)
            for one in entities:
                found = await queries.find_run(session, one, month.date())
                after = None
                while found is not None:
                    page = await queries.list_log(
                        session, found.id, limit=_PAGE, after=after, outcome=Outcome(outcome) if outcome else None
                    )
                    for entry in page:
                        click.echo(msgspec.json.encode(_shown(entry)).decode())
                    if len(page) < _PAGE:
                        break
                    after = page[-1].tenant_id

    with_database(work)


def _shown(entry: Entry) -> dict[str, object]:
    return {**msgspec.to_builtins(entry), "tenant_id": encode_id(TENANT, entry.tenant_id)}


async def _run(database: Database, entity: UUID, month: datetime) -> RunState:
    async with database.operator() as session:
        begun = await begin_run(session, entity, month.date())
    await work_on(database, begun.id, begun.cut_off_at)
    async with database.audit() as session:
        return await get_state(session, begun.id)


async def _entities(session: AsyncSession, entity: str | None, month: datetime) -> list[UUID]:
    if entity:
        return [decode_id(LEGAL_ENTITY, entity)]
    return await queries.entities_that_invoice(session, month.date())
