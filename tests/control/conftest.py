"""A control plane on a real socket, over a real database and a real Valkey, with two tenants and two regions."""

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from chappe_catalogue.manifest import read_manifest
from chappe_control.app import create_app
from chappe_control.catalogue.service import apply_catalogue
from chappe_control.openapi.completing import complete
from chappe_control.seeding.schemas import Seed, SeedKey, SeedTenant
from chappe_control.seeding.service import plant_seed
from chappe_control.server import make_server
from chappe_control.settings import ControlSettings
from chappe_kernel.api_keys import KeyKind, generate_key
from chappe_store.session import Database
from tests.conftest import DatabaseUrls
from tests.control.world import (
    AUDIT_KEYS_TEXT,
    CREDENTIALS,
    MANIFEST,
    PEPPERS,
    PEPPERS_TEXT,
    WELCOME_NANO,
    Cell,
    HandClock,
    Tenant,
    World,
)
from tests.valkey_server import Valkey, start_valkey


@pytest.fixture(scope="session")
def valkey() -> Iterator[Valkey]:
    """One server for the session; tests use keys of their own."""
    directory = Path(tempfile.mkdtemp(prefix="chappe-valkey-"))
    with start_valkey(directory) as server:
        yield server
    shutil.rmtree(directory)


@pytest.fixture
def settings(database_urls: DatabaseUrls, valkey: Valkey) -> ControlSettings:
    return ControlSettings(
        database_url=database_urls.app,
        redis_url=valkey.url,
        key_peppers=PEPPERS_TEXT,
        audit_keys=AUDIT_KEYS_TEXT,
        port=0,
        failed_sign_ins_per_minute=10_000,
        management_calls_per_minute=10_000,
    )


@pytest.fixture
def clock() -> HandClock:
    """The control plane's clock, which a test can move forward."""
    return HandClock()


@pytest.fixture
async def world(database: Database, settings: ControlSettings, clock: HandClock) -> AsyncIterator[World]:
    async with database.operator() as session:
        await apply_catalogue(session, read_manifest(msgspec.json.encode(MANIFEST)), CREDENTIALS)
    alice, bob = await seed(database, "Alice"), await seed(database, "Bob")
    async with serve(settings, clock) as url, httpx.AsyncClient(base_url=url, timeout=20) as http:
        yield World(http, alice, bob, Cell("fr-par", http, clock), Cell("de-fra", http, clock), clock)


async def seed(database: Database, name: str) -> Tenant:
    keys = {
        "inference": generate_key(KeyKind.INFERENCE),
        "management": generate_key(KeyKind.MANAGEMENT),
        "fr-only": generate_key(KeyKind.INFERENCE),
    }
    seeded = Seed(
        tenant=SeedTenant(name=name, allowed_regions=("fr-par", "DE"), requests_per_minute=600),
        project="default",
        keys=(
            SeedKey("inference", KeyKind.INFERENCE, keys["inference"]),
            SeedKey("management", KeyKind.MANAGEMENT, keys["management"]),
            SeedKey("fr-only", KeyKind.INFERENCE, keys["fr-only"], regions=("FR",)),
        ),
    )
    async with database.operator() as session:
        tenant_id = await plant_seed(session, seeded, peppers=PEPPERS, welcome_credit_nano=WELCOME_NANO)
    return Tenant(tenant_id, keys)


@asynccontextmanager
async def serve(settings: ControlSettings, clock: HandClock) -> AsyncIterator[str]:
    """The control plane with these settings, on a free port of the loopback."""
    server = make_server(settings, clock)
    serving = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110 -- uvicorn has no event to wait for
        await asyncio.sleep(0.005)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        await serving


@pytest.fixture
async def openapi(settings: ControlSettings) -> dict[str, Any]:
    """The document, without a server."""
    return complete(create_app(settings).openapi_schema.to_schema())


@pytest.fixture
async def owner_sql(database_urls: DatabaseUrls) -> AsyncIterator[Callable[..., Awaitable[list[Any]]]]:
    """Run SQL as a superuser: to look at every table, or to change what no role may."""
    engine = create_async_engine(database_urls.superuser, isolation_level="AUTOCOMMIT", poolclass=NullPool)

    async def run(statement: str, *values: Any) -> list[Any]:
        async with engine.connect() as connection:
            result = await connection.exec_driver_sql(statement, values or None)
            return list(result.all()) if result.returns_rows else []

    yield run
    await engine.dispose()
