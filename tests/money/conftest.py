"""A market, and a way to its database that can be cut."""

import dataclasses
import shutil
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from chappe_local import postgres as embedded
from chappe_store.session import Database
from tests.billing.conftest import Market, customer, make_customer, market
from tests.conftest import TESTS, DatabaseUrls, PostgresServer
from tests.money.cut import Cut

__all__ = ["customer", "make_customer", "market"]


@pytest.fixture
async def superuser(postgres: PostgresServer, database_urls: DatabaseUrls) -> AsyncIterator["asyncpg.Connection[Any]"]:
    connection = await postgres.superuser(database_urls.name)
    yield connection
    await connection.close()


@pytest.fixture
async def cut(postgres: PostgresServer) -> AsyncIterator[Cut]:
    directory = Path(tempfile.mkdtemp(prefix="chappe-cut-"))
    async with Cut(postgres.socket_dir, directory).open() as opened:
        yield opened
    shutil.rmtree(directory)


@pytest.fixture
async def cut_market(
    cut: Cut, market: Market, postgres: PostgresServer, database_urls: DatabaseUrls
) -> AsyncIterator[Market]:
    """The same market, seen over the way that can be cut."""
    password = postgres.passwords.control
    database = Database(
        embedded.database_url(cut.dir, embedded.LOGIN, password, database_urls.name), pool_size=1, origin=TESTS
    )
    yield dataclasses.replace(market, database=database)
    await database.close()
