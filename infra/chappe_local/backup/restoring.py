"""From a base backup and the log to a data folder that a server can be started on.

A server of our own brings it there: out of everybody's reach, in a closed folder, without a password. Before it is
handed over the database gets a new identity and stops lending (`chappe_billing.restoring`), so that no gateway ever
meets a restored database that does not know that it is one.
"""

import asyncio
import contextlib
import os
import pwd
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncpg
import structlog
from sqlalchemy.engine import URL

from chappe_billing.restoring.service import mark_restored
from chappe_kernel.errors import Conflict
from chappe_local import postgres
from chappe_local.backup import log
from chappe_local.backup.folder import Backup, BackupFolder, ServerIdentity
from chappe_local.backup.tools import read_identity
from chappe_local.backup.unpacking import Owner, unpack_base
from chappe_store.audit_log.origin import Origin
from chappe_store.session import Database

_log = structlog.get_logger()
_POLL_S = 0.05
_STOP_WITHIN_S = 300.0
_RECOVER_WITHIN_S = 4 * 3600.0
_LAST_LINES = 8
# Whatever a foreign server's own configuration says, this one only replays, alone.
_RECOVERY_SETTINGS = {
    "hot_standby": "off",
    "archive_mode": "off",
    "ssl": "off",
    "shared_preload_libraries": "",
    "recovery_target_timeline": "current",
    "recovery_target_action": "promote",
    "log_checkpoints": "off",
    "autovacuum": "off",
}


@dataclass(frozen=True)
class Order:
    """What to restore: `backup`, with its log up to `until` (all of it when that is None), unless `use_log` says no."""

    backup: Backup
    until: datetime | None
    use_log: bool
    login: str
    database: str
    origin: Origin = field(repr=False)


@dataclass(frozen=True)
class Restored:
    """`ends_at` is when the last transaction in it was committed; None when that was before the backup."""

    server: ServerIdentity
    ends_at: datetime | None
    epoch: str
    files: int


async def restore_into(folder: BackupFolder, order: Order, data_dir: Path) -> Restored:
    """Make `data_dir`, which must not exist, with a server's data as of the ordered instant, shut down cleanly.

    Raises `Conflict` when the backup is damaged, the log has a gap, or ends before `until`.
    """
    with tempfile.TemporaryDirectory(prefix="chappe-restore-") as name:
        workplace = Path(name)
        files = await asyncio.to_thread(unpack, folder, order, data_dir, workplace)
        async with recovered(data_dir, workplace, order.until) as (connection, socket_dir):
            server = await read_identity(connection)
            ends_at = await connection.fetchval("SELECT pg_last_xact_replay_timestamp()")
            epoch = await _mark(socket_dir, order)
        await asyncio.to_thread(_keep_history, folder, server, data_dir)
    return Restored(server, None if ends_at is None else ends_at.astimezone(UTC), epoch, files)


def unpack(folder: BackupFolder, order: Order, data_dir: Path, workplace: Path) -> int:
    """Everything that the server needs to begin; how many files the base backup has."""
    if data_dir.exists():
        raise Conflict(f"{data_dir} exists: a restore never overwrites", code="target_exists")
    # Entered by the server's user, who cannot list it.
    workplace.chmod(0o711)
    backup, owner = order.backup, _owner()
    source = folder.log_of(backup.server)
    segments = log.needed_segments(source, backup.server.timeline, backup.end_lsn) if order.use_log else []
    log.stage(_staged(workplace), segments, log.histories(folder.logs()))
    files = unpack_base(folder.of(backup), backup, data_dir, owner)
    signal_file = data_dir / "recovery.signal"
    signal_file.touch(mode=0o600)
    os.chown(signal_file, owner.uid, owner.gid)
    socket_dir = _socket_dir(workplace)
    socket_dir.mkdir(mode=0o700)
    access = _access_file(workplace)
    access.write_text("local all all trust\n")
    access.chmod(0o644)
    os.chown(socket_dir, owner.uid, owner.gid)
    _log.info("base_backup_unpacked", backup=backup.name, files=files, segments=len(segments))
    return files


@asynccontextmanager
async def recovered(
    data_dir: Path, workplace: Path, until: datetime | None
) -> AsyncIterator[tuple["asyncpg.Connection[Any]", Path]]:
    """The server, when it has replayed what it was told to. It is shut down at the end, whatever happens."""
    socket_dir = _socket_dir(workplace)
    words = workplace / "server.log"
    descriptor = os.open(words, os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        process = await asyncio.create_subprocess_exec(
            *_server_command(data_dir, workplace, until), cwd="/", stdout=descriptor, stderr=descriptor
        )
    finally:
        os.close(descriptor)
    try:
        connection = await _connect(process, socket_dir, words)
        try:
            yield connection, socket_dir
        finally:
            await connection.close()
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGINT)
        # The shutdown's checkpoint puts all on the disk.
        async with asyncio.timeout(_STOP_WITHIN_S):
            await process.wait()


def _server_command(data_dir: Path, workplace: Path, until: datetime | None) -> list[str]:
    settings = _RECOVERY_SETTINGS | {
        "restore_command": f'cp "{_staged(workplace)}/%f" "%p"',
        "hba_file": str(_access_file(workplace)),
    }
    if until is not None:
        settings["recovery_target_time"] = until.isoformat()
    command = postgres.server_command(data_dir, _socket_dir(workplace), reads_everything=True)
    return [*command, *(f"--{name}={value}" for name, value in settings.items())]


async def _connect(process: asyncio.subprocess.Process, socket_dir: Path, words: Path) -> "asyncpg.Connection[Any]":
    async with asyncio.timeout(_RECOVER_WITHIN_S):
        while process.returncode is None:
            # While it replays it takes no connections, and one that it ends with is cut off.
            with contextlib.suppress(OSError, asyncpg.CannotConnectNowError, asyncpg.ConnectionDoesNotExistError):
                return await asyncpg.connect(host=str(socket_dir), user=postgres.SUPERUSER, database="postgres")
            await asyncio.sleep(_POLL_S)
    lines = await asyncio.to_thread(_last_fatal_words, words)
    raise Conflict(f"the log does not lead there: {' | '.join(lines)}", code="recovery_failed")


def _last_fatal_words(words: Path) -> list[str]:
    lines = words.read_text(errors="replace").splitlines()
    return [line for line in lines if "FATAL" in line or "PANIC" in line][-_LAST_LINES:]


async def _mark(socket_dir: Path, order: Order) -> str:
    url = URL.create("postgresql+asyncpg", order.login, database=order.database, query={"host": str(socket_dir)})
    database = Database(url.render_as_string(hide_password=False), pool_size=1, origin=order.origin)
    try:
        async with database.operator() as session:
            return str(await mark_restored(session))
    finally:
        await database.close()


def _keep_history(folder: BackupFolder, server: ServerIdentity, data_dir: Path) -> None:
    """Take the new timeline's number for good: the next restore must not begin it a second time."""
    history = f"{server.timeline:08X}.history"
    into = folder.log_of(server)
    into.mkdir(mode=0o700, parents=True, exist_ok=True)
    shutil.copyfile(data_dir / "pg_wal" / history, into / history)


def _staged(workplace: Path) -> Path:
    return workplace / "log"


def _socket_dir(workplace: Path) -> Path:
    return workplace / "socket"


def _access_file(workplace: Path) -> Path:
    return _socket_dir(workplace) / "hba"


def _owner() -> Owner:
    if os.geteuid():
        return Owner()
    user = pwd.getpwnam(postgres.UNPRIVILEGED_USER)
    return Owner(user.pw_uid, user.pw_gid)
