"""One control plane for the suite; every test makes the organisations that it needs."""

from collections.abc import AsyncIterator

import pytest

from tests.conftest import PostgresServer
from tests.control.running import hashing_with, quick_hasher, running_control
from tests.control.world import CREDENTIALS, MANIFEST
from tests.keys.world import KeysWorld, Program


@pytest.fixture(scope="package")
async def keys(postgres: PostgresServer) -> AsyncIterator[KeysWorld]:
    with hashing_with(quick_hasher()):
        async with running_control(postgres, MANIFEST, CREDENTIALS) as control:
            yield KeysWorld(control)


@pytest.fixture
async def alice(keys: KeysWorld) -> Program:
    return await keys.organisation("Alice")


@pytest.fixture
async def bob(keys: KeysWorld) -> Program:
    return await keys.organisation("Bob")
