"""One realm on the session's PostgreSQL for all: control plane and two replicas. Gateways are a test's own."""

import secrets
from collections.abc import AsyncIterator

import httpx
import pytest

from tests.chaos.realm import CONTROL, Payer, Realm, realm_on
from tests.conftest import TEMPLATE, PostgresServer


@pytest.fixture(scope="package")
async def realm(postgres: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Realm]:
    name = f"cell_{secrets.token_hex(6)}"
    urls = await postgres.create_database(name, TEMPLATE)
    async with realm_on(urls, tmp_path_factory.mktemp("realm")) as running:
        await running.start(CONTROL, "engine-0", "engine-1")
        yield running
    await postgres.drop_database(name)


@pytest.fixture
async def payer(realm: Realm) -> AsyncIterator[Payer]:
    """Somebody new. What the test started or let die is as before afterwards, and the books balance."""
    yield await realm.new_payer(f"payer {secrets.token_hex(4)}")
    for name in [name for name in realm.running if name.startswith("gw")]:
        realm.kill(name)
    await realm.replace_dead()
    verified = await realm.verify()
    assert verified.returncode == 0, verified.stdout + verified.stderr


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(timeout=60) as client:
        yield client
