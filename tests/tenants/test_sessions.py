"""A session belongs to one person, ends in the database's time, and no row of it is the secret."""

import hashlib
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from chappe_kernel.errors import Conflict
from chappe_kernel.ids import MemberId, OperatorUserId, new_id
from chappe_store.session import NOBODY, Database, TenantScope
from chappe_tenants.accounts import queries as accounts
from chappe_tenants.accounts.service import open_account
from chappe_tenants.members.service import Role, add_member, put_member
from chappe_tenants.operators import queries as operators
from chappe_tenants.operators.service import OperatorRole, put_operator
from chappe_tenants.organisations.service import create_organisation
from chappe_tenants.sessions import service as sessions
from tests.conftest import TEMPLATE, TESTS, DatabaseUrls, PostgresServer

HASH = "$argon2id$of-no-password"
Sql = Callable[..., Awaitable[list[Any]]]


@dataclass(frozen=True)
class Person:
    """A member with one session."""

    scope: TenantScope
    member_id: MemberId
    email: str
    secret: str


@pytest.fixture(scope="module")
async def urls(postgres: PostgresServer) -> AsyncIterator[DatabaseUrls]:
    """One database for all of these tests."""
    name = f"sessions_{secrets.token_hex(6)}"
    yield await postgres.create_database(name, TEMPLATE)
    await postgres.drop_database(name)


@pytest.fixture(scope="module")
async def sql(urls: DatabaseUrls) -> AsyncIterator[Sql]:
    """As the superuser."""
    engine = create_async_engine(urls.superuser, isolation_level="AUTOCOMMIT", poolclass=NullPool)

    async def run(statement: str, *values: Any) -> list[Any]:
        async with engine.connect() as connection:
            result = await connection.exec_driver_sql(statement, values or None)
            return [tuple(row) for row in result.all()] if result.returns_rows else []

    yield run
    await engine.dispose()


@pytest.fixture(scope="module")
async def opened(urls: DatabaseUrls) -> AsyncIterator[Database]:
    database = Database(urls.app, origin=TESTS)
    yield database
    await database.close()


@pytest.fixture
async def database(opened: Database, sql: Sql) -> Database:
    """As the application, with nobody in it yet."""
    await sql("TRUNCATE account CASCADE")
    await sql("DELETE FROM operator_user")
    return opened


async def make_person(database: Database, name: str) -> Person:
    email = f"{name}@example.eu"
    async with database.operator() as session:
        scope = await create_organisation(session, name=name, allowed_regions=["fr-par"], requests_per_minute=60)
        member_id = MemberId(new_id())
        account_id = await open_account(session, email=email, password_hash=HASH)
        await add_member(session, scope, member_id=member_id, account_id=account_id, email=email, role=Role.OWNER)
    return Person(scope, member_id, email, await _start(database, scope, member_id))


@pytest.fixture
async def mia(database: Database) -> Person:
    return await make_person(database, "mia")


@pytest.fixture
async def noor(database: Database) -> Person:
    return await make_person(database, "noor")


async def test_the_secret_finds_its_member_and_nobody_else(database: Database, mia: Person, noor: Person) -> None:
    for person in (mia, noor):
        found = await _find(database, person.secret)
        assert found is not None
        assert (found.scope, found.member_id, found.email) == (person.scope, person.member_id, person.email)
        assert (found.role, found.tenant_name, found.currency) == (Role.OWNER, person.email.split("@")[0], "EUR")
    for wrong in ("", "x", mia.secret[:-1], mia.secret + "A", mia.secret.swapcase(), "A" * 43, "é" * 43, "\0" * 43):
        assert await _find(database, wrong) is None


async def test_no_row_holds_the_secret(database: Database, mia: Person, sql: Sql) -> None:
    ((row, digest),) = await sql("SELECT row_to_json(s)::text, digest FROM member_session s")
    assert mia.secret not in row
    assert digest == hashlib.sha256(mia.secret.encode()).digest()
    await put(database, "ops@example.eu")
    secret = await _start_operator(database, "ops@example.eu")
    ((row, digest),) = await sql("SELECT row_to_json(s)::text, digest FROM operator_session s")
    assert secret not in row
    assert digest == hashlib.sha256(secret.encode()).digest()


@pytest.mark.parametrize(
    ("change", "alive"),
    [
        ("seen_at = now() - interval '23 hours 59 minutes'", True),
        ("seen_at = now() - interval '24 hours 1 minute'", False),
        ("expires_at = now() + interval '1 minute'", True),
        ("created_at = now() - interval '15 days', expires_at = now() - interval '1 second'", False),
        ("created_at = now() - interval '15 days', expires_at = now()", False),
    ],
)
async def test_a_portal_session_ends_in_the_databases_time(
    database: Database, mia: Person, sql: Sql, change: str, alive: bool
) -> None:
    await sql(f"UPDATE member_session SET {change}")
    assert (await _find(database, mia.secret) is not None) == alive


