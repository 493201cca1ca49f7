"""`chappe ledger`: verify that ledger, balances, grants and usage agree to the nano, and explain a request's price.
`chappe usage`: discrepancies."""

from datetime import UTC, datetime
from functools import partial
from typing import IO
from uuid import UUID

import click
import msgspec
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_billing.audit.queries import Difference, Totals, count_totals
from chappe_billing.audit.service import verify_ledger
from chappe_billing.discrepancies.queries import ListedDiscrepancy, list_discrepancies
from chappe_billing.discrepancies.service import resolve_discrepancy
from chappe_billing.explaining.queries import Row
from chappe_billing.explaining.service import explain, tell
from chappe_billing.explaining.transactions import read_transaction, tell_transactions
from chappe_billing.exporting.service import Format, export, export_all, make_period
from chappe_billing.restoring.queries import lend_from_now
from chappe_billing.retention.service import Retained, retain
from chappe_kernel.ids import (
    LEDGER_TRANSACTION,
    REQUEST,
    TENANT,
    LedgerTransactionId,
    RequestId,
    TenantId,
    decode_id,
    encode_id,
)
from chappe_kernel.money import format_nano
from chappe_kernel.process import prepare_process
from chappe_store.commands import as_operator, as_reader, with_database
from chappe_store.queries import read_now
from chappe_store.session import Database, TenantScope

_TIME = click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M:%SZ"])


@click.group()
def ledger() -> None:
    """Verify the ledger, and explain what a request cost."""
    prepare_process("ledger")


@ledger.command()
def verify() -> None:
    """Recompute every sum and price from the records. Prints the first difference and exits 1, or exits 0."""
    totals, difference = as_reader(_verify)
    if difference is not None:
        click.echo(f"NOT INTACT: {difference.rule}", err=True)
        click.echo(f"{difference.subject}: expected {difference.expected}, found {difference.found}", err=True)
        raise SystemExit(1)
    click.echo(
        f"intact: {totals.transactions} transactions, {totals.events} usage events, {totals.quarantined} quarantined"
    )


@ledger.command("explain")
@click.argument("what")
@click.option("--json", "as_json", is_flag=True, help="The rows alone, one JSON object a line.")
def explain_(what: str, *, as_json: bool) -> None:
    """Print what a request (WHAT is req_…) cost and why, or what a transaction (txn_…) moved, what it takes back and
    what took it back; and every row."""
    lines, rows = as_reader(partial(_explain, what=what))
    if not as_json:
        click.echo("\n".join((*lines, "rows")))
    for row in rows:
        shown = msgspec.json.encode(row).decode()
        click.echo(shown if as_json else f"  {shown}")


@click.group()
def usage() -> None:
    """Look after usage: what is kept of it, and what two witnesses disagree about."""
    prepare_process("usage")


@usage.command()
@click.option("--months", type=click.IntRange(0), required=True, help="Whole months to keep before this one; 0: all.")
@click.option(
    "--minute-days", type=click.IntRange(1), default=35, show_default=True, help="Days to keep sums by minute."
)
def retention(*, months: int, minute_days: int) -> None:
    """Drop the events of old months, once nobody needs them, and old sums by minute. What they summed to stays."""

    async def work(database: Database) -> Retained:
        return await retain(database, keep_months=months, keep_minute_days=minute_days)

    done = with_database(work)
    click.echo(f"dropped: {done.minutes} sums by minute, {len(done.months)} months")
    for month in done.months:
        click.echo(f"  {month:%Y-%m}")
    if done.hindrance is not None:
        click.echo(f"the next month stays: {done.hindrance}", err=True)


@usage.group()
def discrepancies() -> None:
    """Where the gateway's and the engine's counts of a request differ."""


@discrepancies.command("list")
@click.option("--all", "resolved", is_flag=True, help="Resolved ones too.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=100, show_default=True)
def list_(*, resolved: bool, limit: int) -> None:
    """Print discrepancies, oldest first: one JSON object a line."""

    async def work(session: AsyncSession) -> list[ListedDiscrepancy]:
        return await list_discrepancies(session, resolved=resolved, limit=limit)

    for found in as_operator(work):
        click.echo(msgspec.json.encode(_shown(found)).decode())


@discrepancies.command()
@click.argument("discrepancy", type=click.UUID)
@click.option("--reason", required=True, help="Why it is resolved so; it is kept.")
@click.option("--correct", is_flag=True, help="Give the tenant back what it paid more than the other witness says.")
def resolve(discrepancy: UUID, reason: str, *, correct: bool) -> None:
    """Resolve DISCREPANCY for good. Without --correct what was charged stays."""

    async def work(session: AsyncSession) -> int:
        return await resolve_discrepancy(session, discrepancy, reason=reason, correct=correct)

    click.echo(f"resolved; given back: {format_nano(as_operator(work))}")


@usage.command("export")
@click.option("--format", "kind", type=click.Choice([kind.value for kind in Format]), default="csv", show_default=True)
@click.option("--since", type=_TIME, help="Posted from then on (UTC); by default this month.")
@click.option("--until", type=_TIME, help="Posted before this (UTC); by default now.")
@click.option("--tenant", help="Only this tenant's, ten_….")
@click.option("--output", type=click.File("wb"), default="-", help="By default standard output.")
def export_(kind: str, since: datetime | None, until: datetime | None, tenant: str | None, output: IO[bytes]) -> None:
    """Write all tenants' usage as CSV, JSON Lines or FOCUS 1.2, however much it is."""

    async def work(database: Database) -> None:
        async with database.audit() as session:
            period = make_period(_in_utc(since), _in_utc(until), await read_now(session))
        if tenant is None:
            pieces = export_all(database, Format(kind), period)
        else:
            scope = TenantScope(TenantId(decode_id(TENANT, tenant)))
            pieces = export(database.audit, scope, Format(kind), period)
        async for piece in pieces:
            output.write(piece)

    with_database(work)


def _in_utc(at: datetime | None) -> datetime | None:
    return None if at is None else at.replace(tzinfo=UTC)


def _shown(found: ListedDiscrepancy) -> dict[str, object]:
    shown = msgspec.to_builtins(found)
    amounts = {"amount": found.amount_nano, "paid": found.paid_nano, "corrected": found.corrected_nano}
    kept = {name: value for name, value in shown.items() if not name.endswith("_nano")}
    told = {name: None if value is None else format_nano(value) for name, value in amounts.items()}
    ids = {"request_id": encode_id(REQUEST, found.request_id), "tenant_id": encode_id(TENANT, found.tenant_id)}
    return {**kept, **ids, **told}


async def _explain(session: AsyncSession, what: str) -> tuple[list[str], list[Row]]:
    """As lines for a reader, and as rows."""
    is_transaction = what.startswith(f"{LEDGER_TRANSACTION}_")
    found_id = decode_id(LEDGER_TRANSACTION if is_transaction else REQUEST, what)
    if is_transaction:
        rows = await read_transaction(session, LedgerTransactionId(found_id))
        return list(tell_transactions(rows)), rows
    found = await explain(session, RequestId(found_id))
    return list(tell(found)), found.rows


@ledger.command("lend")
def lend() -> None:
    """After a restore: lend again now, whoever has not told yet. What they send later and funds do not cover is the
    operator's loss."""
    was_waiting = as_operator(lend_from_now)
    click.echo("budget is lent again" if was_waiting else "budget is being lent: nothing was waited for")


async def _verify(session: AsyncSession) -> tuple[Totals, Difference | None]:
    return await count_totals(session), await verify_ledger(session)
