"""A transaction has exactly the role and the tenant that it was opened for, and outside of one there are no rights."""

from collections.abc import AsyncIterator

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from chappe_kernel.errors import Unavailable
from chappe_kernel.ids import TenantId, new_id
from chappe_store.models import OutboxMessage
from chappe_store.outbox import enqueue
from chappe_store.queries import bump_keys_revision, read_epoch, read_keys_revision, renew_epoch
from chappe_store.session import Database, TenantScope
from tests.conftest import DatabaseUrls

_WHO = text("SELECT current_user::text, current_setting('chappe.tenant_id', true)")


@pytest.fixture
async def one_connection(database_urls: DatabaseUrls) -> AsyncIterator[Database]:
    """A pool of one, so that every transaction gets the connection that the last one left."""
    database = Database(database_urls.app, pool_size=1)
    yield database
    await database.close()


@pytest.fixture
async def login(database_urls: DatabaseUrls) -> AsyncIterator[AsyncEngine]:
    """The login role itself, around `Database`."""
    engine = create_async_engine(database_urls.app)
    yield engine
    await engine.dispose()


async def test_role_and_tenant_are_set_for_the_transaction(one_connection: Database) -> None:
    tenant_id = TenantId(new_id())
    async with one_connection.tenant(TenantScope(tenant_id)) as session:
        assert tuple((await session.execute(_WHO)).one()) == ("chappe_app", str(tenant_id))
    async with one_connection.ingest() as session:
        assert tuple((await session.execute(_WHO)).one()) == ("chappe_ingest", "")
    async with one_connection.operator() as session:
        assert tuple((await session.execute(_WHO)).one()) == ("chappe_operator", "")


async def test_nothing_stays_set_on_the_connection(one_connection: Database) -> None:
    async with one_connection.tenant(TenantScope(TenantId(new_id()))):
        pass
    async with one_connection._engine.connect() as connection:
        assert tuple((await connection.execute(_WHO)).one()) == ("chappe_control", "")


async def test_a_block_that_raises_is_rolled_back(database: Database) -> None:
    async with database.operator() as session:
        before = await read_keys_revision(session)
    with pytest.raises(ZeroDivisionError):
        async with database.operator() as session:
            await bump_keys_revision(session)
            raise ZeroDivisionError
    async with database.operator() as session:
        assert await read_keys_revision(session) == before


async def test_a_bump_of_the_keys_revision_shows_with_its_commit(database: Database) -> None:
    async with database.operator() as session:
        before = await read_keys_revision(session)
        await bump_keys_revision(session)
        async with database.ingest() as other:
            assert await read_keys_revision(other) == before
    async with database.ingest() as session:
        assert await read_keys_revision(session) == before + 1


async def test_the_epoch_is_stable_until_it_is_renewed(database: Database) -> None:
    async with database.ingest() as session:
        first = await read_epoch(session)
    async with database.operator() as session:
        renewed = await renew_epoch(session)
    async with database.ingest() as session:
        assert await read_epoch(session) == renewed != first


async def test_the_outbox_keeps_a_message_with_its_transaction_only(database: Database) -> None:
    with pytest.raises(ZeroDivisionError):
        async with database.ingest() as session:
            await enqueue(session, "test", [{"number": "1"}])
            raise ZeroDivisionError
    async with database.ingest() as session:
        await enqueue(session, "test", [{"number": "2"}, {"number": "3"}])
    async with database.operator() as session:
        rows = (await session.execute(text("SELECT payload ->> 'number' FROM outbox ORDER BY id"))).scalars()
        assert list(rows) == ["2", "3"]
    assert OutboxMessage.__tablename__ == "outbox"


@pytest.mark.parametrize("table", ["tenant", "api_key", "budget", "usage_event", "outbox", "instance", "region"])
async def test_the_login_has_no_rights_of_its_own(login: AsyncEngine, table: str) -> None:
    async with login.connect() as connection:
        with pytest.raises(DBAPIError, match="permission denied"):
            await connection.execute(text(f"SELECT * FROM public.{table}"))


@pytest.mark.parametrize("role", ["chappe_owner", "chappe_lookup", "postgres"])
async def test_the_login_cannot_become_more_than_the_group_roles(login: AsyncEngine, role: str) -> None:
    async with login.connect() as connection:
        with pytest.raises(DBAPIError, match="permission denied"):
            await connection.execute(text(f"SET ROLE {role}"))


async def test_an_audit_is_one_read_only_instant(database: Database) -> None:
    async with database.audit() as session:
        before = await read_keys_revision(session)
        async with database.operator() as other:
            await bump_keys_revision(other)
        assert await read_keys_revision(session) == before
        with pytest.raises(DBAPIError, match="read-only"):
            await bump_keys_revision(session)
        await session.rollback()


async def test_a_database_that_is_away_is_unavailable(database_urls: DatabaseUrls) -> None:
    database = Database(database_urls.app.replace(database_urls.name, "not_there"))
    try:
        with pytest.raises(Unavailable) as raised:
            async with database.operator():
                pass
        assert raised.value.code == "database_unavailable"
    finally:
        await database.close()
