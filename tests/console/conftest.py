"""One database and one server for each module: the console shows everything, so modules must not meet."""

from collections.abc import AsyncIterator

import pytest

from chappe_tenants.operators.service import OperatorRole, put_operator
from tests.conftest import PostgresServer
from tests.console.world import CREDENTIALS, MANIFEST, ConsoleWorld, address_of
from tests.control.running import hashing_with, quick_hasher, running_control
from tests.pages.browser import PASSWORD


@pytest.fixture(scope="module")
async def console(postgres: PostgresServer) -> AsyncIterator[ConsoleWorld]:
    with hashing_with(quick_hasher()):
        async with running_control(postgres, MANIFEST, CREDENTIALS) as control:
            async with control.database.operator() as session:
                for role in OperatorRole:
                    await put_operator(session, email=address_of(role), password=PASSWORD, role=role)
            yield ConsoleWorld(control.http, control.urls, control.database, control.engine, control.clock)
