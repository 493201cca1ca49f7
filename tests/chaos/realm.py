"""An operator's whole Chappe of one region, each part a process that a test kills and starts again.

PostgreSQL (or a database of the session's), control plane, worker, Valkey with its access list, gateways, engine
replicas.
"""

import asyncio
import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import httpx
import msgspec
import redis.asyncio

from chappe_catalogue.manifest import read_manifest
from chappe_control.catalogue.service import apply_catalogue
from chappe_control.seeding.schemas import Seed, SeedKey, SeedTenant
from chappe_control.seeding.service import plant_seed
from chappe_kernel.api_keys import KeyKind, generate_key
from chappe_kernel.ids import REQUEST, TenantId, decode_id
from chappe_kernel.wire.engine import RECORD_FIELD, RECORD_STREAM, EngineRecord
from chappe_local import postgres as embedded
from chappe_local import valkey as embedded_valkey
from chappe_store.migrate import migrate
from chappe_store.session import Database
from tests.chaos.replica import DEATH, Token, read_truth, ready_file
from tests.conftest import TESTS, DatabaseUrls, PostgresServer
from tests.control.world import AUDIT_KEYS_TEXT, CREDENTIALS, MANIFEST, PEPPERS, PEPPERS_TEXT
from tests.gateway.servers import free_port
from tests.valkey_server import Valkey, start_valkey

REGION = "fr-par"
POSTGRES, CONTROL, WORKER = "postgres", "control", "worker"
RELEASE_S = 12.0
MATCH_AFTER_S = 4.0
"""Four reports of an engine that works, which it makes as often as in production."""
GRANT_BLOCK_NANO = 2_000_000
_STARTS_WITHIN_S = 90


@dataclass(frozen=True)
class Payer:
    """A tenant and its one key."""

    tenant_id: TenantId
    key: str
    funds_nano: int


