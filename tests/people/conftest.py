"""One database and one server for all of these tests: each signs up for itself."""

from collections.abc import AsyncIterator

import pytest

from tests.conftest import PostgresServer
from tests.control.running import hashing_with, quick_hasher, running_control
from tests.control.world import CREDENTIALS, MANIFEST
from tests.people.world import PeopleWorld


@pytest.fixture(scope="package")
async def world(postgres: PostgresServer) -> AsyncIterator[PeopleWorld]:
    with hashing_with(quick_hasher()):
        async with running_control(postgres, MANIFEST, CREDENTIALS) as control:
            yield PeopleWorld(control.http, control.settings, control.database, control.engine)
