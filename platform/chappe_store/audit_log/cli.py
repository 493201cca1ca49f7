"""`chappe audit`: verify, export and sign the audit log."""

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import wraps
from pathlib import Path
from typing import ParamSpec

import click
import msgspec
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_kernel.errors import Invalid
from chappe_kernel.process import prepare_process
from chappe_kernel.settings import load_settings
from chappe_store.audit_log.chain import Checkpoint, NotIntact, PublicKeys, Verifier
from chappe_store.audit_log.service import export_log, make_checkpoint, read_export, verify_log
from chappe_store.audit_log.signing import format_public_keys, parse_public_keys, parse_signing_keys
from chappe_store.commands import as_operator, as_reader

P = ParamSpec("P")

_File = click.Path(exists=True, dir_okay=False, path_type=Path)


@dataclass(frozen=True)
class _KeySettings:
    audit_keys: str = field(repr=False)


def _told_plainly(command: Callable[P, None]) -> Callable[P, None]:
    """Damage ends the command with its message and no traceback."""

    @wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            command(*args, **kwargs)
        except NotIntact as error:
            click.echo(f"NOT INTACT: {error.message}", err=True)
            raise SystemExit(1) from None

    return wrapped


@click.group()
def audit() -> None:
    """Verify, export and sign the audit log."""
    prepare_process("audit")


@audit.command()
@click.option("--since", type=_File, help="A checkpoint that was exported before: the log must lead through it.")
@click.option("--file", "exported", type=_File, help="Verify this export instead of the database.")
@click.option("--public-keys", help="As `public-keys` prints them; by default those of CHAPPE_AUDIT_KEYS.")
@_told_plainly
def verify(since: Path | None, exported: Path | None, public_keys: str | None) -> None:
    """Compute every hash and check every signature again. Prints the first difference and exits 1, or exits 0."""
    verifier = Verifier(_public_keys(public_keys), known=None if since is None else _read_checkpoint(since))
    if exported is None:
        as_reader(lambda session: verify_log(session, verifier))
    else:
        with exported.open("rb") as lines:
            for record in read_export(lines):
                verifier.take(record)
        verifier.finish()
    last = verifier.last_checkpoint
    signed = "nothing is signed yet" if last is None else f"signed up to {last.sequence} at {last.made_at.isoformat()}"
    click.echo(f"intact: {verifier.entries} entries, {verifier.checkpoints} checkpoints, {signed}")


@audit.command()
@_told_plainly
def export() -> None:
    """Write all entries and checkpoints to standard output, as JSON Lines."""
    as_reader(_export)


@audit.command()
@_told_plainly
def checkpoint() -> None:
    """Sign the log as it ends now and print the newest checkpoint. Keep it where this database's keepers cannot go."""
    keys = parse_signing_keys(load_settings(_KeySettings, os.environ).audit_keys)

    async def work(session: AsyncSession) -> Checkpoint | None:
        return await make_checkpoint(session, keys)

    made = as_operator(work)
    if made is None:
        raise Invalid("the audit log is empty: there is nothing to sign")
    click.echo(msgspec.json.encode(made))


@audit.command()
@_told_plainly
def public_keys() -> None:
    """Print the public keys, for whoever verifies an export without being able to sign."""
    click.echo(format_public_keys(_public_keys(None)))


def _public_keys(text: str | None) -> PublicKeys:
    if text is not None:
        return parse_public_keys(text)
    return parse_signing_keys(load_settings(_KeySettings, os.environ).audit_keys).public


def _read_checkpoint(path: Path) -> Checkpoint:
    """The last one in the file, which may be a whole export."""
    last = None
    with path.open("rb") as lines:
        for record in read_export(lines):
            last = record if isinstance(record, Checkpoint) else last
    if last is None:
        raise Invalid(f"{path.name} holds no checkpoint")
    return last


async def _export(session: AsyncSession) -> None:
    async for line in export_log(session):
        sys.stdout.buffer.write(line)
    sys.stdout.buffer.flush()
