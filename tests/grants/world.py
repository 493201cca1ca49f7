"""Four gateway processes, two in each of two regions, a real control plane, and a tenant's money between them."""

import asyncio
import contextlib
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import msgspec
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from chappe_billing.audit.service import verify_ledger
from chappe_billing.credit.service import set_credit_limit
from chappe_catalogue.manifest import read_manifest
from chappe_control.catalogue.service import apply_catalogue
from chappe_control.seeding.service import create_tenant
from chappe_kernel.api_keys import KeyKind
from chappe_kernel.ids import TenantId
from chappe_kernel.rating import upper_bound
from chappe_local import valkey as embedded
from chappe_store.session import Database
from tests.conftest import TEMPLATE, TESTS, PostgresServer
from tests.control.world import AUDIT_KEYS_TEXT, CREDENTIALS, MANIFEST, PEPPERS, PEPPERS_TEXT, PRICE
from tests.gateway.scripted_engine import ScriptedEngine
from tests.gateway.servers import free_port
from tests.gateway.world import RawClient
from tests.grants.line import Line
from tests.valkey_server import Valkey, start_valkey

PROMPT_TOKENS = 6
"""Of `chat_body()`, as the scripted engine counts them."""
_STARTS_WITHIN_S = 60


def exact_hold_nano(max_tokens: int) -> int:
    """The least that a request of `chat_body()` can be admitted with: its prompt counted by the engine."""
    return upper_bound(PRICE, PROMPT_TOKENS, max_tokens)


@dataclass(frozen=True)
class Buyer:
    tenant_id: TenantId
    key: str
    funds_nano: int


@dataclass(frozen=True)
class Answer:
    """Times are of the tests' monotonic clock, and `wall_time` is of the answer."""

    gateway: str
    status: int
    code: str
    asked_at: float
    answered_at: float
    wall_time: float
    error: dict[str, Any] = field(default_factory=dict)


