"""Whoever asks what changed since a revision misses nothing, learns of nobody else, and asks the database rarely."""

import asyncio
from contextlib import AbstractAsyncContextManager
from uuid import UUID

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_control import key_feed
from chappe_control.key_feed import FRESH_S, KeyFeed
from chappe_kernel.clock import SystemClock
from chappe_kernel.ids import KEY, TenantId, encode_id, new_id
from chappe_kernel.wire.control import KeyChange, KeyChanges
from chappe_store import queries
from chappe_store.audit_log.origin import Origin
from chappe_store.session import Database, TenantScope
from tests.control.world import Cell
from tests.portal.world import Customer, PortalWorld, unlike


class CountingDatabase(Database):
    """The real one, which counts how often somebody reads as a region."""

    readings = 0

    def ingest(self, origin: Origin | None = None) -> AbstractAsyncContextManager[AsyncSession]:
        self.readings += 1
        return super().ingest(origin)


class StandingClock(SystemClock):
    """Monotonic time stands still until somebody moves it."""

    monotonic_s = 0.0

    def monotonic(self) -> float:
        return self.monotonic_s


@pytest.fixture
def paris(portal: PortalWorld) -> Cell:
    return portal.cells["fr-par"]


async def key_of(portal: PortalWorld, customer: Customer, name: str) -> UUID:
    ((key_id,),) = await portal.sql("SELECT id FROM api_key WHERE tenant_id = $1 AND name = $2", customer.id, name)
    return UUID(str(key_id))


async def since(paris: Cell, before: KeyChanges) -> KeyChanges:
    return await paris.key_changes(before.revision, before.epoch)


async def test_nothing_changed_is_told_as_nothing(paris: Cell) -> None:
    before = await paris.key_changes()
    assert before.changes is None, "who has no revision yet starts with nothing remembered"
    assert await since(paris, before) == KeyChanges(before.epoch, before.revision, ())


async def test_a_revoked_key_is_told_once_and_by_its_own_name(portal: PortalWorld, paris: Cell) -> None:
    customer = await portal.sign_up(unlike())
    await customer.make_key("app")
    key_id = await key_of(portal, customer, "app")
    before = await paris.key_changes()
    assert (await customer.visitor.post(f"/keys/{encode_id(KEY, key_id)}/revoke")).status_code == 303
    after = await since(paris, before)
    assert after.changes == (KeyChange(customer.id, key_id),)
    assert (await since(paris, after)).changes == ()


async def test_what_is_new_is_not_told_because_nobody_remembers_it(portal: PortalWorld, paris: Cell) -> None:
    before = await paris.key_changes()
    customer = await portal.sign_up(unlike())
    await customer.make_key("app")
    assert (await since(paris, before)).changes == ()


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE tenant SET state = 'suspended' WHERE id = $1",
        "UPDATE tenant SET allowed_regions = '{fr-par}' WHERE id = $1",
        "UPDATE project SET allowed_regions = '{FR}' WHERE tenant_id = $1",
    ],
)
async def test_what_concerns_every_key_of_a_tenant_is_told_as_that(
    portal: PortalWorld, paris: Cell, change: str
) -> None:
    customer = await portal.sign_up(unlike())
    before = await paris.key_changes()
    await portal.sql(change, customer.id)
    assert (await since(paris, before)).changes == (KeyChange(customer.id),)


async def test_what_concerns_everybody_makes_everything_forgotten(portal: PortalWorld, paris: Cell) -> None:
    before = await paris.key_changes()
    await portal.sql("UPDATE region SET jurisdiction = jurisdiction WHERE name = 'de-fra'")
    after = await since(paris, before)
    assert (after.changes, after.revision) == (None, before.revision + 1)
    assert (await since(paris, after)).changes == ()


async def test_signing_out_is_told_of_the_key_that_the_tokens_stand_for(portal: PortalWorld, paris: Cell) -> None:
    customer = await portal.sign_up(unlike())
    assert (await customer.visitor.post_json("/playground/token")).status_code == 201
    before = await paris.key_changes()
    assert (await customer.visitor.post("/sign-out")).status_code == 303
    ((key_id,),) = await portal.sql("SELECT id FROM api_key WHERE tenant_id = $1", customer.id)
    assert (await since(paris, before)).changes == (KeyChange(customer.id, UUID(str(key_id))),)


async def test_a_key_that_changed_often_is_told_once_to_whoever_missed_any_of_it(
    portal: PortalWorld, paris: Cell
) -> None:
    customer = await portal.sign_up(unlike())
    await customer.make_key("app")
    key_id = await key_of(portal, customer, "app")
    asked = [await paris.key_changes()]
    for models in ("{a}", "{b}", "{c}"):
        await portal.sql("UPDATE api_key SET models = $2 WHERE id = $1", key_id, models[1:-1].split(","))
        asked.append(await paris.key_changes())
    for before in asked[:-1]:
        assert (await since(paris, before)).changes == (KeyChange(customer.id, key_id),)
    assert (await since(paris, asked[-1])).changes == ()


