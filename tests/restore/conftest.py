"""A server of a test's own, with durable settings, whose log is streamed into a backup folder."""

import asyncio
import shutil
import signal
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from chappe_local import postgres, probes
from chappe_local.backup.folder import Backup, BackupFolder
from chappe_local.backup.restoring import Order
from chappe_local.backup.taking import log_command, take_backup
from chappe_local.backup.tools import ReplicationUrl
from chappe_store.migrate import migrate
from tests.conftest import TESTS

PASSWORDS = postgres.Passwords(superuser="super", owner="owner", control="control", backup="b'a ck\\up")


@dataclass
class Place:
    """A control plane's machine: its server, and where its backups go."""

    root: Path
    folder: BackupFolder
    server: "subprocess.Popen[bytes] | None" = None
    stream: "subprocess.Popen[bytes] | None" = None

    @property
    def data_dir(self) -> Path:
        return self.root / "state" / "postgres"

    @property
    def socket_dir(self) -> Path:
        return self.root / "socket"

    @property
    def backup_url(self) -> ReplicationUrl:
        text = postgres.database_url(self.socket_dir, postgres.REPLICATION, PASSWORDS.backup, "postgres")
        return ReplicationUrl.parse(text)

    @property
    def app_url(self) -> str:
        return postgres.database_url(self.socket_dir, postgres.LOGIN, PASSWORDS.control)

    @property
    def owner_url(self) -> str:
        return postgres.database_url(self.socket_dir, postgres.OWNER, PASSWORDS.owner)

    @property
    def superuser_url(self) -> str:
        return postgres.database_url(self.socket_dir, postgres.SUPERUSER, PASSWORDS.superuser)

    async def start(self) -> None:
        """What is restored takes its place now, as at an instance's start."""
        postgres.prepare_data(self.data_dir, self.socket_dir, PASSWORDS.superuser)
        self._launch()
        supervising = asyncio.create_task(self._supervise())
        try:
            await postgres.prepare_roles(self.socket_dir, PASSWORDS)
        finally:
            supervising.cancel()

    async def _supervise(self) -> None:
        """As an instance does: a server refuses to start while backends of one that was killed have not ended."""
        while True:
            await asyncio.sleep(0.1)
            if self.server is None or self.server.poll() is not None:
                self._launch()

    def _launch(self) -> None:
        command = postgres.server_command(self.data_dir, self.socket_dir)
        with (self.root / "server.log").open("ab") as log:
            self.server = subprocess.Popen(command, cwd="/", stdout=log, stderr=log)

    async def migrate(self) -> None:
        await migrate(self.owner_url, self.app_url)

    def stop(self, number: signal.Signals = signal.SIGINT) -> None:
        assert self.server is not None
        self.server.send_signal(number)
        self.server.wait(30)
        self.server = None

    def lose_the_machine(self) -> None:
        """The server dies at once, and its data with it; only what was streamed is elsewhere."""
        self.stop(signal.SIGKILL)
        self.stop_stream(signal.SIGKILL)
        postgres.remove_data(self.data_dir)

    async def start_stream(self) -> None:
        command = await log_command(self.folder, self.backup_url)
        self._stream(command)
        await until(lambda: probes.log_streams(self.backup_url.url.render_as_string(hide_password=False)))

    def _stream(self, command: list[str]) -> None:
        self.stream = subprocess.Popen(command, env=self.backup_url.environment(), cwd="/", stderr=subprocess.DEVNULL)

    def stop_stream(self, number: signal.Signals = signal.SIGINT) -> None:
        if self.stream is not None:
            self.stream.send_signal(number)
            self.stream.wait(30)
            self.stream = None

    async def backup(self) -> Backup:
        return await take_backup(self.folder, self.backup_url)

    def order(self, backup: Backup, until: datetime | None = None, *, use_log: bool = True) -> Order:
        return Order(backup, until, use_log, postgres.LOGIN, postgres.DATABASE, TESTS)

    @asynccontextmanager
    async def superuser(self) -> AsyncIterator["asyncpg.Connection[Any]"]:
        connection = await asyncpg.connect(self.superuser_url.replace("+asyncpg", ""))
        try:
            yield connection
        finally:
            await connection.close()

    async def streamed(self) -> None:
        """Wait until the stream has all that is written."""
        async with self.superuser() as connection:
            end = await connection.fetchval("SELECT pg_current_wal_flush_lsn()")

            async def has_all() -> bool:
                return bool(await connection.fetchval("SELECT bool_or(flush_lsn >= $1) FROM pg_stat_replication", end))

            await until(has_all)


async def until(holds: Any, within_s: float = 60.0) -> None:
    """Ask again until it is so."""
    async with asyncio.timeout(within_s):
        while not await holds():  # noqa: ASYNC110 -- it lives in other processes
            await asyncio.sleep(0.02)


def make_place(like: Place | None = None) -> Place:
    root = Path(tempfile.mkdtemp(prefix="chappe-restore-test-"))
    # PostgreSQL's own user passes, and nobody reads.
    root.chmod(0o711)
    (root / "state").mkdir(mode=0o711)
    made = Place(root, BackupFolder(root / "backups"))
    made.folder.prepare()
    if like is not None:
        subprocess.run(["cp", "-a", str(like.data_dir), str(made.data_dir)], check=True)
    return made


def remove_place(made: Place) -> None:
    made.stop_stream()
    if made.server is not None:
        made.stop()
    shutil.rmtree(made.root)


@pytest.fixture(scope="package", autouse=True)
def unsynced() -> Iterator[None]:
    """Processes are killed here, and never the machine: what the kernel was given is safe, and the disk is spared."""
    before = postgres._SETTINGS["fsync"]
    postgres._SETTINGS["fsync"] = "off"
    yield
    postgres._SETTINGS["fsync"] = before


@pytest.fixture(scope="package")
async def migrated(unsynced: None) -> AsyncIterator[Place]:
    """A cluster with the schema, shut down: every test's own is a copy of it."""
    made = make_place()
    await made.start()
    await made.migrate()
    made.stop()
    yield made
    remove_place(made)


@pytest.fixture
async def place(migrated: Place) -> AsyncIterator[Place]:
    """A running server."""
    made = make_place(migrated)
    await made.start()
    yield made
    remove_place(made)
