"""A control plane over a server that can be killed and restored, and gateways as processes in front of an engine."""

import asyncio
import contextlib
import os
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import msgspec

from chappe_billing.audit.queries import Difference
from chappe_billing.audit.service import verify_ledger
from chappe_catalogue.manifest import read_manifest
from chappe_control.catalogue.service import apply_catalogue
from chappe_control.seeding.schemas import Seed, SeedKey, SeedTenant
from chappe_control.seeding.service import plant_seed
from chappe_control.settings import ControlSettings
from chappe_kernel.api_keys import KeyKind, generate_key
from chappe_kernel.wire.control import UsageEvent
from chappe_kernel.wire.engine import GenerateRequest
from chappe_store.session import Database
from tests.conftest import TESTS
from tests.control.conftest import serve
from tests.control.world import AUDIT_KEYS_TEXT, CREDENTIALS, MANIFEST, PEPPERS, PEPPERS_TEXT, HandClock, Tenant
from tests.gateway.scripted_engine import Script, ScriptedEngine
from tests.gateway.servers import free_port, valkey_server
from tests.gateway.spool_files import spooled
from tests.gateway.world import auth, chat_body
from tests.restore.conftest import Place, until

REGION = "fr-par"
# Nobody waits for a turn: long streams run beside a load.
ROOMY = {
    **MANIFEST,
    "deployments": [{**deployment, "max_ongoing_requests": 64} for deployment in MANIFEST["deployments"]],
}
_SHORT = Script(tokens=8, delay_s=0.002)
_LOAD_TOKENS = 20