@dataclass
class Realm:
    """What runs is in `running`; what was killed stays away until it is started again."""

    folder: Path
    valkey: Valkey
    urls: DatabaseUrls
    own_postgres: PostgresServer | None = None
    """Killed and started with the rest; otherwise the session's server is used."""
    has_worker: bool = False
    """The control plane leaves its work to a part of its own."""
    tokens_per_s: float = 60.0
    ports: dict[str, int] = field(default_factory=dict)
    running: dict[str, "subprocess.Popen[bytes]"] = field(default_factory=dict)
    gateway_settings: dict[str, str] = field(default_factory=dict)
    gateway_module: str | None = None
    """Run instead of the command `chappe gateway`: it dies where a test wants it to."""

    def port(self, name: str) -> int:
        return self.ports.setdefault(name, free_port())

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.port(name)}"

    async def start(self, *names: str) -> None:
        """Start these parts, all at once, and wait until each answers."""
        await asyncio.gather(*map(self._start, names))

    def kill(self, name: str) -> None:
        """SIGKILL, to every process of the part."""
        process = self.running.pop(name)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(10)

    def condemn(self, after_tokens: int) -> None:
        """Whichever replica makes this token of the next request dies of it."""
        (self.folder / f"{DEATH}-{after_tokens}").touch()

    async def replace_dead(self) -> None:
        """What died by itself is started again."""
        dead = [name for name, process in self.running.items() if process.poll() is not None]
        await self.start(*dead)

    def kill_all(self) -> None:
        for name in tuple(self.running):
            self.kill(name)

    def log(self, name: str) -> str:
        path = self.folder / f"{name}.log"
        return path.read_text() if path.exists() else ""

    async def new_payer(self, name: str, funds_nano: int = 10_000_000_000) -> Payer:
        key = generate_key(KeyKind.INFERENCE)
        seed = Seed(
            tenant=SeedTenant(name=name, allowed_regions=(REGION,), requests_per_minute=100_000),
            project="default",
            keys=(SeedKey("inference", KeyKind.INFERENCE, key),),
        )
        async with self._database() as database, database.operator() as session:
            tenant_id = await plant_seed(session, seed, peppers=PEPPERS, welcome_credit_nano=funds_nano)
        return Payer(tenant_id, key, funds_nano)

    async def rows(self, statement: str, *values: Any) -> list[Any]:
        """A look at the database with the eyes of a superuser."""
        connection = await asyncpg.connect(self.urls.superuser.replace("+asyncpg", ""))
        try:
            return list(await connection.fetch(statement, *values))
        finally:
            await connection.close()

    async def records(self) -> list[EngineRecord]:
        """All that engines durably reported, in order."""
        async with redis.asyncio.Redis.from_url(self.valkey.urls[embedded_valkey.GATEWAY_USER]) as client:
            entries: Any = await client.xrange(RECORD_STREAM)
        return [msgspec.json.decode(fields[RECORD_FIELD.encode()], type=EngineRecord) for _, fields in entries]

    async def reports(self) -> dict[UUID, dict[int, EngineRecord]]:
        """The largest of each attempt."""
        found: dict[UUID, dict[int, EngineRecord]] = {}
        for record in await self.records():
            attempts = found.setdefault(decode_id(REQUEST, record.request_id), {})
            known = attempts.get(record.attempt)
            if known is None or record.counts.completion_tokens >= known.counts.completion_tokens:
                attempts[record.attempt] = record
        return found

    def truth(self) -> list[Token]:
        """All that engines really generated."""
        return read_truth(self.folder)

    async def forget_repeats(self) -> None:
        """As FLUSHALL would."""
        async with redis.asyncio.Redis.from_url(self.valkey.urls[embedded_valkey.GATEWAY_USER]) as client:
            async for name in client.scan_iter("chappe:repeat:*"):
                await client.delete(name)

    async def event(self, request_id: UUID, within_s: float = 60.0) -> Any:
        """The request's event, once it is posted."""
        found: list[Any] = []

        async def is_posted() -> bool:
            found[:] = await self.rows("SELECT * FROM usage_event WHERE request_id = $1", request_id)
            return bool(found)

        await self.until(is_posted, within_s)
        return found[0]

    async def verify(self) -> "subprocess.CompletedProcess[str]":
        """`chappe ledger verify`, as an operator runs it."""
        return await asyncio.to_thread(
            subprocess.run,
            [_chappe(), "ledger", "verify"],
            env={**os.environ, "CHAPPE_DATABASE_URL": self.urls.app},
            check=False,
            capture_output=True,
            text=True,
            timeout=300,
        )

    async def until(self, condition: Callable[[], Awaitable[bool]], within_s: float = 60.0) -> None:
        """Wait for something that other processes bring about."""
        async with asyncio.timeout(within_s):
            while not await condition():  # noqa: ASYNC110 -- only asking can tell
                await asyncio.sleep(0.05)

    @contextlib.asynccontextmanager
    async def _database(self) -> AsyncIterator[Database]:
        database = Database(self.urls.app, origin=TESTS)
        try:
            yield database
        finally:
            await database.close()

    async def _start(self, name: str) -> None:
        command, settings = self._part(name)
        environ = {**os.environ, **settings}
        async with asyncio.timeout(_STARTS_WITHIN_S):
            while True:
                process = self.running[name] = _spawn(command, environ, self.folder / f"{name}.log", _cwd(name))
                while process.poll() is None and not await self._answers(name):  # noqa: ASYNC110 -- only asking tells
                    await asyncio.sleep(0.05)
                if process.poll() is None:
                    return
                # What it needs is away just now, or its predecessor's memory is: a supervisor would try again too.
                await asyncio.sleep(0.2)

    def _part(self, name: str) -> tuple[list[str], dict[str, str]]:
        if name == POSTGRES:
            assert self.own_postgres is not None
            return _postgres_command(self.folder, self.own_postgres), {}
        if name == CONTROL:
            return [_chappe(), "control"], _prefixed(self._control_settings())
        if name == WORKER:
            self._heartbeat.unlink(missing_ok=True)
            return [_chappe(), "worker"], _prefixed(self._worker_settings())
        if name.startswith("engine"):
            command = [sys.executable, "-m", "tests.chaos.replica", str(self.port("engine"))]
            urls = self.valkey.urls
            return [*command, str(self.folder), str(self.tokens_per_s)], {
                "ENGINE_REDIS_URL": urls[embedded_valkey.ENGINE_USER]
            }
        settings = _prefixed({**self._gateway_settings(name), **self.gateway_settings})
        if self.gateway_module is None:
            return [_chappe(), "gateway"], settings
        return [sys.executable, "-m", self.gateway_module, str(self.folder)], settings

    def _control_settings(self) -> dict[str, str]:
        return {
            "DATABASE_URL": self.urls.app,
            "REDIS_URL": self.valkey.url,
            "KEY_PEPPERS": PEPPERS_TEXT,
            "AUDIT_KEYS": AUDIT_KEYS_TEXT,
            "PORT": str(self.port(CONTROL)),
            "GRANT_ADMIT_S": "3",
            "GRANT_SETTLE_S": "9",
            "GRANT_RELEASE_S": str(RELEASE_S),
            "WORKS": str(not self.has_worker),
        }

    @property
    def _heartbeat(self) -> Path:
        return self.folder / "worker.heartbeat"

    def _worker_settings(self) -> dict[str, str]:
        """It feeds often, so that it is killed while it does."""
        return {
            "DATABASE_URL": self.urls.app,
            "KEY_PEPPERS": PEPPERS_TEXT,
            "AUDIT_KEYS": AUDIT_KEYS_TEXT,
            "PORTAL_URL": self.url(CONTROL),
            "HEARTBEAT_FILE": str(self._heartbeat),
            "NICENESS": "0",
            "FEED_FOLDER": str(self.folder / "feed"),
            "FEED_EVERY_S": "0.2",
            "AUDIT_CHECKPOINT_S": "1",
        }

    def _gateway_settings(self, name: str) -> dict[str, str]:
        return {
            "REGION": REGION,
            "GATEWAY_ID": name,
            "PORT": str(self.port(name)),
            "CONTROL_URL": self.url(CONTROL),
            "REGION_CREDENTIAL": CREDENTIALS[REGION],
            "SERVING_URL": self.url("engine"),
            "REDIS_URL": self.valkey.urls[embedded_valkey.GATEWAY_USER],
            "SPOOL_DIR": str(self.folder / "spool"),
            "MATCH_AFTER_S": str(MATCH_AFTER_S),
            "ORPHAN_LOOK_S": "0.5",
            "RECORD_WAIT_S": "3",
            "GRANT_BLOCK_NANO": str(GRANT_BLOCK_NANO),
            "DRAIN_S": "2",
        }

    async def _answers(self, name: str) -> bool:
        if name == POSTGRES:
            with contextlib.suppress(OSError, asyncpg.PostgresError):
                return bool(await self.rows("SELECT 1"))
            return False
        if name == WORKER:
            return self._heartbeat.exists()
        if name.startswith("engine"):
            return ready_file(self.folder, self.running[name].pid).exists()
        with contextlib.suppress(httpx.TransportError):
            async with httpx.AsyncClient() as http:
                return (await http.get(f"{self.url(name)}/healthz")).status_code == httpx.codes.OK
        return False


