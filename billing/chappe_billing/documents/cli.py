"""`chappe documents`: make invoices' documents again and compare, see which the rules refused, and try those again."""

import click
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_billing.documents.queries import forget_refusal, list_refusals
from chappe_billing.documents.service import Verified, verify_documents
from chappe_kernel.ids import INVOICE, decode_id, encode_id
from chappe_kernel.process import prepare_process
from chappe_store.commands import as_operator, as_reader, with_database

_MAX_SHOWN = 1000


@click.group()
def documents() -> None:
    """Verify invoices' documents, and see those that the rules refused."""
    prepare_process("documents")


@documents.command()
def verify() -> None:
    """Make every kept document again and compare it byte by byte. Exits 1 at the first that differs, else 0."""
    found: Verified = with_database(verify_documents)
    if found.different is not None:
        click.echo(f"NOT INTACT: {found.different}", err=True)
        raise SystemExit(1)
    click.echo(f"intact: {found.same} documents made again, {found.older} kept from older versions")


@documents.command()
def refused() -> None:
    """Issued invoices that broke a rule of EN 16931, and so have no document. Exits 1 when there are any."""

    async def read(session: AsyncSession) -> list[str]:
        rows = await list_refusals(session, limit=_MAX_SHOWN)
        return [
            f"{encode_id(INVOICE, refusal.invoice_id)}  {number}  {finding}"
            for refusal, number, _ in rows
            for finding in refusal.findings
        ]

    lines = as_reader(read)
    for line in lines:
        click.echo(line)
    if lines:
        raise SystemExit(1)


@documents.command()
@click.argument("invoice")
def retry(invoice: str) -> None:
    """Have the control plane try a refused INVOICE (ivc_…) again."""

    async def forget(session: AsyncSession) -> bool:
        return await forget_refusal(session, decode_id(INVOICE, invoice))

    if not as_operator(forget):
        raise click.ClickException("it was not refused")