@dataclass
class Estate:
    """Everything that spends, and what it spends from. The tests start and stop the control plane."""

    place: Place
    settings: ControlSettings
    http: httpx.AsyncClient
    engine: ScriptedEngine
    redis_url: str
    grant_block_nano: int
    gateways: dict[str, str] = field(default_factory=dict)
    processes: "dict[str, subprocess.Popen[bytes]]" = field(default_factory=dict)
    load: "list[asyncio.Task[None]]" = field(default_factory=list)
    statuses: Counter[str] = field(default_factory=Counter)
    control: contextlib.AsyncExitStack = field(default_factory=contextlib.AsyncExitStack)

    async def start_control(self) -> None:
        await self.control.enter_async_context(serve(self.settings, HandClock()))

    async def stop_control(self) -> None:
        await self.control.aclose()

    async def tenant(self, name: str, funds_nano: int) -> Tenant:
        key = generate_key(KeyKind.INFERENCE)
        seeded = Seed(
            tenant=SeedTenant(name=name, allowed_regions=(REGION,), requests_per_minute=60_000),
            project="default",
            keys=(SeedKey("inference", KeyKind.INFERENCE, key),),
        )
        async with opened(self.place) as database, database.operator() as session:
            tenant_id = await plant_seed(session, seeded, peppers=PEPPERS, welcome_credit_nano=funds_nano)
        return Tenant(tenant_id, {"inference": key})

    async def start_gateway(self, name: str) -> None:
        port = free_port()
        settings = {
            "REGION": REGION,
            "GATEWAY_ID": name,
            "PORT": str(port),
            "CONTROL_URL": f"http://127.0.0.1:{self.settings.port}",
            "REGION_CREDENTIAL": CREDENTIALS[REGION],
            "SERVING_URL": f"http://127.0.0.1:{self.engine.port}",
            "REDIS_URL": self.redis_url,
            "SPOOL_DIR": str(self.place.root / "spool"),
            "ORPHAN_LOOK_S": "0.5",
            "SNAPSHOT_POLL_S": "0.1",
            "GRANT_BLOCK_NANO": str(self.grant_block_nano),
            "DRAIN_S": "1",
        }
        environ = {**os.environ, **{f"CHAPPE_{key}": value for key, value in settings.items()}}
        command = [str(Path(sys.executable).with_name("chappe")), "gateway"]
        self._spawn(name, command, environ)
        self.gateways[name] = f"http://127.0.0.1:{port}"

        async def serves() -> bool:
            with contextlib.suppress(httpx.TransportError):
                return (await self.http.get(f"{self.gateways[name]}/healthz")).status_code == 200
            return False

        await until(serves, within_s=60)

    def _spawn(self, name: str, command: list[str], environ: dict[str, str]) -> None:
        with (self.place.root / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(command, env=environ, stdout=log, stderr=log)

    async def stop_gateways(self) -> None:
        """They send what they have, and go."""
        for process in self.processes.values():
            process.terminate()
        for process in self.processes.values():
            await asyncio.to_thread(process.wait, 30)
        self.processes.clear()

    async def ask(self, gateway: str, tenant: Tenant, **fields: Any) -> str:
        """One request to its end: its status, or the code of its refusal."""
        body = chat_body(**fields)
        headers = auth(tenant.keys["inference"])
        try:
            answer = await self.http.post(f"{self.gateways[gateway]}/v1/chat/completions", headers=headers, json=body)
        except httpx.TransportError:
            return "lost"
        if answer.status_code == 200:
            return "200"
        return f"{answer.status_code} {answer.json()['error']['code']}"

    def start_load(self, *load: tuple[str, str, Tenant]) -> None:
        """For each gateway, name and tenant one client that keeps asking."""
        self.load += [asyncio.create_task(self._keep_asking(gateway, tenant, name)) for gateway, name, tenant in load]

    async def until_counted(self, what: str, at_least: int) -> None:
        """So many requests ended like this."""

        async def counted() -> bool:
            return self.statuses[what] >= at_least

        try:
            await until(counted, within_s=120)
        except TimeoutError:
            raise AssertionError(f"fewer than {at_least} of {what}: {dict(self.statuses)}") from None

    async def stop_load(self) -> None:
        for task in self.load:
            task.cancel()
        await asyncio.gather(*self.load, return_exceptions=True)
        self.load.clear()

    async def _keep_asking(self, gateway: str, tenant: Tenant, name: str) -> None:
        """For ever, one request after the other."""
        while True:
            said = await self.ask(gateway, tenant, stream=True, max_tokens=_LOAD_TOKENS)
            self.statuses[f"{name} {said}"] += 1
            if said != "200":
                await asyncio.sleep(0.05)

    async def long_streams(self, tenant: Tenant, count: int) -> tuple[Script, list["asyncio.Task[str]"]]:
        """Streams that go on until their script's delay is taken away; each holds money of a grant meanwhile."""
        long = Script(tokens=600, delay_s=0.2)
        self.engine.script = long
        names = sorted(self.gateways)
        before = len(self.engine.generations())
        asked = [self.ask(names[number % len(names)], tenant, stream=True, max_tokens=600) for number in range(count)]
        tasks = [asyncio.create_task(one) for one in asked]

        async def all_run() -> bool:
            """Those that ask for as much: the load's own requests run at the same pace meanwhile."""
            sent = [one for one in self.engine.generations()[before:] if one.sent_tokens > 1]
            asked = [msgspec.json.decode(one.body, type=GenerateRequest) for one in sent]
            return sum(request.max_completion_tokens > _LOAD_TOKENS for request in asked) == count

        await until(all_run)
        self.engine.script = _SHORT
        return long, tasks

    def recorded(self) -> list[UsageEvent]:
        """All that the gateways have in their spools."""
        events = []
        for path in sorted((self.place.root / "spool").glob("*.sqlite")):
            events += [msgspec.json.decode(row.body, type=UsageEvent) for row in spooled(path)]
        return events

    async def sql(self, statement: str, *values: Any) -> list[Any]:
        async with self.place.superuser() as connection:
            return [tuple(row) for row in await connection.fetch(statement, *values)]

    async def is_lending(self) -> bool:
        ((lends,),) = await self.sql("SELECT lends_from IS NULL OR lends_from <= now() FROM instance")
        return bool(lends)

    async def all_is_posted(self) -> bool:
        ((posted,),) = await self.sql("SELECT count(*) FROM usage_event")
        return bool(posted == len(self.recorded()))

    async def difference(self) -> Difference | None:
        async with opened(self.place) as database, database.audit() as session:
            return await verify_ledger(session)


@asynccontextmanager
async def opened(place: Place) -> AsyncIterator[Database]:
    database = Database(place.app_url, pool_size=1, origin=TESTS)
    try:
        yield database
    finally:
        await database.close()


@asynccontextmanager
async def running_estate(place: Place, *gateways: str, grant_block_nano: int = 30_000) -> AsyncIterator[Estate]:
    async with contextlib.AsyncExitStack() as stack:
        redis_url = stack.enter_context(valkey_server())
        engine = await stack.enter_async_context(ScriptedEngine(free_port(), redis_url, script=_SHORT).running())
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=50)
        http = await stack.enter_async_context(httpx.AsyncClient(timeout=120, limits=limits))
        settings = ControlSettings(
            database_url=place.app_url,
            redis_url=redis_url,
            key_peppers=PEPPERS_TEXT,
            audit_keys=AUDIT_KEYS_TEXT,
            port=free_port(),
        )
        async with opened(place) as database, database.operator() as session:
            await apply_catalogue(session, read_manifest(msgspec.json.encode(ROOMY)), CREDENTIALS)
        estate = Estate(place, settings, http, engine, redis_url, grant_block_nano)
        (place.root / "spool").mkdir()
        await estate.start_control()
        try:
            for name in gateways:
                await estate.start_gateway(name)
            yield estate
        finally:
            await estate.stop_load()
            for process in estate.processes.values():
                process.kill()
                process.wait(10)
            await estate.stop_control()
