"""An audit log with entries of every action, two checkpoints, and a tail that nobody has signed yet."""

import base64
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.pool import NullPool

from chappe_store.audit_log.chain import Checkpoint, Entry, Verifier
from chappe_store.audit_log.queries import read_log
from chappe_store.audit_log.service import make_checkpoint, verify_log
from chappe_store.audit_log.signing import parse_signing_keys
from chappe_store.session import Database
from tests.conftest import DatabaseUrls

KEYS_TEXT = f"1:{base64.b64encode(b'k' * 32).decode()}"
KEYS = parse_signing_keys(KEYS_TEXT)


@dataclass(frozen=True)
class Log:
    """The log of one test's database."""

    database: Database

    async def change(self, *statements: str) -> None:
        """As the operator, in one transaction."""
        async with self.database.operator() as session:
            for statement in statements:
                await session.execute(text(statement))

    async def sign(self) -> Checkpoint:
        async with self.database.operator() as session:
            made = await make_checkpoint(session, KEYS)
        assert made is not None
        return made

    async def verify(self) -> Verifier:
        return await self.read_into(Verifier(KEYS.public))

    async def read_into(self, verifier: Verifier) -> Verifier:
        async with self.database.audit() as session:
            await verify_log(session, verifier)
        return verifier

    async def entries(self) -> list[Entry]:
        async with self.database.audit() as session:
            return [record async for record in read_log(session) if isinstance(record, Entry)]


@pytest.fixture
def log(database: Database) -> Log:
    return Log(database)


@pytest.fixture
async def signed(log: Log) -> Log:
    """Entries 1 to 4 and 5 to 8 are under a checkpoint each, 9 and 10 are not. A tenant's first quota has one of its
    own."""
    await log.change(
        *(f"INSERT INTO publisher (id, name, title) VALUES (uuidv7(), 'p{number}', 'P')" for number in range(2)),
        "INSERT INTO region (name, jurisdiction, gateway_url, position) VALUES ('fr-par', 'FR', 'http://x', 0)",
        "UPDATE publisher SET title = 'Q' WHERE name = 'p0'",
    )
    await log.sign()
    await log.change(
        "INSERT INTO tenant (id, name, state, currency, allowed_regions, requests_per_minute) "
        "VALUES (uuidv7(), 'T', 'active', 'EUR', '{}', 60)",
        "UPDATE tenant SET state = 'suspended'",
        "INSERT INTO region_credential (digest, region) VALUES (sha256('x'), 'fr-par')",
    )
    await log.sign()
    await log.change("DELETE FROM region_credential", "UPDATE publisher SET title = 'é \" \\ 🗼'  WHERE name = 'p1'")
    return log


@pytest.fixture
async def tampering(database_urls: DatabaseUrls) -> AsyncIterator[AsyncSession]:
    """The server's highest rights with triggers off, in a session whose transactions are rolled back by the test."""
    engine = create_async_engine(database_urls.superuser, poolclass=NullPool)
    async with AsyncSession(engine) as session:
        yield session
        await session.rollback()
    await engine.dispose()
