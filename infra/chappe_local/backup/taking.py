"""Taking a base backup, streaming the log, and clearing what is too old."""

import asyncio
import hashlib
import os
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from chappe_kernel.errors import Invalid
from chappe_local.backup import log
from chappe_local.backup.folder import MANIFEST, RECORD, UNFINISHED, Backup, BackupFolder, FileDigest
from chappe_local.backup.tools import ReplicationUrl, program, read_identity, run_program
from chappe_local.private_files import write_private

# Level 1 takes a third of the time of the default and leaves a tenth more.
_COMPRESSION = "gzip:1"
_READ_BYTES = 1024 * 1024


async def take_backup(folder: BackupFolder, server: ReplicationUrl) -> Backup:
    """A base backup with the log that makes it consistent, while the server goes on working.

    It counts only when its record is on the disk; one that was interrupted is removed by the next. Raises `Conflict`
    while another is running, `Unavailable` with the server's words.
    """
    folder.prepare()
    with folder.locked():
        for leftover in folder.unfinished():
            shutil.rmtree(leftover)
        connection = await server.connect()
        try:
            identity = await read_identity(connection)
            version = str(await connection.fetchval("SHOW server_version"))
            started_at = await _now(connection)
            name = f"{started_at:%Y%m%dT%H%M%S}.{started_at.microsecond // 1000:03}Z"
            building = folder.path / f"{name}{UNFINISHED}"
            await run_program(_command(server, building), server.environment())
            finished_at = await _now(connection)
        finally:
            await connection.close()
        return await asyncio.to_thread(
            _finish,
            folder,
            building,
            Backup(
                name=name,
                server=identity,
                server_version=version,
                started_at=started_at,
                finished_at=finished_at,
                start_lsn="",
                end_lsn="",
                files={},
            ),
        )


def _finish(folder: BackupFolder, building: Path, begun: Backup) -> Backup:
    """Complete its record and make it count, once all of it is on the disk."""
    start_lsn, end_lsn = _read_range(building / MANIFEST)
    files = {path.name: digest_of(path) for path in sorted(building.iterdir())}
    backup = msgspec.structs.replace(begun, start_lsn=start_lsn, end_lsn=end_lsn, files=files)
    write_private(building / RECORD, msgspec.json.format(msgspec.json.encode(backup), indent=1) + b"\n")
    _sync_folder(building)
    building.rename(folder.of(backup))
    _sync_folder(folder.path)
    return backup


async def log_command(folder: BackupFolder, server: ReplicationUrl) -> list[str]:
    """The program that streams the log until the connection ends, beginning where it ended before.

    A replication slot keeps the server from forgetting what was not streamed yet, up to its own
    `max_slot_wal_keep_size`. Call it anew after each end: a restored server has a folder of its own.
    """
    connection = await server.connect()
    try:
        identity = await read_identity(connection)
    finally:
        await connection.close()
    into = folder.log_of(identity)
    into.mkdir(mode=0o700, parents=True, exist_ok=True)
    base = [program("pg_receivewal"), f"--dbname={server.conninfo()}", "--no-password", f"--slot={log.SLOT}"]
    await run_program([*base, "--create-slot", "--if-not-exists"], server.environment())
    return [*base, f"--directory={into}", "--no-loop", "--synchronous"]


def prune(folder: BackupFolder, keep: int) -> tuple[list[str], int]:
    """Remove all but the newest `keep` backups, and the log that none of them needs. Names, and bytes of log."""
    if keep < 1:
        raise Invalid("at least one backup must be kept", param="keep")
    with folder.locked():
        backups = folder.backups()
        kept = backups[-keep:]
        for leftover in folder.unfinished():
            shutil.rmtree(leftover)
        gone = backups[:-keep]
        for backup in gone:
            # Without its record it is no backup any more, however far the removal comes.
            (folder.of(backup) / RECORD).unlink()
            shutil.rmtree(folder.of(backup))
        return [backup.name for backup in gone], _prune_logs(folder, kept) if kept else 0


def digest_of(path: Path) -> FileDigest:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_READ_BYTES):
            digest.update(chunk)
    return FileDigest(path.stat().st_size, digest.hexdigest())


def _command(server: ReplicationUrl, into: Path) -> list[str]:
    return [
        program("pg_basebackup"),
        f"--dbname={server.conninfo()}",
        "--no-password",
        f"--pgdata={into}",
        "--format=tar",
        f"--compress={_COMPRESSION}",
        "--wal-method=stream",
        "--checkpoint=fast",
        "--manifest-checksums=SHA256",
        "--label=chappe",
    ]


async def _now(connection: Any) -> datetime:
    now: datetime = await connection.fetchval("SELECT clock_timestamp()")
    return now.astimezone(UTC)


def _read_range(manifest: Path) -> tuple[str, str]:
    ranges = msgspec.json.decode(manifest.read_bytes())["WAL-Ranges"]
    return str(ranges[0]["Start-LSN"]), str(ranges[-1]["End-LSN"])


def _prune_logs(folder: BackupFolder, kept: list[Backup]) -> int:
    freed = 0
    # A server whose backups are all gone may still be streaming: only logs of a server that has a backup are touched,
    # and those before its first.
    for server in {backup.server for backup in kept}:
        path = folder.log_of(server)
        first = min(log.Position.parse(backup.start_lsn) for backup in kept if backup.server == server)
        oldest = first.offset // log.segment_bytes(path)
        for segment in log.list_segments(path, server.timeline):
            if segment.number < oldest:
                freed += segment.path.stat().st_size
                segment.path.unlink()
    return freed


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
