"""The embedded PostgreSQL: behind a closed folder, with passwords, without content in its log, durable."""

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from chappe_local import postgres

PASSWORDS = postgres.Passwords(superuser="su'per", owner='ow"ner', control="con/tr@l", backup="b'k")
MARK = "zq7-marked-statement"


class Server:
    """A server whose data lies below a folder of mode 700 that only the caller may pass, as root's home is."""

    def __init__(self, root: Path) -> None:
        self.log = root / "postgres.log"
        self.socket_dir = root / "pg"
        self.data_dir = root / "closed home" / "state" / "postgres"
        (root / "closed home").mkdir(mode=0o700)
        self.process: subprocess.Popen[bytes] | None = None

    async def start(self) -> None:
        self._launch()
        await postgres.prepare_roles(self.socket_dir, PASSWORDS)

    def _launch(self) -> None:
        postgres.prepare_data(self.data_dir, self.socket_dir, PASSWORDS.superuser)
        command = postgres.server_command(self.data_dir, self.socket_dir)
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, cwd="/", stdout=log, stderr=log)

    def stop(self, number: signal.Signals = signal.SIGINT) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(20)

    async def connect(self, user: str, password: str) -> "asyncpg.Connection[asyncpg.Record]":
        url = postgres.database_url(self.socket_dir, user, password).replace("+asyncpg", "")
        return await asyncpg.connect(url)


@pytest.fixture
def server() -> Iterator[Server]:
    root = Path(tempfile.mkdtemp(prefix="chappe-pg-"))
    root.chmod(0o711)
    running = Server(root)
    yield running
    if running.process is not None and running.process.poll() is None:
        running.stop()
    shutil.rmtree(root)


async def test_server_is_closed_durable_and_discreet(server: Server) -> None:
    await server.start()
    owner = await server.connect(postgres.OWNER, PASSWORDS.owner)
    assert await owner.fetchval("SHOW data_checksums") == "on"
    assert await owner.fetchval("SHOW server_encoding") == "UTF8"
    assert await owner.fetchval("SHOW listen_addresses") == ""
    assert (await owner.fetchval("SHOW server_version")).startswith("18")
    await owner.execute("CREATE TABLE kept (text text UNIQUE)")
    await owner.execute("INSERT INTO kept VALUES ($1)", MARK)
    with pytest.raises(asyncpg.UniqueViolationError):
        await owner.execute("INSERT INTO kept VALUES ($1)", MARK)
    with pytest.raises(asyncpg.PostgresSyntaxError):
        await owner.execute(f"SELEKT '{MARK}'")
    await owner.close()

    login = await server.connect(postgres.LOGIN, PASSWORDS.control)
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await login.fetch("SELECT * FROM kept")
    assert not await login.fetchval(
        "SELECT bool_or(rolsuper OR rolbypassrls OR rolinherit OR rolcreaterole) FROM pg_roles WHERE rolname = $1",
        postgres.LOGIN,
    )
    await login.close()
    with pytest.raises(asyncpg.InvalidPasswordError):
        await server.connect(postgres.OWNER, "wrong")

    # The machine loses power, as far as the server can tell.
    assert server.stop(signal.SIGQUIT) != -signal.SIGKILL
    await server.start()
    owner = await server.connect(postgres.OWNER, PASSWORDS.owner)
    assert await owner.fetchval("SELECT text FROM kept") == MARK
    await owner.close()
    assert server.stop() == 0

    text = server.log.read_text()
    assert "duplicate key" in text
    assert MARK not in text
    assert not any(password in text for password in (PASSWORDS.superuser, PASSWORDS.owner, PASSWORDS.control))


async def test_interrupted_initialisation_begins_again(server: Server) -> None:
    building = server.data_dir.with_name("postgres.building")
    building.mkdir(parents=True)
    (building / "PG_VERSION").write_text("half written")
    await server.start()
    assert not building.exists()
    assert server.stop() == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives its privileges up")
def test_root_runs_it_as_nobody_with_no_more_than_it_needs(server: Server) -> None:
    postgres.prepare_data(server.data_dir, server.socket_dir, PASSWORDS.superuser)
    command = postgres.server_command(server.data_dir, server.socket_dir)
    assert command[0] == "setpriv"
    assert "--ambient-caps=+dac_read_search" in command
    assert server.data_dir.stat().st_mode & 0o777 == 0o700
    assert server.data_dir.owner() == postgres.UNPRIVILEGED_USER
    (server.data_dir.parents[1]).chmod(0o711)
    (server.data_dir.parents[0]).chmod(0o711)
    postgres._drop_privileges.cache_clear()
    assert "--no-new-privs" in postgres.server_command(server.data_dir, server.socket_dir)
    postgres._drop_privileges.cache_clear()
