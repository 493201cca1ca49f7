"""A control plane of a suite's own: a database that was just migrated, a Valkey, and a server on a free port."""

import secrets
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import msgspec
from argon2 import PasswordHasher
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from chappe_catalogue.manifest import read_manifest
from chappe_control.catalogue.service import apply_catalogue
from chappe_control.settings import ControlSettings
from chappe_store.session import Database
from chappe_tenants import passwords
from tests import letters
from tests.conftest import TEMPLATE, TESTS, DatabaseUrls, PostgresServer
from tests.control.conftest import serve
from tests.control.world import AUDIT_KEYS_TEXT, PEPPERS_TEXT, HandClock
from tests.pages.browser import PORTAL_URL
from tests.valkey_server import start_valkey

_MANY = 100_000


@dataclass(frozen=True)
class RunningControl:
    """`engine` is the superuser's, for what no role may do."""

    http: httpx.AsyncClient
    settings: ControlSettings
    database: Database
    engine: AsyncEngine
    urls: DatabaseUrls
    clock: HandClock


@asynccontextmanager
async def running_control(
    postgres: PostgresServer, manifest: Mapping[str, Any], credentials: Mapping[str, str], *, works: bool = True
) -> AsyncIterator[RunningControl]:
    """With this catalogue, no tenant, and throttles that no suite reaches by itself. Without `works` it changes nothing
    that it is not asked to."""
    name = f"control_{secrets.token_hex(6)}"
    urls = await postgres.create_database(name, TEMPLATE)
    directory = Path(tempfile.mkdtemp(prefix="chappe-valkey-"))
    clock = HandClock()
    database = Database(urls.app, origin=TESTS)
    engine = create_async_engine(urls.superuser, isolation_level="AUTOCOMMIT", poolclass=NullPool)
    async with database.operator() as session:
        await apply_catalogue(session, read_manifest(msgspec.json.encode(manifest)), dict(credentials))
    with start_valkey(directory) as valkey:
        async with letters.receiving() as smtp_url:
            settings = ControlSettings(
                database_url=urls.app,
                redis_url=valkey.url,
                key_peppers=PEPPERS_TEXT,
                audit_keys=AUDIT_KEYS_TEXT,
                port=0,
                portal_url=PORTAL_URL,
                smtp_url=smtp_url,
                mail_from=letters.MAIL_FROM,
                links_per_minute=_MANY,
                sign_in_failures_per_minute=_MANY,
                account_failures_per_minute=_MANY,
                management_calls_per_minute=_MANY,
                failed_sign_ins_per_minute=_MANY,
                works=works,
            )
            async with serve(settings, clock) as url, httpx.AsyncClient(base_url=url, timeout=20) as http:
                yield RunningControl(http, settings, database, engine, urls, clock)
    await engine.dispose()
    await database.close()
    await postgres.drop_database(name)
    shutil.rmtree(directory)


@contextmanager
def hashing_with(hasher: PasswordHasher) -> Iterator[None]:
    """Passwords of this process are hashed so, for as long as the block runs."""
    before, passwords._hasher = passwords._hasher, hasher
    passwords._nobodys_hash.cache_clear()
    yield
    passwords._hasher = before
    passwords._nobodys_hash.cache_clear()


def quick_hasher() -> PasswordHasher:
    """What a hash costs is the business of few tests."""
    return PasswordHasher(time_cost=1, memory_cost=64, parallelism=1)
