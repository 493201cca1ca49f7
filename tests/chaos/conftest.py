"""A realm whose every part can be killed, PostgreSQL included."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.chaos.realm import Realm, own_postgres, realm_on


@pytest.fixture
async def realm(tmp_path: Path) -> AsyncIterator[Realm]:
    async with own_postgres(tmp_path) as (server, urls), realm_on(urls, tmp_path, server) as running:
        yield running
