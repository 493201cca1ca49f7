"""Row-level security under a pool that somebody has poisoned, without a tenant, and over every table that there is."""

from collections.abc import AsyncIterator

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_kernel.ids import TenantId, new_id
from chappe_store.session import NOBODY, Database, TenantScope
from tests.access import things
from tests.access.world import AccessWorld
from tests.conftest import DatabaseUrls

_TENANT_TABLES = """
    SELECT c.relname::text FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
    WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relnamespace = 'public'::regnamespace
      AND a.attname = 'tenant_id' AND NOT a.attisdropped
      AND has_column_privilege('chappe_app', c.oid, a.attnum, 'SELECT')
    ORDER BY 1
"""


EVERYBODYS = {"price_version": {None}, "price_withdrawal": {None}}
"""Tables with rows that belong to no tenant and that all may see: list prices, and what became of them."""


@pytest.fixture
async def one_connection(access: AccessWorld) -> AsyncIterator[Database]:
    """A pool of one, so that every transaction gets the connection that the last one left."""
    database = Database(access.control.urls.app, pool_size=1)
    yield database
    await database.close()


async def tables(session: AsyncSession) -> list[str]:
    return list((await session.scalars(text(_TENANT_TABLES))).all())


async def tenants_in(session: AsyncSession, table: str) -> set[TenantId]:
    """Whose rows are seen there, but for those that are everybody's."""
    found = set(await session.scalars(text(f"SELECT DISTINCT tenant_id FROM {table}")))
    return found - EVERYBODYS.get(table, set())


async def test_every_table_shows_a_tenant_its_own_rows_alone(access: AccessWorld) -> None:
    for thing in (things.a_key, things.a_request):
        await thing(access)
    database = access.control.database
    seen: dict[str, set[TenantId]] = {}
    async with database.tenant(TenantScope(access.alpha.id)) as session:
        for table in await tables(session):
            seen[table] = await tenants_in(session, table)
    assert {"api_key", "project", "member", "usage_event", "audit_entry"} <= seen.keys()
    assert {table: found for table, found in seen.items() if not found <= {access.alpha.id}} == {}
    assert sum(bool(found) for found in seen.values()) > 8, "rows to see, or this test shows nothing"


@pytest.mark.parametrize("scope", [NOBODY, TenantScope(TenantId(new_id()))], ids=["nobody", "no tenant of ours"])
async def test_without_a_tenant_there_are_no_rows(access: AccessWorld, scope: TenantScope) -> None:
    async with access.control.database.tenant(scope) as session:
        for table in await tables(session):
            assert await tenants_in(session, table) == set(), table


async def test_a_role_without_a_tenant_setting_sees_no_rows(access: AccessWorld) -> None:
    """The setting was never made on this connection, or is what an ended transaction left: NULL, and then ''."""
    for setting in (None, ""):
        database = Database(access.control.urls.app, pool_size=1)
        async with database._engine.connect() as connection, connection.begin():
            if setting is not None:
                await connection.execute(text("SELECT set_config('chappe.tenant_id', '', true)"))
            await connection.execute(text("SET LOCAL ROLE chappe_app"))
            for table in (await connection.scalars(text(_TENANT_TABLES))).all():
                found = await connection.scalars(text(f"SELECT tenant_id FROM {table}"))
                assert set(found) - EVERYBODYS.get(table, set()) == set(), table
        await database.close()


@pytest.mark.parametrize(
    ("poison", "harmless"),
    [
        ("SELECT 1", True),
        ("SET chappe.tenant_id = '{beta}'", True),
        ("SET chappe.origin = '{{}}'", True),
        ("SET ROLE chappe_operator", True),
        ("SET ROLE chappe_ingest", True),
        ("SET session_replication_role = replica", True),
        ("PREPARE stolen AS SELECT tenant_id FROM api_key", True),
        ("SET search_path = pg_temp, public", True),
        ("SET search_path = ''", False),
        ("SET row_security = off", False),
    ],
)
async def test_a_poisoned_connection_shows_no_other_rows(
    access: AccessWorld, one_connection: Database, poison: str, *, harmless: bool
) -> None:
    """Whatever somebody set for the session, or tried to: the next transaction shows its own tenant's rows, or fails.
    It never shows more, and nobody sees nothing."""
    async with one_connection._engine.connect() as connection:
        try:
            await connection.execute(text(poison.format(beta=access.beta.id)))
            await connection.commit()
        except DBAPIError:
            await connection.rollback()
    for scope, own in ((TenantScope(access.alpha.id), {access.alpha.id}), (NOBODY, set[TenantId]())):
        for table in ("api_key", "project", "audit_entry"):
            try:
                async with one_connection.tenant(scope) as session:
                    assert await tenants_in(session, table) == own
            except DBAPIError:
                assert not harmless


async def test_the_login_can_put_no_table_in_front_of_ours(access: AccessWorld, one_connection: Database) -> None:
    """A temporary `api_key` would be found before the real one."""
    for statement in ("CREATE TEMP TABLE api_key (digest bytea)", "CREATE SCHEMA mine", "CREATE TABLE mine (id int)"):
        async with one_connection._engine.connect() as connection:
            with pytest.raises(DBAPIError, match=r"permission denied|no schema has been selected"):
                await connection.execute(text(statement))


async def test_every_policy_of_tenants_reads_its_setting_once_per_query(access: AccessWorld) -> None:
    """In a sub-select: evaluated for each row it would cost a function call per row."""
    async with access.control.database.operator() as session:
        policies = await session.execute(
            text("SELECT tablename, qual FROM pg_policies WHERE 'chappe_app' = ANY (roles) AND qual <> 'true'")
        )
        for table, qual in policies.all():
            assert qual.count("current_setting(") == qual.count("( SELECT (NULLIF(current_setting("), (table, qual)


async def test_no_foreign_key_tells_a_tenant_what_another_has(access: AccessWorld) -> None:
    """Checks of keys go around row-level security. One that crosses tenants would say "is not present" of what is not
    there, and nothing of what is another's. So the tenant is part of the key, wherever tenants can write one of its
    columns."""
    statement = """
        SELECT con.conname::text FROM pg_constraint con
        WHERE con.contype = 'f' AND con.connamespace = 'public'::regnamespace
          AND EXISTS (
              SELECT FROM unnest(con.conkey) k (attnum)
              WHERE has_column_privilege('chappe_app', con.conrelid, k.attnum, 'INSERT')
                 OR has_column_privilege('chappe_app', con.conrelid, k.attnum, 'UPDATE'))
          AND EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = con.conrelid AND a.attname = 'tenant_id')
          AND EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = con.confrelid AND a.attname = 'tenant_id')
          AND NOT EXISTS (
              SELECT FROM pg_attribute a, pg_attribute b
              WHERE a.attrelid = con.conrelid AND a.attnum = ANY (con.conkey) AND a.attname = 'tenant_id'
                AND b.attrelid = con.confrelid AND b.attnum = ANY (con.confkey) AND b.attname = 'tenant_id')
    """
    async with access.control.database.operator() as session:
        assert list((await session.scalars(text(statement))).all()) == []


async def test_the_suite_runs_as_the_applications_role(database_urls: DatabaseUrls) -> None:
    """Not as the owner or a superuser, whom row-level security would not bind."""
    database = Database(database_urls.app)
    async with database._engine.connect() as connection:
        facts = await connection.execute(
            text("SELECT rolname::text, rolsuper, rolbypassrls, rolinherit FROM pg_roles WHERE rolname = session_user")
        )
        assert tuple(facts.one()) == ("chappe_control", False, False, False)
    await database.close()