async def test_another_databases_revision_makes_everything_forgotten(portal: PortalWorld, paris: Cell) -> None:
    """After a restore the numbers start again where the backup stood, and mean other changes."""
    before = await paris.key_changes()
    for revision, epoch in ((before.revision, "another"), (before.revision, ""), (before.revision + 1, before.epoch)):
        assert (await paris.key_changes(revision, epoch)).changes is None
    async with portal.database.operator() as session:
        await queries.renew_epoch(session)
    after = await since(paris, before)
    assert after.epoch != before.epoch and after.changes is None


async def test_too_many_changes_make_everything_forgotten(
    portal: PortalWorld, paris: Cell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(key_feed, "MAX_CHANGES", 2)
    customers = [await portal.sign_up(unlike()) for _ in range(3)]
    before = await paris.key_changes()
    for count, told in ((2, True), (3, False)):
        for customer in customers[:count]:
            await portal.sql("UPDATE tenant SET allowed_regions = '{FR}' WHERE id = $1", customer.id)
        assert ((await since(paris, before)).changes is not None) is told


async def test_a_change_is_told_with_its_commit_and_not_missed_by_who_asked_meanwhile(
    portal: PortalWorld, paris: Cell
) -> None:
    customer = await portal.sign_up(unlike())
    before = await paris.key_changes()
    async with portal.database.operator() as session:
        await session.execute(text("UPDATE tenant SET allowed_regions = '{FR}' WHERE id = :id"), {"id": customer.id})
        meanwhile = await since(paris, before)
        assert meanwhile == KeyChanges(before.epoch, before.revision, ())
    assert (await since(paris, meanwhile)).changes == (KeyChange(customer.id),)


async def test_whoever_follows_many_writers_hears_of_every_change(portal: PortalWorld, paris: Cell) -> None:
    customers = [await portal.sign_up(unlike()) for _ in range(8)]
    heard: set[UUID] = set()
    follower = await paris.key_changes()

    async def write(customer: Customer) -> None:
        await portal.sql("UPDATE tenant SET allowed_regions = '{FR}' WHERE id = $1", customer.id)

    async def follow(before: KeyChanges) -> KeyChanges:
        after = await since(paris, before)
        assert after.changes is not None and after.revision >= before.revision
        heard.update(change.tenant_id for change in after.changes)
        return after

    writing = asyncio.gather(*(write(customer) for customer in customers))
    while not writing.done():
        follower = await follow(follower)
    await writing
    await follow(follower)
    assert heard == {customer.id for customer in customers}


async def test_a_tenant_reads_its_own_changes_and_writes_none(portal: PortalWorld) -> None:
    mine, other = [await portal.sign_up(unlike()) for _ in range(2)]
    for customer in (mine, other):
        await portal.sql("UPDATE tenant SET allowed_regions = '{FR}' WHERE id = $1", customer.id)
    async with portal.database.tenant(mine.scope) as session:
        assert {row.tenant_id for row in await queries.read_key_changes(session, 0, 1000)} == {mine.id}
        assert await queries.read_last_key_change(session, other.scope) is None
        assert await queries.read_last_key_change(session, mine.scope) is not None
    nobody = TenantScope(TenantId(new_id()))
    for scope in (mine.scope, nobody):
        for statement in (
            "INSERT INTO key_change VALUES (1000000, NULL, NULL, now())",
            "UPDATE key_change SET revision = 0",
            "DELETE FROM key_change",
        ):
            with pytest.raises(DBAPIError, match="permission denied"):
                async with portal.database.tenant(scope) as session:
                    await session.execute(text(statement))


async def test_however_many_ask_the_database_is_asked_once(portal: PortalWorld) -> None:
    database = CountingDatabase(portal.settings.database_url)
    clock = StandingClock()
    feed = KeyFeed(database, clock)
    newest = await feed.since(0, "")
    assert database.readings == 1
    answers = await asyncio.gather(*(feed.since(newest.revision, newest.epoch) for _ in range(50)))
    assert {answer.changes for answer in answers} == {()}
    assert database.readings == 1
    customer = await portal.sign_up(unlike())
    await portal.sql("UPDATE tenant SET allowed_regions = '{FR}' WHERE id = $1", customer.id)
    assert (await feed.since(newest.revision, newest.epoch)).changes == (), "still fresh enough"
    clock.monotonic_s += FRESH_S
    answers = await asyncio.gather(*(feed.since(newest.revision, newest.epoch) for _ in range(50)))
    assert {answer.changes for answer in answers} == {(KeyChange(customer.id),)}
    assert database.readings == 3, "the revision, and what led to it"
    await database.close()


@pytest.mark.parametrize("query", ["", "?since=-1", "?since=x", f"?since={2**70}", "?since=0&epoch=" + "e" * 200])
async def test_a_question_that_makes_no_sense_is_400(paris: Cell, query: str) -> None:
    assert (await paris.call("GET", f"/keys/changes{query}")).status_code == 400
