"""One database and one server for all of these tests: each signs up for itself."""

from collections.abc import AsyncIterator

import pytest

from tests.bench.million import MANIFEST
from tests.conftest import PostgresServer
from tests.control.running import hashing_with, quick_hasher, running_control
from tests.control.world import CREDENTIALS, Cell
from tests.portal.world import Customer, PortalWorld, unlike


@pytest.fixture(scope="package")
async def portal(postgres: PostgresServer) -> AsyncIterator[PortalWorld]:
    with hashing_with(quick_hasher()):
        async with running_control(postgres, MANIFEST, CREDENTIALS) as control:
            cells = {region: Cell(region, control.http, control.clock) for region in CREDENTIALS}
            yield PortalWorld(control.http, control.settings, control.database, control.engine, control.clock, cells)


@pytest.fixture
async def customer(portal: PortalWorld) -> Customer:
    """A new organisation with one key, `app`."""
    made = await portal.sign_up(unlike())
    await made.make_key("app")
    return made
