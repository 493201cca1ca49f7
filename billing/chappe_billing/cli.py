"""`chappe ledger`: verify that the ledger, balances, grants and usage agree to the nano."""

import asyncio
import os
from dataclasses import dataclass, field

import click

from chappe_billing.audit.queries import Difference, Totals, count_totals
from chappe_billing.audit.service import verify_ledger
from chappe_kernel.errors import ChappeError
from chappe_kernel.process import prepare_process
from chappe_kernel.settings import load_settings
from chappe_store.session import Database


@dataclass(frozen=True)
class _Settings:
    database_url: str = field(repr=False)


@click.group()
def ledger() -> None:
    """Verify the ledger."""
    prepare_process("ledger")


@ledger.command()
def verify() -> None:
    """Recompute every sum and price from the records. Prints the first difference and exits 1, or exits 0."""
    try:
        totals, difference = asyncio.run(_verify(load_settings(_Settings, os.environ).database_url))
    except ChappeError as error:
        raise click.ClickException(error.message) from error
    if difference is not None:
        click.echo(f"NOT INTACT: {difference.rule}", err=True)
        click.echo(f"{difference.subject}: expected {difference.expected}, found {difference.found}", err=True)
        raise SystemExit(1)
    click.echo(
        f"intact: {totals.transactions} transactions, {totals.events} usage events, {totals.quarantined} quarantined"
    )


async def _verify(url: str) -> tuple[Totals, Difference | None]:
    database = Database(url)
    try:
        async with database.audit() as session:
            return await count_totals(session), await verify_ledger(session)
    finally:
        await database.close()
