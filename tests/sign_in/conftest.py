"""One database and one server for all of these tests: each signs up for itself."""

from collections.abc import AsyncIterator, Iterator

import pytest
from argon2 import PasswordHasher
from redis.asyncio import Redis

from chappe_tenants.operators.service import OperatorRole, put_operator
from tests.conftest import PostgresServer
from tests.control.running import hashing_with, quick_hasher, running_control
from tests.control.world import CREDENTIALS, MANIFEST
from tests.pages.browser import PASSWORD
from tests.sign_in.site import OPERATOR, Site


@pytest.fixture
def real_hashes(site: Site) -> Iterator[None]:
    """For what is about the cost of a hash."""
    with hashing_with(PasswordHasher()):
        yield


@pytest.fixture(scope="package")
async def site(postgres: PostgresServer) -> AsyncIterator[Site]:
    with hashing_with(quick_hasher()):
        async with running_control(postgres, MANIFEST, CREDENTIALS) as control:
            async with control.database.operator() as session:
                await put_operator(session, email=OPERATOR, password=PASSWORD, role=OperatorRole.SUPPORT)
            async with Redis.from_url(control.settings.redis_url) as redis:
                yield Site(control.http, control.settings, control.database, control.engine, redis, control.clock)
