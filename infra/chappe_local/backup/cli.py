"""`chappe backup` and `chappe restore`: the control plane's database."""

import asyncio
import json
import os
from collections.abc import Coroutine
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import click
from sqlalchemy import make_url

from chappe_kernel.errors import Conflict, Invalid
from chappe_kernel.process import prepare_process
from chappe_kernel.state_dir import state_dir
from chappe_local import postgres
from chappe_local.backup.drill import rehearse
from chappe_local.backup.folder import Backup, BackupFolder
from chappe_local.backup.restoring import Order, Restored, restore_into
from chappe_local.backup.taking import log_command, prune, take_backup
from chappe_local.backup.tools import ReplicationUrl
from chappe_local.backup.verifying import verify_backup
from chappe_local.instance import current_instance
from chappe_store.audit_log.origin import command_origin

P = ParamSpec("P")
T = TypeVar("T")
_MIB = 1024 * 1024


@click.group()
def backup() -> None:
    """Back the control plane's database up."""
    prepare_process("backup")


@backup.command()
def create() -> None:
    """Take a base backup now, while everything goes on working."""
    taken = _run(take_backup(_folder(), _server()))
    click.echo(f"{taken.name}: {taken.size_bytes / _MIB:.1f} MiB, consistent at {taken.finished_at.isoformat()}")


@backup.command("list")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def list_backups(*, as_json: bool) -> None:
    """The complete backups, oldest first."""
    for one in _folder().backups():
        if as_json:
            click.echo(json.dumps({**_describe(one)}))
        else:
            click.echo(f"{one.name}  {one.size_bytes / _MIB:8.1f} MiB  {one.finished_at.isoformat()}  {one.server}")


@backup.command()
@click.argument("name", required=False)
@click.option("--restore", "restored", is_flag=True, help="Restore it into a temporary folder too, verify the ledger.")
def verify(*, name: str | None, restored: bool) -> None:
    """Read a backup (the newest) and the log that leads on from it; exit code 0 only if all of it is intact."""
    folder = _folder()
    chosen = folder.choose(name, None)
    found = _run(verify_backup(folder, chosen))
    log_said = "no log" if found.log_ends is None else f"{found.segments} segments of log, up to {found.log_ends}"
    click.echo(f"{chosen.name} is intact: {found.files} files, {log_said}")
    if restored:
        click.echo(_run(rehearse(folder, _order(chosen, None, use_log=True))))


@backup.command("prune")
@click.option("--keep", default=7, show_default=True, help="How many of the newest backups stay.")
def prune_backups(*, keep: int) -> None:
    """Remove old backups, and the log that only they needed."""
    gone, freed = prune(_folder(), keep)
    click.echo(f"removed {', '.join(gone) or 'no backup'} and {freed / _MIB:.0f} MiB of log")


@backup.command("stream")
def stream() -> None:
    """Stream the write-ahead log into the backup folder, until the server goes away. Run it supervised, beside it."""
    folder, server = _folder(), _server()
    folder.prepare()
    command = _run(log_command(folder, server))
    # It takes this process's place, so that whoever supervises sees its end and sends it its signals.
    os.execve(command[0], command, server.environment())  # noqa: S606 -- a command line of our own making


@click.command()
@click.option("--backup", "name", help="Which base backup; the newest that reaches far enough by itself.")
@click.option("--to", "until", help="An instant, such as 2026-11-22T14:30:00+00:00; everything there is by itself.")
@click.option("--without-log", is_flag=True, help="The base backup alone: as of its end.")
@click.option("--into", type=click.Path(path_type=Path), help="Make a data folder there, for a server of your own.")
def restore(*, name: str | None, until: str | None, without_log: bool, into: Path | None) -> None:
    """Restore the control plane's database.

    Stop `worker`, `control` and `postgres` first, and start them after it. Gateways may go on: they send again what
    the database has lost. What it was before stays beside it.
    """
    prepare_process("restore")
    if until is not None and without_log:
        raise Invalid("an instant is reached by the log: --to or --without-log")
    folder = _folder()
    instant = None if until is None else _instant(until)
    order = _order(folder.choose(name, instant), instant, use_log=not without_log)
    if into is not None:
        done = _run(restore_into(folder, order, into.absolute()))
        click.echo(_told(order, done))
        click.echo(f"start your server on {into}, then the control plane")
        return
    done = restore_embedded(folder, order, state_dir(os.environ).resolve() / "postgres")
    click.echo(_told(order, done))
    click.echo("now: chappe start postgres, start control, start worker (or make up); then: chappe ledger verify")