@dataclass
class Fleet:
    """Gateways by name. Each has a line of its own to the control plane; those of a region share a spool folder."""

    database: Database
    superuser: AsyncEngine
    valkey: Valkey
    engine: ScriptedEngine
    folder: Path
    http: httpx.AsyncClient
    ports: dict[str, int] = field(default_factory=dict)
    lines: dict[str, Line] = field(default_factory=dict)
    processes: "dict[str, subprocess.Popen[bytes]]" = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        return sorted(self.lines)

    async def buyer(self, funds_nano: int, *, credit_limit_nano: int = 0) -> Buyer:
        """A new organisation with so much money, and a key. With a credit limit it has a contract too: it is
        postpaid."""
        async with self.database.operator() as session:
            tenant_id, secrets = await create_tenant(
                session,
                name=f"Exemple {time.monotonic_ns()}",
                allowed_regions=(),
                requests_per_minute=1_000_000,
                currency="EUR",
                peppers=PEPPERS,
                welcome_credit_nano=funds_nano,
            )
            if credit_limit_nano:
                await set_credit_limit(session, tenant_id, credit_limit_nano, "EUR")
        if credit_limit_nano:
            await self.sql("UPDATE tenant SET contract_reference = 'C-1' WHERE id = $1", tenant_id)
        return Buyer(tenant_id, secrets[KeyKind.INFERENCE], funds_nano)

    async def ask(self, gateway: str, key: str, **fields: Any) -> Answer:
        """One request."""
        asked_at = time.monotonic()
        async with RawClient.to(self.ports[gateway]) as client:
            client.send_chat(key, **fields)
            status, headers = await client.read_head()
            body = await client.reader.readexactly(int(headers["content-length"]))
        error = {} if status == 200 else msgspec.json.decode(body)["error"]
        return Answer(gateway, status, error.get("code", ""), asked_at, time.monotonic(), time.time(), error)

    async def ask_until(self, gateway: str, key: str, *statuses: int, within_s: float = 15.0, **fields: Any) -> Answer:
        """Again and again, until the answer is one of these."""
        async with asyncio.timeout(within_s):
            while (answer := await self.ask(gateway, key, **fields)).status not in statuses:  # noqa: ASYNC110 -- only asking again can tell
                await asyncio.sleep(0.02)
        return answer

    async def sql(self, statement: str, *values: Any) -> list[Any]:
        """As the superuser."""
        async with self.superuser.connect() as connection:
            result = await connection.exec_driver_sql(statement, values or None)
            return [tuple(row) for row in result.all()] if result.returns_rows else []

    async def budget(self, buyer: Buyer) -> tuple[int, int, int]:
        """Funds, posted and pending."""
        query = "SELECT funds_nano, posted_nano, pending_nano FROM budget WHERE tenant_id = $1"
        (row,) = await self.sql(query, buyer.tenant_id)
        return row  # type: ignore[no-any-return]  # three bigints

    async def until_posted(self, buyer: Buyer, count: int, within_s: float = 20.0) -> list[Any]:
        """Once so many events of the buyer's are in the database: id, amount, grant's part, write-off, hold, end."""
        query = (
            "SELECT request_id, amount_nano, granted_nano, written_off_nano, hold_nano, "
            "extract(epoch FROM finished_at)::double precision FROM usage_event WHERE tenant_id = $1"
        )
        async with asyncio.timeout(within_s):
            while len(found := await self.sql(query, buyer.tenant_id)) < count:  # noqa: ASYNC110 -- posted elsewhere
                await asyncio.sleep(0.05)
        assert len(found) == count
        return found

    async def grants(self, buyer: Buyer) -> list[tuple[UUID, str, int, int, int]]:
        """Id, gateway, amount, returned and posted of each, oldest first."""
        return await self.sql(
            "SELECT id, gateway, amount_nano, returned_nano, posted_nano FROM budget_grant WHERE tenant_id = $1 "
            "ORDER BY created_at",
            buyer.tenant_id,
        )

    async def verify(self) -> None:
        """The ledger and everything that is derived from it are intact."""
        async with self.database.audit() as session:
            assert await verify_ledger(session) is None

    @contextlib.contextmanager
    def hanging(self, name: str) -> Iterator[None]:
        """The process is there and does nothing, as on a machine that hangs."""
        self.processes[name].send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.processes[name].send_signal(signal.SIGCONT)

    def kill(self, name: str) -> None:
        process = self.processes[name]
        process.kill()
        process.wait(5)

    async def start_control(self, port: int, database_url: str, terms: Mapping[str, float]) -> None:
        values = {
            "DATABASE_URL": database_url,
            "REDIS_URL": self.valkey.url,
            "KEY_PEPPERS": PEPPERS_TEXT,
            "AUDIT_KEYS": AUDIT_KEYS_TEXT,
            "PORT": str(port),
            **{name.upper(): str(value) for name, value in terms.items()},
        }
        await self._start("control", port, values)

    async def start(self, name: str) -> None:
        """Also one that was killed: it finds its spool and its port again."""
        region = name.rpartition("-gateway-")[0]
        values = {
            "REGION": region,
            "GATEWAY_ID": name,
            "PORT": str(self.ports[name]),
            "CONTROL_URL": f"http://127.0.0.1:{self.lines[name].port}",
            "REGION_CREDENTIAL": CREDENTIALS[region],
            "SERVING_URL": f"http://127.0.0.1:{self.engine.port}",
            "REDIS_URL": self.valkey.urls[embedded.GATEWAY_USER],
            "SPOOL_DIR": str(self.folder / region),
            "DRAIN_S": "1",
            "MATCH_AFTER_S": "2.5",
            "ORPHAN_LOOK_S": "0.3",
        }
        await self._start(name, self.ports[name], values)

    async def _start(self, name: str, port: int, settings: Mapping[str, str]) -> None:
        environ = {**os.environ, **{f"CHAPPE_{key}": value for key, value in settings.items()}}
        command = [str(Path(sys.executable).with_name("chappe")), "control" if name == "control" else "gateway"]
        self._spawn(name, command, environ)
        async with asyncio.timeout(_STARTS_WITHIN_S):
            while True:
                with contextlib.suppress(httpx.TransportError):
                    if (await self.http.get(f"http://127.0.0.1:{port}/healthz")).status_code == 200:
                        return
                assert self.processes[name].poll() is None, self.log(name)
                await asyncio.sleep(0.05)

    def _spawn(self, name: str, command: list[str], environ: Mapping[str, str]) -> None:
        with (self.folder / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(command, env=environ, stderr=log, stdout=log)

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text()[-3000:]

    async def stop(self) -> None:
        """The control plane last: the others take their leave of it."""
        gateways = [process for name, process in self.processes.items() if name != "control"]
        for group in (gateways, [process for name, process in self.processes.items() if name == "control"]):
            for process in group:
                process.terminate()
            for process in group:
                try:
                    await asyncio.to_thread(process.wait, 10)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait(5)


@contextlib.asynccontextmanager
async def running_fleet(postgres: PostgresServer, folder: Path, **terms: float) -> AsyncIterator[Fleet]:
    """`terms` are settings of the control plane."""
    async with contextlib.AsyncExitStack() as stack:
        name = f"grants_{secrets.token_hex(6)}"
        urls = await postgres.create_database(name, TEMPLATE)
        stack.push_async_callback(postgres.drop_database, name)
        database = Database(urls.app, origin=TESTS)
        stack.push_async_callback(database.close)
        superuser = create_async_engine(urls.superuser, isolation_level="AUTOCOMMIT", poolclass=NullPool)
        stack.push_async_callback(superuser.dispose)
        async with database.operator() as session:
            await apply_catalogue(session, read_manifest(msgspec.json.encode(MANIFEST)), dict(CREDENTIALS))
        short = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="chappe-vk-")))
        valkey = stack.enter_context(start_valkey(short))
        engine_redis = valkey.urls[embedded.ENGINE_USER]
        engine = await stack.enter_async_context(ScriptedEngine(free_port(), engine_redis).running())
        http = await stack.enter_async_context(httpx.AsyncClient(timeout=20))
        fleet = Fleet(database, superuser, valkey, engine, folder, http)
        stack.push_async_callback(fleet.stop)
        control_port = free_port()
        await fleet.start_control(control_port, urls.app, terms)
        for region in CREDENTIALS:
            for number in range(2):
                gateway = f"{region}-gateway-{number}"
                fleet.lines[gateway] = await stack.enter_async_context(Line(control_port).open())
                fleet.ports[gateway] = free_port()
        await asyncio.gather(*(fleet.start(gateway) for gateway in fleet.names))
        yield fleet
