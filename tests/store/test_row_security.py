"""Every tenant's table is behind forced row-level security, and money's tables are closed to change by anyone."""

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from chappe_store.session import Database
from tests.conftest import DatabaseUrls, PostgresServer

APPEND_ONLY = (
    "price_version",
    "ledger_account",
    "ledger_transaction",
    "ledger_entry",
    "usage_event",
    "usage_quarantine",
    "audit_entry",
    "audit_checkpoint",
)


async def test_every_table_with_a_tenant_forces_row_level_security(database: Database) -> None:
    statement = """
        SELECT c.relname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
        WHERE c.relkind IN ('r', 'p') AND c.relnamespace = 'public'::regnamespace AND NOT a.attisdropped
          AND (a.attname = 'tenant_id' OR c.relname = 'tenant')
          AND NOT (c.relrowsecurity AND c.relforcerowsecurity)
    """
    async with database.operator() as session:
        assert list((await session.execute(text(statement))).scalars()) == []


async def test_every_policy_of_the_tenants_role_names_the_current_tenant(database: Database) -> None:
    """Every one that gives rows: a restrictive policy takes some of them away again."""
    statement = """
        SELECT tablename FROM pg_policies
        WHERE 'chappe_app' = ANY (roles) AND permissive = 'PERMISSIVE'
          AND (qual NOT LIKE '%chappe.tenant_id%' OR with_check <> qual)
    """
    async with database.operator() as session:
        assert list((await session.execute(text(statement))).scalars()) == []
        policies = await session.execute(text("SELECT count(*) FROM pg_policies WHERE 'chappe_app' = ANY (roles)"))
        assert policies.scalar_one() >= 7


async def test_no_role_goes_around_row_level_security(database: Database) -> None:
    async with database.operator() as session:
        statement = "SELECT rolname FROM pg_roles WHERE rolname LIKE 'chappe%' AND (rolbypassrls OR rolsuper)"
        assert list((await session.execute(text(statement))).scalars()) == []


async def test_nothing_is_granted_to_everybody(database: Database) -> None:
    statement = """
        SELECT table_name || '' FROM information_schema.table_privileges
        WHERE grantee = 'PUBLIC' AND table_schema = 'public'
        UNION ALL
        SELECT p.proname || '' FROM pg_proc p, aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a
        WHERE p.pronamespace = 'public'::regnamespace AND a.grantee = 0 AND p.prorettype <> 'trigger'::regtype
          AND p.prosecdef
    """
    async with database.operator() as session:
        assert list((await session.execute(text(statement))).scalars()) == []


async def test_no_role_is_granted_change_of_an_append_only_table(database: Database) -> None:
    statement = """
        SELECT grantee || ' ' || privilege_type || ' ' || table_name FROM information_schema.table_privileges
        WHERE table_name = ANY (:tables) AND grantee <> 'chappe_owner'
          AND privilege_type NOT IN ('SELECT', 'INSERT')
    """
    async with database.operator() as session:
        assert list((await session.execute(text(statement), {"tables": list(APPEND_ONLY)})).scalars()) == []
        partitions = (
            "SELECT count(*) FROM information_schema.role_table_grants WHERE table_name LIKE 'usage\\_event\\_%' "
        )
        assert (await session.execute(text(partitions + "AND grantee <> 'chappe_owner'"))).scalar_one() == 0


@pytest.mark.parametrize("table", [*APPEND_ONLY, "usage_event_default"])
async def test_even_the_superuser_runs_into_the_lock(
    postgres: PostgresServer, database_urls: DatabaseUrls, table: str
) -> None:
    """TRUNCATE needs no row, and the row triggers are there: nobody changes these tables without taking them away."""
    connection = await postgres.superuser(database_urls.name)
    try:
        with pytest.raises(Exception, match="append-only"):
            await connection.execute(f"TRUNCATE {table} CASCADE")
        triggers = await connection.fetchval(
            "SELECT count(*) FROM pg_trigger WHERE tgrelid = $1::text::regclass AND tgenabled = 'O' "
            "AND tgfoid = 'refuse_change'::regproc",
            table,
        )
        assert triggers == 2
    finally:
        await connection.close()


async def test_roles_cannot_create_tables(database: Database) -> None:
    for transaction in (database.operator, database.ingest):
        with pytest.raises(DBAPIError, match="permission denied"):
            async with transaction() as session:
                await session.execute(text("CREATE TABLE mine (id int)"))
