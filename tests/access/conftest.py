"""One control plane for the whole suite, with everybody signed in once."""

from collections.abc import AsyncIterator

import pytest

from tests.access.world import AccessWorld, make_world
from tests.conftest import PostgresServer
from tests.control.running import hashing_with, quick_hasher, running_control
from tests.control.world import CREDENTIALS, MANIFEST


@pytest.fixture(scope="package")
async def access(postgres: PostgresServer) -> AsyncIterator[AccessWorld]:
    with hashing_with(quick_hasher()):
        async with running_control(postgres, MANIFEST, CREDENTIALS, works=False) as control:
            yield await make_world(control)