@pytest.mark.parametrize(
    ("change", "alive"),
    [
        ("seen_at = now() - interval '59 minutes'", True),
        ("seen_at = now() - interval '61 minutes'", False),
        ("expires_at = now() + interval '1 minute'", True),
        ("created_at = now() - interval '13 hours', expires_at = now() - interval '1 second'", False),
    ],
)
async def test_a_console_session_ends_sooner(database: Database, sql: Sql, change: str, alive: bool) -> None:
    await put(database, "ops@example.eu")
    secret = await _start_operator(database, "ops@example.eu")
    await sql(f"UPDATE operator_session SET {change}")
    async with database.operator() as session:
        assert (await sessions.find_operator(session, secret) is not None) == alive


async def test_the_ends_are_what_they_should_be(database: Database, mia: Person, sql: Sql) -> None:
    assert await sql("SELECT expires_at - created_at = interval '14 days' FROM member_session") == [(True,)]
    await put(database, "ops@example.eu")
    await _start_operator(database, "ops@example.eu")
    assert await sql("SELECT expires_at - created_at = interval '12 hours' FROM operator_session") == [(True,)]


async def test_being_seen_prolongs_a_session_but_not_its_absolute_end(
    database: Database, mia: Person, sql: Sql
) -> None:
    before = await sql("SELECT expires_at FROM member_session")
    await sql("UPDATE member_session SET seen_at = now() - interval '23 hours'")
    visitor = await _find(database, mia.secret)
    assert visitor is not None
    async with database.tenant(visitor.scope) as session:
        await sessions.touch_member_session(session, visitor)
    assert await sql("SELECT now() - seen_at < interval '1 minute' FROM member_session") == [(True,)]
    assert await sql("SELECT expires_at FROM member_session") == before


async def test_being_seen_is_written_at_most_once_a_minute(database: Database, mia: Person, sql: Sql) -> None:
    for seconds, due in ((59, False), (61, True)):
        await sql(f"UPDATE member_session SET seen_at = now() - interval '{seconds} seconds'")
        async with database.tenant(NOBODY) as session:
            found = await sessions.find_member(session, mia.secret)
        assert found is not None
        visitor, rested = found
        assert rested == due
        for repeat in range(2):
            before = await sql("SELECT xmin::text FROM member_session")
            async with database.tenant(mia.scope) as session:
                await sessions.touch_member_session(session, visitor)
            written = await sql("SELECT xmin::text FROM member_session") != before
            assert written == (due and repeat == 0)


async def test_a_console_session_is_prolonged_in_the_same_way(database: Database, sql: Sql) -> None:
    await put(database, "ops@example.eu")
    secret = await _start_operator(database, "ops@example.eu")
    for seconds, due in ((59, False), (61, True)):
        await sql(f"UPDATE operator_session SET seen_at = now() - interval '{seconds} seconds'")
        async with database.operator() as session:
            found = await sessions.find_operator(session, secret)
            assert found is not None
            visitor, rested = found
            await sessions.touch_operator_session(session, visitor)
        assert rested == due
        assert await sql("SELECT now() - seen_at < interval '50 seconds' FROM operator_session") == [(due,)]


async def test_sessions_that_are_over_are_deleted_in_passing(
    database: Database, mia: Person, noor: Person, sql: Sql
) -> None:
    idle = await _start(database, mia.scope, mia.member_id)
    await sql("UPDATE member_session SET expires_at = created_at + interval '1 microsecond'")
    await sql("UPDATE member_session SET seen_at = now() - interval '2 days' WHERE digest = $1", _digest(idle))
    await _start(database, mia.scope, mia.member_id)
    assert await sql("SELECT count(*) FROM member_session WHERE tenant_id = $1", mia.scope.tenant_id) == [(1,)]
    assert await sql("SELECT count(*) FROM member_session WHERE tenant_id = $1", noor.scope.tenant_id) == [(1,)]
    await put(database, "ops@example.eu")
    await _start_operator(database, "ops@example.eu")
    await sql("UPDATE operator_session SET seen_at = now() - interval '2 hours'")
    await _start_operator(database, "ops@example.eu")
    assert await sql("SELECT count(*) FROM operator_session") == [(1,)]


async def test_an_ended_session_is_gone_and_others_are_not(database: Database, mia: Person, noor: Person) -> None:
    second = await _start(database, mia.scope, mia.member_id)
    visitor = await _find(database, mia.secret)
    assert visitor is not None
    async with database.tenant(mia.scope) as session:
        await sessions.end_member_session(session, visitor.scope, visitor.session_id)
    assert await _find(database, mia.secret) is None
    assert await _find(database, second) is not None
    assert await _find(database, noor.secret) is not None


async def test_a_tenant_neither_sees_nor_ends_anothers_sessions(database: Database, mia: Person, noor: Person) -> None:
    visitor = await _find(database, noor.secret)
    assert visitor is not None
    async with database.tenant(mia.scope) as session:
        seen = (await session.scalars(text("SELECT tenant_id FROM member_session"))).all()
        assert seen == [mia.scope.tenant_id]
        await sessions.end_member_session(session, noor.scope, visitor.session_id)
        await session.execute(
            text("DELETE FROM member_session WHERE tenant_id <> :mine"), {"mine": mia.scope.tenant_id}
        )
    assert await _find(database, noor.secret) is not None
    async with database.tenant(NOBODY) as session:
        assert (await session.scalars(text("SELECT tenant_id FROM member_session"))).all() == []


