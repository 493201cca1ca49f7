"""What suites share: one real PostgreSQL server with a copy of a migrated template for each test, and one instance."""

import gc
import secrets
import shutil
import signal
import subprocess
import tempfile
from collections.abc import AsyncIterator, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import psutil
import pytest

from chappe_kernel.ids import new_id
from chappe_local import postgres as embedded
from chappe_store.audit_log.origin import ActorKind, Origin
from chappe_store.migrate import migrate
from chappe_store.session import Database
from tests.instance import Instance, running_instance

TEMPLATE = embedded.DATABASE
_ROOM_BYTES = 8 * 10**9
TESTS = Origin(ActorKind.COMMAND, "tests", None, new_id())
"""Who a test is that changes something itself."""
_ALONE = ("local", "serving", "browser", "journey")
"""Suites that take the whole machine, in this order and after all others: first those that end processes and listen on
ports of their own choice, then a Ray cluster, then an instance of 47 processes, which the journey ends with taking down
and up again."""


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """What the tests are made of is there until the end: the collector of garbage need not look at all of it again and
    again, which took a quarter of a worker's time."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.collect()
        gc.freeze()
        gc.enable()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Before `-m` chooses. What several workers share out among them are whole files, for the fixtures' sake."""
    for item in items:
        item.add_marker(pytest.mark.xdist_group(str(item.path)))
        if _turn(item.path):
            item.add_marker(pytest.mark.alone)
    items.sort(key=lambda item: _turn(item.path))


def _turn(path: Path) -> int:
    suite = path.relative_to(Path(__file__).parent).parts[0]
    return _ALONE.index(suite) + 1 if suite in _ALONE else 0


@dataclass(frozen=True)
class PostgresServer:
    """The running server of this test session."""

    socket_dir: Path
    passwords: embedded.Passwords

    async def superuser(self, database: str = "postgres") -> "asyncpg.Connection[Any]":
        return await asyncpg.connect(
            host=str(self.socket_dir),
            user=embedded.SUPERUSER,
            password=self.passwords.superuser,
            database=database,
        )

    def urls(self, database: str) -> "DatabaseUrls":
        return DatabaseUrls(
            owner=embedded.database_url(self.socket_dir, embedded.OWNER, self.passwords.owner, database),
            app=embedded.database_url(self.socket_dir, embedded.LOGIN, self.passwords.control, database),
            superuser=embedded.database_url(self.socket_dir, embedded.SUPERUSER, self.passwords.superuser, database),
            name=database,
        )

    async def create_database(self, name: str, template: str = "template1") -> "DatabaseUrls":
        """A new database with the owner and the rights that the embedded server gives its own."""
        connection = await self.superuser()
        try:
            # Whole files are copied in half the time that their pages take through the log.
            await connection.execute(
                f"CREATE DATABASE {name} TEMPLATE {template} OWNER {embedded.OWNER} STRATEGY FILE_COPY"
            )
            await connection.execute(f"REVOKE ALL ON DATABASE {name} FROM PUBLIC")
            await connection.execute(f"GRANT CONNECT ON DATABASE {name} TO {embedded.LOGIN}")
        finally:
            await connection.close()
        return self.urls(name)

    async def drop_database(self, name: str) -> None:
        connection = await self.superuser()
        try:
            await connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
        finally:
            await connection.close()


@dataclass(frozen=True)
class DatabaseUrls:
    """One test's database, as its owner (migrations), as the application, and as the superuser (to tamper)."""

    owner: str
    app: str
    superuser: str
    name: str


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """The server's process, without roles or databases yet."""
    root = Path(tempfile.mkdtemp(prefix="chappe-pg-", dir=quickest_folder()))
    root.chmod(0o755)  # The server's unprivileged user passes through; its own folders are 0700.
    server = PostgresServer(root / "socket", embedded.Passwords(*(secrets.token_urlsafe(16) for _ in range(4))))
    embedded.prepare_data(root / "data", server.socket_dir, server.passwords.superuser)
    # Durability is what these tests don't need: a crash of the machine loses nothing of theirs.
    fast = ["--fsync=off", "--synchronous_commit=off", "--full_page_writes=off"]
    # Each suite has a control plane of its own, and a worker keeps them all until it ends.
    command = [*embedded.server_command(root / "data", server.socket_dir), *fast, "--max_connections=300"]
    with (root / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd="/")
    try:
        yield server
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(30)
        shutil.rmtree(root, ignore_errors=True)


def quickest_folder() -> Path | None:
    """In memory, where there is plenty of it: 900 tests copy a database of 17 MB. None is the system's own choice."""
    memory = Path("/dev/shm")  # noqa: S108 -- a folder of its own name is made in it
    try:
        return memory if min(shutil.disk_usage(memory).free, psutil.virtual_memory().available) > _ROOM_BYTES else None
    except FileNotFoundError:
        return None


@pytest.fixture(scope="session")
async def postgres(postgres_server: PostgresServer) -> PostgresServer:
    """The server, with the migrated database that every test's own is copied from."""
    await embedded.prepare_roles(postgres_server.socket_dir, postgres_server.passwords)
    urls = postgres_server.urls(TEMPLATE)
    await migrate(urls.owner, urls.app)
    return postgres_server


@pytest.fixture
async def database_urls(postgres: PostgresServer) -> AsyncIterator[DatabaseUrls]:
    """A fresh copy of the migrated database, dropped afterwards."""
    name = f"test_{secrets.token_hex(6)}"
    yield await postgres.create_database(name, TEMPLATE)
    await postgres.drop_database(name)


@pytest.fixture
async def database(database_urls: DatabaseUrls) -> AsyncIterator[Database]:
    """The application's way into this test's database."""
    opened = Database(database_urls.app, origin=TESTS)
    yield opened
    await opened.close()


@pytest.fixture(scope="session")
def instance(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    """Every process, model and database is the real one. Whoever asks for it first waits for its start."""
    with running_instance(tmp_path_factory.mktemp("chappe")) as running:
        yield running
