"""`chappe documents`: make invoices' documents again and compare, see which the rules refused, and try those again."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TypeVar

import click

from chappe_billing.documents.queries import forget_refusal, list_refusals
from chappe_billing.documents.service import Verified, verify_documents
from chappe_kernel.errors import ChappeError
from chappe_kernel.ids import INVOICE, decode_id, encode_id
from chappe_kernel.process import prepare_process
from chappe_kernel.settings import load_settings
from chappe_store.session import Database

T = TypeVar("T")
_MAX_SHOWN = 1000


@dataclass(frozen=True)
class _Settings:
    database_url: str = field(repr=False)


@click.group()
def documents() -> None:
    """Verify invoices' documents, and see those that the rules refused."""
    prepare_process("documents")


@documents.command()
def verify() -> None:
    """Make every kept document again and compare it byte by byte. Exits 1 at the first that differs, else 0."""
    found: Verified = _run(verify_documents)
    if found.different is not None:
        click.echo(f"NOT INTACT: {found.different}", err=True)
        raise SystemExit(1)
    click.echo(f"intact: {found.same} documents made again, {found.older} kept from older versions")


@documents.command()
def refused() -> None:
    """Issued invoices that broke a rule of EN 16931, and so have no document. Exits 1 when there are any."""

    async def read(database: Database) -> list[str]:
        async with database.audit() as session:
            rows = await list_refusals(session, limit=_MAX_SHOWN)
        return [
            f"{encode_id(INVOICE, refusal.invoice_id)}  {number}  {finding}"
            for refusal, number, _ in rows
            for finding in refusal.findings
        ]

    lines = _run(read)
    for line in lines:
        click.echo(line)
    if lines:
        raise SystemExit(1)


@documents.command()
@click.argument("invoice")
def retry(invoice: str) -> None:
    """Have the control plane try a refused INVOICE (ivc_…) again."""

    async def forget(database: Database) -> bool:
        async with database.operator() as session:
            return await forget_refusal(session, decode_id(INVOICE, invoice))

    if not _run(forget):
        raise click.ClickException("it was not refused")


def _run(work: Callable[[Database], Awaitable[T]]) -> T:
    async def connected() -> T:
        database = Database(load_settings(_Settings, os.environ).database_url)
        try:
            return await work(database)
        finally:
            await database.close()

    try:
        return asyncio.run(connected())
    except ChappeError as error:
        raise click.ClickException(error.message) from error
