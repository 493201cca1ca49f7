"""One database and one server for each module: the console shows everything, so modules must not meet."""

import secrets
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import msgspec
import pytest
from argon2 import PasswordHasher
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from chappe_catalogue.manifest import read_manifest
from chappe_control.catalogue.service import apply_catalogue
from chappe_control.settings import ControlSettings
from chappe_store.session import Database
from chappe_tenants import passwords
from chappe_tenants.operators.service import OperatorRole, put_operator
from tests.conftest import TEMPLATE, PostgresServer
from tests.console.world import CREDENTIALS, MANIFEST, ConsoleWorld, address_of
from tests.control.conftest import serve
from tests.control.world import PEPPERS_TEXT, HandClock
from tests.pages.browser import PASSWORD, PORTAL_URL
from tests.valkey_server import start_valkey

_MANY = 100_000


@pytest.fixture(scope="module")
def _quick_hashes() -> Iterator[None]:
    """What a hash costs is another suite's business."""
    real, passwords._hasher = passwords._hasher, PasswordHasher(time_cost=1, memory_cost=64, parallelism=1)
    passwords._nobodys_hash.cache_clear()
    yield
    passwords._hasher = real
    passwords._nobodys_hash.cache_clear()


@pytest.fixture(scope="module")
async def console(postgres: PostgresServer, _quick_hashes: None) -> AsyncIterator[ConsoleWorld]:
    name = f"console_{secrets.token_hex(6)}"
    urls = await postgres.create_database(name, TEMPLATE)
    directory = Path(tempfile.mkdtemp(prefix="chappe-valkey-"))
    clock = HandClock()
    database = Database(urls.app)
    engine = create_async_engine(urls.superuser, isolation_level="AUTOCOMMIT", poolclass=NullPool)
    async with database.operator() as session:
        await apply_catalogue(session, read_manifest(msgspec.json.encode(MANIFEST)), CREDENTIALS)
        for role in OperatorRole:
            await put_operator(session, email=address_of(role), password=PASSWORD, role=role)
    with start_valkey(directory) as valkey:
        settings = ControlSettings(
            database_url=urls.app,
            redis_url=valkey.url,
            key_peppers=PEPPERS_TEXT,
            port=0,
            portal_url=PORTAL_URL,
            sign_ups_per_minute=_MANY,
            sign_in_failures_per_minute=_MANY,
            account_failures_per_minute=_MANY,
        )
        async with serve(settings, clock) as url, httpx.AsyncClient(base_url=url, timeout=20) as http:
            yield ConsoleWorld(http, urls, database, engine, clock)
    await engine.dispose()
    await database.close()
    await postgres.drop_database(name)
    shutil.rmtree(directory)
