"""A browser token does what its project's playground key may do, for ten minutes, and not after its session."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from chappe_kernel.api_keys import KeyKind, is_browser_token, is_well_formed
from chappe_kernel.errors import Denied, LimitExceeded, Unauthenticated
from chappe_kernel.ids import KeyId, MemberId, ProjectId, TenantId, new_id
from chappe_kernel.wire.control import KeyFacts
from chappe_store.queries import read_keys_revision
from chappe_store.session import Database, TenantScope
from chappe_tenants.accounts.service import open_account
from chappe_tenants.api_keys import queries as keys
from chappe_tenants.api_keys.service import (
    PLAYGROUND_NAME,
    KeyOrder,
    authenticate,
    create_key,
    digest_all,
    resolve,
    revoke_key,
)
from chappe_tenants.browser_tokens.service import MAX_LIVE_PER_SESSION, IssuedToken, issue_token
from chappe_tenants.members.service import Role, add_member
from chappe_tenants.organisations.service import create_organisation
from chappe_tenants.peppers import parse_peppers
from chappe_tenants.projects.service import create_project
from chappe_tenants.sessions.service import MemberVisitor, end_member_session, find_member, start_member_session

PEPPERS = parse_peppers("1:" + "c" * 43 + "=,2:" + "b" * 43 + "=")
JURISDICTIONS = {"fr-par": "FR", "de-fra": "DE"}
NOBODY = TenantScope(TenantId(UUID(int=0)))

Superuser = Callable[[str], Awaitable[Any]]


@dataclass(frozen=True)
class SignedIn:
    """A member with a session, and the project whose playground they use."""

    database: Database
    visitor: MemberVisitor
    project_id: ProjectId

    @property
    def scope(self) -> TenantScope:
        return self.visitor.scope

    async def issue(self) -> IssuedToken:
        async with self.database.tenant(self.scope) as session:
            return await issue_token(
                session, self.visitor, self.project_id, peppers=PEPPERS, jurisdiction_of=JURISDICTIONS
            )

    async def sign_out(self) -> None:
        async with self.database.tenant(self.scope) as session:
            await end_member_session(session, self.scope, self.visitor.session_id)

    async def sign_in_again(self) -> "SignedIn":
        return await sign_in(self.database, self.scope, self.visitor.member_id, self.project_id)


async def sign_in(database: Database, scope: TenantScope, member_id: MemberId, project_id: ProjectId) -> SignedIn:
    async with database.tenant(scope) as session:
        secret = await start_member_session(session, scope, member_id)
    async with database.tenant(NOBODY) as session:
        found = await find_member(session, secret)
    assert found is not None
    return SignedIn(database, found[0], project_id)


async def make(database: Database, name: str) -> SignedIn:
    async with database.operator() as session:
        scope = await create_organisation(session, name=name, allowed_regions=["fr-par", "DE"], requests_per_minute=60)
        project = await create_project(session, scope, name="default", regions=["FR"], jurisdiction_of=JURISDICTIONS)
        member_id = MemberId(new_id())
        email = f"{name}@example.org"
        account_id = await open_account(session, email=email, password_hash="$argon2id$x")
        await add_member(session, scope, member_id=member_id, account_id=account_id, email=email, role=Role.OWNER)
    return await sign_in(database, scope, member_id, ProjectId(project.id))


@pytest.fixture
async def mia(database: Database) -> SignedIn:
    return await make(database, "mia")


@pytest.fixture
async def superuser(postgres: Any, database_urls: Any) -> AsyncIterator[Superuser]:
    connection = await postgres.superuser(database_urls.name)
    yield connection.execute
    await connection.close()


async def facts_of(database: Database, token: str) -> KeyFacts | None:
    async with database.ingest() as session:
        return await resolve(session, digest_all(token, PEPPERS), JURISDICTIONS)


async def revision(database: Database) -> int:
    async with database.operator() as session:
        return await read_keys_revision(session)


async def test_token_stands_for_the_playground_key_of_its_project(mia: SignedIn) -> None:
    issued = await mia.issue()
    assert is_well_formed(issued.token)
    assert is_browser_token(issued.token)
    assert 599 < issued.expires_in_s <= 600
    facts = await facts_of(mia.database, issued.token)
    assert facts is not None
    assert (facts.tenant_id, facts.project_id, facts.kind) == (
        mia.scope.tenant_id,
        mia.project_id,
        KeyKind.INFERENCE,
    )
    assert facts.regions == ("fr-par",), "as its project narrows it"
    assert facts.valid_for_s is not None
    assert 590 < facts.valid_for_s <= 600
    async with mia.database.tenant(mia.scope) as session:
        (key,) = await keys.list_keys(session, mia.scope, limit=10, before=None)
    assert (key.id, key.name, key.kind) == (facts.key_id, PLAYGROUND_NAME, "inference")


async def test_all_tokens_of_a_project_share_one_key_also_when_issued_at_once(mia: SignedIn) -> None:
    others = [await mia.sign_in_again() for _ in range(5)]
    issued = await asyncio.gather(*(one.issue() for one in (mia, *others)))
    facts = [await facts_of(mia.database, one.token) for one in issued]
    assert len({found.key_id for found in facts if found is not None}) == 1
    assert None not in facts


async def test_a_tenants_own_key_of_that_name_is_not_taken_for_it(mia: SignedIn) -> None:
    async with mia.database.tenant(mia.scope) as session:
        own, _ = await create_key(
            session,
            mia.scope,
            mia.project_id,
            KeyOrder(PLAYGROUND_NAME, KeyKind.INFERENCE),
            peppers=PEPPERS,
            jurisdiction_of=JURISDICTIONS,
        )
    facts = await facts_of(mia.database, (await mia.issue()).token)
    assert facts is not None
    assert facts.key_id != own.id


async def test_issuing_announces_nothing_and_a_sign_out_ends_the_sessions_tokens_and_no_others(mia: SignedIn) -> None:
    other = await mia.sign_in_again()
    first, kept = await mia.issue(), await other.issue()
    before = await revision(mia.database)
    second = await mia.issue()
    assert await revision(mia.database) == before
    await mia.sign_out()
    assert await revision(mia.database) > before
    assert [await facts_of(mia.database, one.token) for one in (first, second)] == [None, None]
    assert await facts_of(mia.database, kept.token) is not None


async def test_a_session_that_has_ended_gets_none(mia: SignedIn) -> None:
    await mia.sign_out()
    with pytest.raises(Unauthenticated):
        await mia.issue()


async def test_expired_token_opens_nothing_and_its_deletion_announces_nothing(
    mia: SignedIn, superuser: Superuser
) -> None:
    old = await mia.issue()
    await superuser("UPDATE browser_token SET expires_at = now()")
    assert await facts_of(mia.database, old.token) is None
    before = await revision(mia.database)
    await mia.issue()
    async with mia.database.tenant(mia.scope) as session:
        assert await session.scalar(text("SELECT count(id) FROM browser_token")) == 1
    assert await revision(mia.database) == before


async def test_token_does_not_outlive_its_session(mia: SignedIn, superuser: Superuser) -> None:
    await superuser("UPDATE member_session SET expires_at = now() + interval '1 minute'")
    assert (await mia.issue()).expires_in_s <= 60


async def test_a_session_has_a_bounded_number_of_live_tokens_also_when_issued_at_once(mia: SignedIn) -> None:
    results = await asyncio.gather(*(mia.issue() for _ in range(MAX_LIVE_PER_SESSION + 5)), return_exceptions=True)
    refused = [result for result in results if isinstance(result, LimitExceeded)]
    assert len(refused) == 5
    assert all(590 < error.retry_after_s <= 600 for error in refused)
    assert not [result for result in results if not isinstance(result, LimitExceeded | IssuedToken)]


async def test_revoked_playground_key_ends_its_tokens_and_the_next_one_has_a_new_key(mia: SignedIn) -> None:
    issued = await mia.issue()
    facts = await facts_of(mia.database, issued.token)
    assert facts is not None
    before = await revision(mia.database)
    async with mia.database.tenant(mia.scope) as session:
        await revoke_key(session, mia.scope, KeyId(facts.key_id))
    assert await revision(mia.database) > before
    assert await facts_of(mia.database, issued.token) is None
    again = await facts_of(mia.database, (await mia.issue()).token)
    assert again is not None
    assert again.key_id != facts.key_id


async def test_token_of_a_suspended_tenant_is_found_as_inactive(mia: SignedIn, superuser: Superuser) -> None:
    issued = await mia.issue()
    before = await revision(mia.database)
    await superuser("UPDATE tenant SET state = 'suspended'")
    facts = await facts_of(mia.database, issued.token)
    assert facts is not None
    assert not facts.active
    assert await revision(mia.database) > before


async def test_token_opens_no_management_api(mia: SignedIn) -> None:
    issued = await mia.issue()
    with pytest.raises(Denied):
        async with mia.database.tenant(NOBODY) as session:
            await authenticate(session, issued.token, PEPPERS, None)


async def test_tokens_are_seen_by_their_tenant_alone_and_their_digests_by_nobody(mia: SignedIn) -> None:
    await mia.issue()
    other = await make(mia.database, "tom")
    async with mia.database.tenant(other.scope) as session:
        assert await session.scalar(text("SELECT count(id) FROM browser_token")) == 0
    for statement in (
        "SELECT digest FROM browser_token",
        "UPDATE browser_token SET expires_at = now() + interval '1 year'",
        f"""INSERT INTO browser_token (tenant_id, id, pepper_version, digest, key_id, session_id, expires_at)
            SELECT '{mia.scope.tenant_id}', uuidv7(), 1, sha256('x'), uuidv7(), uuidv7(), now()""",
    ):
        with pytest.raises(DBAPIError):
            async with mia.database.tenant(other.scope) as session:
                await session.execute(text(statement))


async def test_regions_and_operators_roles_see_no_tokens(mia: SignedIn) -> None:
    for transaction in (mia.database.ingest, mia.database.operator):
        with pytest.raises(DBAPIError, match="permission denied"):
            async with transaction() as session:
                await session.execute(text("SELECT id FROM browser_token"))


async def test_sign_out_during_an_issue_neither_deadlocks_nor_leaves_a_token(mia: SignedIn) -> None:
    for _ in range(10):
        one = await mia.sign_in_again()
        results = await asyncio.gather(one.issue(), one.issue(), one.sign_out(), return_exceptions=True)
        for result in results[:2]:
            if isinstance(result, IssuedToken):
                assert await facts_of(mia.database, result.token) is None
            else:
                assert isinstance(result, Unauthenticated)
        assert results[2] is None