@contextlib.asynccontextmanager
async def realm_on(urls: DatabaseUrls, folder: Path, server: PostgresServer | None = None) -> AsyncIterator[Realm]:
    """With its catalogue applied and nothing running but Valkey, and PostgreSQL if `server` is the realm's own."""
    with tempfile.TemporaryDirectory(prefix="cr-") as short, start_valkey(Path(short)) as valkey:
        realm = Realm(folder, valkey, urls, server)
        try:
            if server is not None:
                await realm.start(POSTGRES)
            async with realm._database() as database, database.operator() as session:
                await apply_catalogue(session, read_manifest(msgspec.json.encode(MANIFEST)), CREDENTIALS)
            yield realm
        finally:
            realm.kill_all()


@contextlib.asynccontextmanager
async def own_postgres(folder: Path) -> AsyncIterator[tuple[PostgresServer, DatabaseUrls]]:
    """A server whose data outlives its death, migrated, and not running."""
    root = _passable_folder()
    passwords = embedded.Passwords(*(secrets.token_urlsafe(16) for _ in range(4)))
    server = PostgresServer(root / "socket", passwords)
    (folder / "data").symlink_to(root / "data")
    embedded.prepare_data(root / "data", server.socket_dir, passwords.superuser)
    urls = server.urls(embedded.DATABASE)
    process = _spawn(_postgres_command(folder, server), dict(os.environ), folder / "postgres.log", "/")
    try:
        await embedded.prepare_roles(server.socket_dir, passwords)
        await migrate(urls.owner, urls.app)
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(60)
    try:
        yield server, urls
    finally:
        shutil.rmtree(root, ignore_errors=True)


def _passable_folder() -> Path:
    """PostgreSQL's own user passes through it."""
    root = Path(tempfile.mkdtemp(prefix="chappe-pg-"))
    root.chmod(0o755)
    return root


def _spawn(command: list[str], environ: dict[str, str], log: Path, cwd: str | None) -> "subprocess.Popen[bytes]":
    with log.open("ab") as output:
        return subprocess.Popen(command, env=environ, stdout=output, stderr=output, start_new_session=True, cwd=cwd)


def _postgres_command(folder: Path, server: PostgresServer) -> list[str]:
    # A process that is killed takes nothing along that the kernel has: only a dying machine would need the fsync.
    fast = ["--fsync=off", "--full_page_writes=off"]
    return [*embedded.server_command((folder / "data").resolve(), server.socket_dir), *fast]


def _prefixed(settings: dict[str, str]) -> dict[str, str]:
    return {f"CHAPPE_{name}": value for name, value in settings.items()}


def _chappe() -> str:
    return str(Path(sys.executable).with_name("chappe"))


def _cwd(name: str) -> str | None:
    # PostgreSQL's user may not enter ours.
    return "/" if name == POSTGRES else None
