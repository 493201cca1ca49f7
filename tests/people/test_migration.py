"""Who could sign in before there were accounts still can, with the same password, to the same organisation."""

import secrets
from collections.abc import AsyncIterator

import pytest

from chappe_store.migrate import migrate
from chappe_store.session import NOBODY, Database
from chappe_tenants.accounts.queries import find_account
from chappe_tenants.passwords import hash_password, verify_password
from tests.conftest import DatabaseUrls, PostgresServer
from tests.control.running import hashing_with, quick_hasher

PASSWORD = "tidal lantern mosaic 42"


@pytest.fixture
async def before(postgres: PostgresServer) -> AsyncIterator[DatabaseUrls]:
    """A database as the release before left it."""
    name = f"people_{secrets.token_hex(6)}"
    urls = await postgres.create_database(name)
    await migrate(urls.owner, urls.app, "0008")
    yield urls
    await postgres.drop_database(name)


async def test_members_become_accounts_with_their_passwords(postgres: PostgresServer, before: DatabaseUrls) -> None:
    with hashing_with(quick_hasher()):
        password_hash = hash_password(PASSWORD)
    connection = await postgres.superuser(before.name)
    try:
        await connection.execute(
            "WITH t AS (INSERT INTO tenant (id, name, state, currency, allowed_regions, requests_per_minute) "
            "VALUES (uuidv7(), 'one', 'active', 'EUR', '{}', 60), (uuidv7(), 'two', 'active', 'EUR', '{}', 60) "
            "RETURNING id, name) "
            "INSERT INTO member (tenant_id, id, email, role, password_hash) "
            "SELECT id, uuidv7(), name || '@example.eu', 'owner', $1 FROM t",
            password_hash,
        )
        members = await connection.fetch("SELECT tenant_id, id, email FROM member ORDER BY email")
        await migrate(before.owner, before.app)
        hashes = await connection.fetch(
            "SELECT 1 FROM pg_attribute WHERE attname = 'password_hash' AND NOT attisdropped"
        )
    finally:
        await connection.close()
    assert len(hashes) == 2, "in accounts and in the operator's users, and nowhere else"
    database = Database(before.app)
    try:
        for tenant_id, member_id, email in members:
            async with database.tenant(NOBODY) as session:
                found = await find_account(session, email)
            assert found is not None and verify_password(found.password_hash, PASSWORD)
            assert [(one.tenant_id, one.member_id) for one in found.memberships] == [(tenant_id, member_id)]
    finally:
        await database.close()
