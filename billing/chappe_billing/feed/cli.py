"""`chappe feed`: the rated-usage feed for the operator's own BSS."""

from pathlib import Path

import click
import msgspec

from chappe_billing.feed.checking import find_damage
from chappe_billing.feed.folder import Busy, Folder, deliver
from chappe_billing.feed.service import (
    DEFAULT_RECORDS,
    acknowledge,
    close_batch,
    read_state,
    request_again,
)
from chappe_kernel.process import prepare_process
from chappe_store.commands import with_database
from chappe_store.session import Database

_Folder = click.Path(file_okay=False, path_type=Path)


@click.group()
def feed() -> None:
    """Deliver rated usage to your own BSS, and see whether it has it all."""
    prepare_process("feed")


@feed.command()
def status() -> None:
    """Print how far the feed is and how far its consumer, as JSON."""

    async def work(database: Database) -> bytes:
        async with database.audit() as session:
            return msgspec.json.encode(await read_state(session))

    click.echo(msgspec.json.format(with_database(work), indent=2).decode())


@feed.command("deliver")
@click.argument("folder", type=_Folder)
@click.option("--records", type=click.IntRange(1, 1_000_000), default=DEFAULT_RECORDS, show_default=True)
def deliver_(folder: Path, *, records: int) -> None:
    """Close batches of about RECORDS until nothing waits, and write into FOLDER what it lacks."""

    async def work(database: Database) -> tuple[int, int]:
        closed = 0
        while True:
            async with database.operator() as session:
                if await close_batch(session, max_records=records) is None:
                    break
            closed += 1
        return closed, await deliver(database, Folder(folder))

    try:
        closed, written = with_database(work)
    except Busy:
        raise click.ClickException(f"another process writes to {folder}") from None
    click.echo(f"{closed} batches closed, {written} written")


@feed.command()
@click.argument("folder", type=_Folder)
def verify(folder: Path) -> None:
    """Compare FOLDER with the database: files that differ, and batches that are neither there nor acknowledged.

    Prints the first difference and exits 1, or exits 0.
    """

    async def work(database: Database) -> tuple[int, str | None]:
        return await find_damage(database, folder)

    checked, damage = with_database(work)
    if damage is not None:
        click.echo(f"NOT INTACT: {damage}", err=True)
        raise SystemExit(1)
    click.echo(f"intact: {checked} batches")


@feed.command()
@click.argument("sequence", type=click.IntRange(1))
@click.option("--reason", required=True, help="Why it is wanted again; it is kept.")
def request(sequence: int, *, reason: str) -> None:
    """Have batch SEQUENCE written again, with the next delivery."""

    async def work(database: Database) -> None:
        async with database.operator() as session:
            await request_again(session, sequence, reason=reason)

    with_database(work)
    click.echo(f"batch {sequence} will be written again")


@feed.command("acknowledge")
@click.argument("sequence", type=click.IntRange(1))
@click.option("--chain", required=True, help="`chain` of the manifest that the consumer has.")
def acknowledge_(sequence: int, *, chain: str) -> None:
    """Note that the consumer has batch SEQUENCE."""

    async def work(database: Database) -> None:
        async with database.operator() as session:
            await acknowledge(session, sequence, chain=chain)

    with_database(work)
    click.echo(f"batch {sequence} is acknowledged")
