"""`chappe journal`: a month for the operator's general ledger."""

from datetime import datetime
from typing import IO

import click
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_billing.journal.entries import ACCOUNTS, JournalLine, as_csv
from chappe_billing.journal.service import number_accounts, read_journal
from chappe_kernel.ids import LEGAL_ENTITY, decode_id, encode_id
from chappe_kernel.process import prepare_process
from chappe_store.commands import as_operator, as_reader
from chappe_tenants.legal_entities.models import DEFAULT_LEGAL_ENTITY_ID

_FIRST = encode_id(LEGAL_ENTITY, DEFAULT_LEGAL_ENTITY_ID)


@click.group()
def journal() -> None:
    """Export a month's movements for the general ledger."""
    prepare_process("journal")


@journal.command("export")
@click.option("--month", type=click.DateTime(["%Y-%m"]), required=True, help="A month that is over, YYYY-MM.")
@click.option("--entity", default=_FIRST, help="Whose books, ent_…; by default the first.")
@click.option("--output", type=click.File("w", encoding="utf-8"), default="-", help="By default standard output.")
def export_(month: datetime, entity: str, output: IO[str]) -> None:
    """Write debits and credits by kind of transaction, account and region as CSV. The same bytes each time."""

    async def work(session: AsyncSession) -> list[JournalLine]:
        return await read_journal(session, decode_id(LEGAL_ENTITY, entity), month.date())

    output.write(as_csv(as_reader(work)))


@journal.command()
@click.argument("account", type=click.Choice(ACCOUNTS))
@click.argument("number")
@click.option("--entity", default=_FIRST, help="Whose books, ent_…; by default the first.")
def number(account: str, number: str, entity: str) -> None:
    """Say which NUMBER the general ledger has for ACCOUNT."""

    async def work(session: AsyncSession) -> dict[str, str]:
        return await number_accounts(session, decode_id(LEGAL_ENTITY, entity), {account: number})

    for name, known in sorted(as_operator(work).items()):
        click.echo(f"{name} {known}")
