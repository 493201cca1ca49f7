"""`chappe journal`: a month for the operator's general ledger."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import IO, TypeVar

import click
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_billing.journal.entries import ACCOUNTS, JournalLine, as_csv
from chappe_billing.journal.service import number_accounts, read_journal
from chappe_kernel.errors import ChappeError
from chappe_kernel.ids import LEGAL_ENTITY, decode_id, encode_id
from chappe_kernel.process import prepare_process
from chappe_kernel.settings import load_settings
from chappe_store.audit_log.origin import command_origin
from chappe_store.session import Database
from chappe_tenants.legal_entities.models import DEFAULT_LEGAL_ENTITY_ID

T = TypeVar("T")
_FIRST = encode_id(LEGAL_ENTITY, DEFAULT_LEGAL_ENTITY_ID)


@dataclass(frozen=True)
class _Settings:
    database_url: str = field(repr=False)


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

    async def work(database: Database) -> list[JournalLine]:
        async with database.audit() as session:
            return await read_journal(session, decode_id(LEGAL_ENTITY, entity), month.date())

    output.write(as_csv(_with_database(work)))


@journal.command()
@click.argument("account", type=click.Choice(ACCOUNTS))
@click.argument("number")
@click.option("--entity", default=_FIRST, help="Whose books, ent_…; by default the first.")
def number(account: str, number: str, entity: str) -> None:
    """Say which NUMBER the general ledger has for ACCOUNT."""

    async def work(database: Database) -> dict[str, str]:
        async with database.operator() as session:
            return await _number(session, account, number, entity)

    for name, known in sorted(_with_database(work).items()):
        click.echo(f"{name} {known}")


async def _number(session: AsyncSession, account: str, number: str, entity: str) -> dict[str, str]:
    return await number_accounts(session, decode_id(LEGAL_ENTITY, entity), {account: number})


def _with_database(work: Callable[[Database], Awaitable[T]]) -> T:
    async def run(url: str) -> T:
        database = Database(url, origin=command_origin())
        try:
            return await work(database)
        finally:
            await database.close()

    try:
        return asyncio.run(run(load_settings(_Settings, os.environ).database_url))
    except ChappeError as error:
        raise click.ClickException(error.message) from error
