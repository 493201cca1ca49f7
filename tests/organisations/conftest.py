"""One database and one server for all of these tests: each makes organisations of its own."""

from collections.abc import AsyncIterator

import pytest

from chappe_tenants.operators.service import OperatorRole, put_operator
from tests.conftest import PostgresServer
from tests.control.running import hashing_with, quick_hasher, running_control
from tests.control.world import CREDENTIALS, MANIFEST
from tests.organisations.world import Organisations, address_of
from tests.pages.browser import PASSWORD


@pytest.fixture(scope="package")
async def world(postgres: PostgresServer) -> AsyncIterator[Organisations]:
    with hashing_with(quick_hasher()):
        async with running_control(postgres, MANIFEST, CREDENTIALS) as control:
            async with control.database.operator() as session:
                for role in OperatorRole:
                    await put_operator(session, email=address_of(role), password=PASSWORD, role=role)
            yield Organisations(control)
