"""One database and one server for all of these tests: each signs up for itself."""

import secrets
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import msgspec
import pytest
from argon2 import PasswordHasher
from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from chappe_catalogue.manifest import read_manifest
from chappe_control.catalogue.service import apply_catalogue
from chappe_control.settings import ControlSettings
from chappe_store.session import Database
from chappe_tenants import passwords
from chappe_tenants.operators.service import OperatorRole, put_operator
from tests.conftest import TEMPLATE, PostgresServer
from tests.control.conftest import serve
from tests.control.world import CREDENTIALS, MANIFEST, PEPPERS_TEXT, HandClock
from tests.pages.browser import PASSWORD, PORTAL_URL
from tests.sign_in.site import OPERATOR, Site
from tests.valkey_server import start_valkey

_MANY = 100_000


@pytest.fixture(scope="session")
def quick_hashes() -> Iterator[None]:
    """These tests hash some two hundred passwords. What a hash costs is the business of one of them: `real_hashes`."""
    real, passwords._hasher = passwords._hasher, PasswordHasher(time_cost=1, memory_cost=64, parallelism=1)
    passwords._nobodys_hash.cache_clear()
    yield
    passwords._hasher = real
    passwords._nobodys_hash.cache_clear()


@pytest.fixture
def real_hashes(quick_hashes: None) -> Iterator[None]:
    quick, passwords._hasher = passwords._hasher, PasswordHasher()
    passwords._nobodys_hash.cache_clear()
    yield
    passwords._hasher = quick
    passwords._nobodys_hash.cache_clear()


@pytest.fixture(scope="session")
async def site(postgres: PostgresServer, quick_hashes: None) -> AsyncIterator[Site]:
    name = f"sign_in_{secrets.token_hex(6)}"
    urls = await postgres.create_database(name, TEMPLATE)
    directory = Path(tempfile.mkdtemp(prefix="chappe-valkey-"))
    clock = HandClock()
    database = Database(urls.app)
    engine = create_async_engine(urls.superuser, isolation_level="AUTOCOMMIT", poolclass=NullPool)
    async with database.operator() as session:
        await apply_catalogue(session, read_manifest(msgspec.json.encode(MANIFEST)), CREDENTIALS)
        await put_operator(session, email=OPERATOR, password=PASSWORD, role=OperatorRole.SUPPORT)
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
        async with (
            Redis.from_url(valkey.url) as redis,
            serve(settings, clock) as url,
            httpx.AsyncClient(base_url=url, timeout=20) as http,
        ):
            yield Site(http, settings, database, engine, redis, clock)
    await engine.dispose()
    await database.close()
    await postgres.drop_database(name)
    shutil.rmtree(directory)