async def test_a_tenant_cannot_start_a_session_for_another(database: Database, mia: Person, noor: Person) -> None:
    with pytest.raises(DBAPIError, match="row-level security"):
        async with database.tenant(mia.scope) as session:
            await sessions.start_member_session(session, noor.scope, noor.member_id)
    with pytest.raises(DBAPIError, match="foreign key"):
        async with database.tenant(mia.scope) as session:
            await sessions.start_member_session(session, mia.scope, noor.member_id)


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT digest FROM member_session",
        "SELECT * FROM member_session",
        "UPDATE member_session SET expires_at = 'infinity'",
        "UPDATE member_session SET digest = sha256('x')",
        "UPDATE member_session SET member_id = id",
        "SELECT * FROM operator_session",
        "INSERT INTO operator_session SELECT * FROM operator_session",
        "DELETE FROM operator_session",
        "SELECT password_hash FROM account",
        "SELECT id FROM account",
        "ALTER FUNCTION find_portal_session(bytea, interval, interval) OWNER TO chappe_app",
    ],
)
async def test_tenants_role_lacks_what_it_must_not_have(database: Database, mia: Person, statement: str) -> None:
    with pytest.raises(DBAPIError, match=r"permission denied|must be owner"):
        async with database.tenant(mia.scope) as session:
            await session.execute(text(statement))


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT id FROM member_session",
        "SELECT id FROM operator_session",
        "SELECT * FROM find_account('mia@example.eu')",
        "SELECT * FROM find_portal_session(sha256('x'), '1 day', '1 day')",
        "SELECT * FROM find_invitation(sha256('x'))",
    ],
)
async def test_regions_role_has_no_business_with_sessions(database: Database, mia: Person, statement: str) -> None:
    with pytest.raises(DBAPIError, match="permission denied"):
        async with database.ingest() as session:
            await session.execute(text(statement))


async def test_look_ups_cannot_be_led_astray_by_a_search_path(database: Database, mia: Person) -> None:
    """A temporary table or function of the caller's takes no part in what the look-up does."""
    async with database.operator() as session:
        query = (
            "SELECT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace AND prosecdef "
            "AND (proconfig IS NULL OR NOT proconfig::text LIKE '%search_path=pg_catalog%')"
        )
        assert (await session.scalars(text(query))).all() == []


async def test_one_address_is_one_account_whatever_the_tenant(database: Database, mia: Person, noor: Person) -> None:
    with pytest.raises(Conflict):
        async with database.operator() as session:
            await open_account(session, email=mia.email, password_hash=HASH)
    async with database.operator() as session:
        await put_member(session, noor.scope, email=mia.email, password="tidal lantern 42", role=Role.VIEWER)
    async with database.tenant(NOBODY) as session:
        found = await accounts.find_account(session, mia.email)
        assert found is not None
        assert [found.memberships[0].tenant_id, found.memberships[1].tenant_id] == [
            mia.scope.tenant_id,
            noor.scope.tenant_id,
        ], "the one that she signed in to comes first"
        assert await accounts.find_account(session, "nobody@example.eu") is None
        assert await accounts.find_account(session, "%") is None


async def test_the_operators_roles_are_these_four(database: Database, sql: Sql) -> None:
    for role in OperatorRole:
        async with database.operator() as session:
            await put_operator(session, email=f"{role}@example.eu", password="tidal lantern 42", role=role)
    assert len(OperatorRole) == 4
    with pytest.raises(DBAPIError, match="ck_operator_user_role"):
        await sql("UPDATE operator_user SET role = 'root'")


async def test_a_member_who_is_gone_has_no_sessions(database: Database, mia: Person, sql: Sql) -> None:
    await sql("ALTER TABLE member DISABLE TRIGGER member_keep_an_owner")
    await sql("DELETE FROM member")
    await sql("ALTER TABLE member ENABLE TRIGGER member_keep_an_owner")
    assert await sql("SELECT count(*) FROM member_session") == [(0,)]
    assert await _find(database, mia.secret) is None


async def put(database: Database, email: str) -> None:
    async with database.operator() as session:
        await put_operator(session, email=email, password="tidal lantern 42", role=OperatorRole.AUDITOR)


async def _start(database: Database, scope: TenantScope, member_id: MemberId) -> str:
    async with database.tenant(scope) as session:
        return await sessions.start_member_session(session, scope, member_id)


async def _start_operator(database: Database, email: str) -> str:
    async with database.operator() as session:
        user = await operators.find_by_email(session, email)
        assert user is not None
        return await sessions.start_operator_session(session, OperatorUserId(user.id))


async def _find(database: Database, secret: str) -> sessions.MemberVisitor | None:
    async with database.tenant(NOBODY) as session:
        found = await sessions.find_member(session, secret)
    return found[0] if found else None


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()
