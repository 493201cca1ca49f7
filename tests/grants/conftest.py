"""Fleets of real gateways: one with the production's own times, one whose grants end soon."""

from collections.abc import AsyncIterator

import pytest

from tests.conftest import PostgresServer
from tests.grants.world import Fleet, running_fleet

SHORT = {"grant_admit_s": 2.0, "grant_settle_s": 3.0, "grant_release_s": 4.0}


@pytest.fixture(scope="package")
async def fleet(postgres: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Fleet]:
    async with running_fleet(postgres, tmp_path_factory.mktemp("grants")) as running:
        yield running


@pytest.fixture(scope="package")
async def short_fleet(postgres: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Fleet]:
    async with running_fleet(postgres, tmp_path_factory.mktemp("short-grants"), **SHORT) as running:
        yield running
