"""Row-level security: no role sees more than it must, and no tenant sees another's rows."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from chappe_kernel.api_keys import KeyKind
from chappe_kernel.ids import KeyId, ProjectId, TenantId
from chappe_store.queries import read_keys_revision
from chappe_store.session import Database, TenantScope
from chappe_tenants.api_keys import queries
from chappe_tenants.api_keys.service import KeyOrder, create_key, digest_all, resolve, revoke_key
from chappe_tenants.organisations.service import create_organisation
from chappe_tenants.peppers import parse_peppers
from chappe_tenants.projects.service import create_project

PEPPERS = parse_peppers("1:" + "c" * 43 + "=,2:" + "b" * 43 + "=")
PARIS = {"fr-par": "FR", "de-fra": "DE"}
NOBODY = TenantScope(TenantId(UUID(int=0)))


@dataclass(frozen=True)
class Made:
    """One tenant with a project and a key."""

    scope: TenantScope
    project_id: ProjectId
    key_id: KeyId
    secret: str


@pytest.fixture
async def two(database: Database) -> AsyncIterator[tuple[Made, Made]]:
    yield await make(database, "one"), await make(database, "two")


async def make(database: Database, name: str) -> Made:
    async with database.operator() as session:
        scope = await create_organisation(session, name=name, allowed_regions=["fr-par", "DE"], requests_per_minute=60)
        project = await create_project(session, scope, name="default", regions=None, jurisdiction_of=PARIS)
        key, secret = await create_key(
            session,
            scope,
            ProjectId(project.id),
            KeyOrder("key", KeyKind.INFERENCE),
            peppers=PEPPERS,
            jurisdiction_of=PARIS,
        )
    return Made(scope, ProjectId(project.id), KeyId(key.id), secret)


async def test_tenant_sees_only_its_own_rows_even_without_a_condition(
    database: Database, two: tuple[Made, Made]
) -> None:
    for mine in two:
        async with database.tenant(mine.scope) as session:
            for table, column in (("tenant", "id"), ("project", "tenant_id"), ("api_key", "tenant_id")):
                seen = (await session.scalars(text(f"SELECT {column} FROM {table}"))).all()
                assert seen == [mine.scope.tenant_id]


async def test_nobody_sees_nothing(database: Database, two: tuple[Made, Made]) -> None:
    async with database.tenant(NOBODY) as session:
        for table in ("tenant", "project", "member", "idempotency_record"):
            assert await session.scalar(text(f"SELECT count(tenant) FROM (SELECT 1 AS tenant FROM {table}) t")) == 0


async def test_tenant_cannot_write_for_another(database: Database, two: tuple[Made, Made]) -> None:
    mine, other = two
    for statement in (
        "INSERT INTO project (tenant_id, id, name) VALUES (:other, uuidv7(), 'x')",
        """INSERT INTO api_key (tenant_id, id, project_id, kind, name, prefix, pepper_version, digest)
           VALUES (:other, uuidv7(), :project, 'management', 'x', 'x', 1, sha256('x'))""",
    ):
        with pytest.raises(DBAPIError, match="row-level security"):
            async with database.tenant(mine.scope) as session:
                await session.execute(text(statement), {"other": other.scope.tenant_id, "project": other.project_id})
    async with database.tenant(mine.scope) as session:
        await queries.revoke_key(session, other.scope, other.key_id)
    assert await _resolves(database, other.secret)


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT digest FROM api_key",
        "UPDATE tenant SET requests_per_minute = 1",
        "UPDATE tenant SET state = 'active'",
        "UPDATE api_key SET kind = 'management'",
        "UPDATE api_key SET revoked_at = NULL, digest = ''",
        "DELETE FROM api_key",
        "SELECT password_hash FROM account",
        "SELECT * FROM operator_user",
        "SELECT * FROM region_credential",
        "INSERT INTO region (name, jurisdiction, gateway_url, position) VALUES ('x', 'XX', 'x', 1)",
        "UPDATE region SET gateway_url = 'http://evil'",
        "SET LOCAL ROLE chappe_lookup",
        "SET LOCAL row_security = off; SELECT * FROM tenant",
    ],
)
async def test_tenants_role_lacks_what_it_must_not_have(
    database: Database, two: tuple[Made, Made], statement: str
) -> None:
    with pytest.raises(DBAPIError):
        async with database.tenant(two[0].scope) as session:
            for part in statement.split("; "):
                await session.execute(text(part))


@pytest.mark.parametrize(
    "statement", ["SELECT digest FROM api_key", "UPDATE api_key SET revoked_at = now()", "SELECT * FROM operator_user"]
)
async def test_regions_role_lacks_what_it_must_not_have(database: Database, statement: str) -> None:
    with pytest.raises(DBAPIError, match="permission denied"):
        async with database.ingest() as session:
            await session.execute(text(statement))


async def test_key_resolves_under_any_pepper_in_force(database: Database, two: tuple[Made, Made]) -> None:
    """Rotation: the key was stored under version 2; a version 3 comes, and it still resolves."""
    rotated = (*PEPPERS, *parse_peppers("3:" + "d" * 43 + "="))
    async with database.tenant(NOBODY) as session:
        facts = await resolve(session, digest_all(two[0].secret, rotated), PARIS)
        assert facts is not None and facts.tenant_id == two[0].scope.tenant_id
        assert facts.regions == ("fr-par", "de-fra")
        assert await resolve(session, digest_all(two[0].secret, rotated[2:]), PARIS) is None
        swapped = [
            type(digest)(3 - digest.pepper_version, digest.digest) for digest in digest_all(two[0].secret, PEPPERS)
        ]
        assert await resolve(session, swapped, PARIS) is None


async def test_look_up_reads_one_row_of_the_index(database: Database, two: tuple[Made, Made]) -> None:
    async with database.operator() as session:
        await session.execute(
            text(
                "INSERT INTO api_key (tenant_id, id, project_id, kind, name, prefix, pepper_version, digest) "
                "SELECT :tenant, uuidv7(), :project, 'inference', 'k', 'k', 2, sha256(n::text::bytea) "
                "FROM generate_series(1, 3000) n"
            ),
            {"tenant": two[0].scope.tenant_id, "project": two[0].project_id},
        )
    assert await _resolves(database, two[1].secret)
    async with database.tenant(NOBODY) as session:
        scans = text(
            "SELECT pg_stat_get_xact_numscans('api_key'::regclass), "
            "pg_stat_get_xact_numscans('uq_api_key_pepper_version_digest'::regclass)"
        )
        before = (await session.execute(scans)).one()
        assert await queries.find_key(session, digest_all(two[1].secret, PEPPERS)) is not None
        after = (await session.execute(scans)).one()
    assert after[0] - before[0] == 0, "the table was scanned"
    assert 1 <= after[1] - before[1] <= len(PEPPERS), "one descent of the index per pepper"


async def test_every_change_of_what_a_key_may_do_bumps_the_revision(database: Database, two: tuple[Made, Made]) -> None:
    mine = two[0]
    async with database.tenant(mine.scope) as session:
        revision = await read_keys_revision(session)
        await revoke_key(session, mine.scope, mine.key_id)
        assert await read_keys_revision(session) == revision + 1
        await revoke_key(session, mine.scope, mine.key_id)
        assert await read_keys_revision(session) == revision + 1, "nothing changed"
        await create_project(session, mine.scope, name="more", regions=["DE"], jurisdiction_of=PARIS)
        assert await read_keys_revision(session) == revision + 1, "nobody remembers anything of what is new"
    for change in (
        "UPDATE tenant SET state = 'suspended'",
        "UPDATE tenant SET allowed_regions = '{FR}' WHERE name = 'one'",
        "UPDATE project SET allowed_regions = '{FR}' WHERE name = 'more'",
        "INSERT INTO region (name, jurisdiction, gateway_url, position) VALUES ('xx', 'XX', 'http://x', 1)",
        "UPDATE region SET jurisdiction = 'YY'",
    ):
        async with database.operator() as session:
            before = await read_keys_revision(session)
            await session.execute(text(change))
            assert await read_keys_revision(session) > before, change
    assert not await _resolves(database, mine.secret)


async def test_rolled_back_change_announces_nothing(database: Database, two: tuple[Made, Made]) -> None:
    async with database.operator() as session:
        before = await read_keys_revision(session)

    class Undo(Exception):
        pass

    with pytest.raises(Undo):
        async with database.tenant(two[0].scope) as session:
            await revoke_key(session, two[0].scope, two[0].key_id)
            raise Undo
    async with database.operator() as session:
        assert await read_keys_revision(session) == before
    assert await _resolves(database, two[0].secret)


async def _resolves(database: Database, secret: str) -> Any:
    async with database.tenant(NOBODY) as session:
        return await queries.find_key(session, digest_all(secret, PEPPERS))
