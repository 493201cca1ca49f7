"""A fresh world for each test; one Valkey for all, emptied before each."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import redis.asyncio

from tests.gateway.servers import valkey_server
from tests.gateway.world import RunningGateway, World, new_world


@pytest.fixture(scope="session")
def gateway_redis_url() -> Iterator[str]:
    with valkey_server() as url:
        yield url


@pytest.fixture
async def world(gateway_redis_url: str, tmp_path: Path) -> AsyncIterator[World]:
    client = redis.asyncio.Redis.from_url(gateway_redis_url)
    await client.flushall()
    await client.aclose()
    async with new_world(gateway_redis_url, tmp_path) as running:
        yield running


@pytest.fixture
async def gateway(world: World) -> AsyncIterator[RunningGateway]:
    async with world.gateway() as running:
        yield running
