"""Every page of portal and console answers within 50 ms with a million requests of one tenant in the log."""

import shutil
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.bench.portal_bench import (
    Million,
    Served,
    Target,
    control_process,
    fill_database,
    find_all_targets,
    measure,
    sign_in,
)
from tests.conftest import PostgresServer
from tests.gateway.servers import free_port
from tests.valkey_server import start_valkey

MOST_MS = 50.0
REQUESTS = 25
# What is too slow is so each time; what something else on the machine held up is so once.
ROUNDS = 5
_DATABASE = "a_million_requests"


@pytest.fixture(scope="module")
async def data(postgres: PostgresServer) -> AsyncIterator[Million]:
    urls = await postgres.create_database(_DATABASE)
    connection = await postgres.superuser(_DATABASE)
    yield await fill_database(urls.owner, urls.app, connection)
    await connection.close()
    await postgres.drop_database(_DATABASE)


@pytest.mark.alone
@pytest.mark.timeout(600)
async def test_every_page_answers_in_time(data: Million) -> None:
    directory = Path(tempfile.mkdtemp(prefix="chappe-valkey-"))
    port = free_port()
    with start_valkey(directory) as valkey, control_process(data, valkey.url, port) as origin:
        served = await sign_in(port, origin)
        slow = {target: best for target in find_all_targets(data) if (best := best_p95(served, target)) > MOST_MS}
    shutil.rmtree(directory)
    assert slow == {}


def best_p95(served: Served, target: Target) -> float:
    """The first that is good enough, or the best of all rounds."""
    seen = []
    for _ in range(ROUNDS):
        seen.append(measure(served, target, REQUESTS, concurrency=1).p95)
        if seen[-1] <= MOST_MS:
            break
    return min(seen)