def restore_embedded(folder: BackupFolder, order: Order, data_dir: Path) -> Restored:
    """Restore beside the embedded server's data, and let its next start take it. Raises `Conflict` while it runs."""
    if not _is_embedded():
        raise Conflict("the database is a server of your own: chappe restore --into FOLDER")
    if (data_dir / "postmaster.pid").exists() and _server_lives(data_dir):
        raise Conflict("the database runs: chappe stop worker, stop control, stop postgres (or make down)")
    waiting, kept = postgres.restored_place(data_dir), postgres.replaced_place(data_dir)
    if kept.exists():
        raise Conflict(f"{kept} is what an earlier restore replaced: move it away when nobody needs it any more")
    building = data_dir.with_name(data_dir.name + ".restoring")
    for leftover in (building, waiting):
        postgres.remove_data(leftover)
    done = _run(restore_into(folder, order, building))
    building.rename(waiting)
    postgres.take_restored(data_dir)
    return done


def _is_embedded() -> bool:
    url = os.environ.get("CHAPPE_DATABASE_URL")
    own = current_instance(os.environ).runtime_dir / "pg"
    return not url or make_url(url).query.get("host") == str(own)


def _server_lives(data_dir: Path) -> bool:
    pid = (data_dir / "postmaster.pid").read_text().splitlines()[0]
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    return True


def _folder() -> BackupFolder:
    path = os.environ.get("CHAPPE_BACKUP_DIR")
    return BackupFolder(Path(path).absolute() if path else state_dir(os.environ).resolve() / "backups")


def _server() -> ReplicationUrl:
    url = os.environ.get("CHAPPE_DATABASE_BACKUP_URL")
    if not url:
        raise Invalid("CHAPPE_DATABASE_BACKUP_URL must name a login with REPLICATION")
    return ReplicationUrl.parse(url)


def _order(chosen: Backup, until: datetime | None, *, use_log: bool) -> Order:
    """The control plane's login and database, by whose rights the restored database is marked."""
    url = os.environ.get("CHAPPE_DATABASE_URL")
    parsed = make_url(url) if url else None
    return Order(
        backup=chosen,
        until=until,
        use_log=use_log,
        login=(parsed.username if parsed else None) or postgres.LOGIN,
        database=(parsed.database if parsed else None) or postgres.DATABASE,
        origin=command_origin(),
    )


def _instant(text: str) -> datetime:
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        raise Invalid(f"{text} is no instant such as 2026-11-22T14:30:00+00:00", param="to") from None
    if instant.tzinfo is None:
        raise Invalid(f"{text} has no offset: 2026-11-22T14:30:00+00:00 has", param="to")
    return instant.astimezone(UTC)


def _told(order: Order, done: Restored) -> str:
    ends = "the base backup's end" if done.ends_at is None else done.ends_at.isoformat()
    return f"restored {order.backup.name}, {done.files} files, up to {ends}; epoch {done.epoch}"


def _describe(one: Backup) -> dict[str, Any]:
    return {
        "name": one.name,
        "server": str(one.server),
        "server_version": one.server_version,
        "started_at": one.started_at.isoformat(),
        "finished_at": one.finished_at.isoformat(),
        "size_bytes": one.size_bytes,
    }


def _run(work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(work)
