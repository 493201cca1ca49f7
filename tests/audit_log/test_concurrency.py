"""However many change something at once, there is one chain, and nobody waits in a circle."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest
from sqlalchemy import text

from chappe_kernel.ids import new_id
from chappe_store.queries import bump_keys_revision
from chappe_store.session import Database
from tests.audit_log.conftest import Log
from tests.conftest import TESTS, DatabaseUrls

WRITERS = 50
ROUNDS = 4


@pytest.fixture
async def database(database_urls: DatabaseUrls) -> AsyncIterator[Database]:
    """A connection for each writer that the server has room for; the others wait for one."""
    opened = Database(database_urls.app, pool_size=WRITERS, origin=TESTS)
    yield opened
    await opened.close()


async def test_50_writers_make_one_chain_without_deadlock(log: Log) -> None:
    """Half of them take the keys' revision first and change an audited row then, half the other way round: with the
    chain's lock taken at the change and not at the commit, these two would deadlock."""

    async def write(number: int) -> None:
        for _ in range(ROUNDS):
            async with log.database.operator() as session:
                if number % 2:
                    await bump_keys_revision(session)
                await session.execute(text(insert(number)))
                if not number % 2:
                    await bump_keys_revision(session)

    await asyncio.gather(*(write(number) for number in range(WRITERS)))
    verifier = await log.verify()
    assert verifier.entries == WRITERS * ROUNDS


async def test_numbers_follow_the_commits_and_rollbacks_leave_no_gap(log: Log) -> None:
    async def write(number: int) -> None:
        with suppress(ZeroDivisionError):
            async with log.database.operator() as session:
                await session.execute(text(insert(number)))
                assert 1 / (number % 3)

    await asyncio.gather(*(write(number) for number in range(WRITERS)))
    entries = await log.entries()
    assert [entry.sequence for entry in entries] == list(range(1, len(entries) + 1))
    assert len(entries) == sum(number % 3 != 0 for number in range(WRITERS))
    times = [entry.recorded_at for entry in entries]
    assert times == sorted(times)


async def test_an_open_transaction_that_changed_something_holds_nobody_up(log: Log) -> None:
    async with log.database.operator() as waiting:
        await waiting.execute(text(insert(1)))
        async with asyncio.timeout(5):
            await log.change(insert(2))
    assert (await log.verify()).entries == 2


async def test_checkpoints_beside_writers_sign_what_is_there(log: Log) -> None:
    async def write(number: int) -> None:
        await log.change(insert(number))

    async def sign() -> None:
        for _ in range(5):
            await log.sign()

    await write(0)
    await asyncio.gather(sign(), sign(), *(write(number) for number in range(WRITERS)))
    await log.sign()
    verifier = await log.verify()
    assert verifier.last_checkpoint is not None
    assert (verifier.entries, verifier.last_checkpoint.sequence) == (WRITERS + 1, WRITERS + 1)


def insert(number: int) -> str:
    return f"INSERT INTO publisher (id, name, title) VALUES (uuidv7(), '{new_id()}', 'writer {number}')"
