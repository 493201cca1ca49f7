"""Checkpoints are signed over an intact log only, and the control plane notices when it is not."""

import asyncio
import base64
from collections.abc import Iterator

import pytest
import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from structlog.typing import EventDict

from chappe_control.checkpoints import Signer
from chappe_control.working import Work, working
from chappe_kernel.errors import Invalid
from chappe_store.audit_log.chain import NotIntact, Verifier
from chappe_store.audit_log.service import make_checkpoint
from chappe_store.audit_log.signing import format_public_keys, parse_public_keys, parse_signing_keys
from tests.audit_log.conftest import KEYS, KEYS_TEXT, Log
from tests.conftest import DatabaseUrls, PostgresServer

NEW_KEYS_TEXT = f"{KEYS_TEXT},2:{base64.b64encode(b'n' * 32).decode()}"
TAMPERING = {
    "the entry that was signed is another one": "UPDATE audit_entry SET hash = sha256(hash) WHERE sequence = 8",
    "entries are cut off": "DELETE FROM audit_entry WHERE sequence > 6",
    "a new entry was edited": "UPDATE audit_entry SET actor = 'x' WHERE sequence = 9",
    "a new entry is missing": "DELETE FROM audit_entry WHERE sequence = 9",
    "the checkpoint was edited": "UPDATE audit_checkpoint SET hash = sha256(hash) WHERE sequence = 8",
}


@pytest.mark.parametrize("tampering", TAMPERING)
async def test_damage_is_never_signed(
    signed: Log, postgres: PostgresServer, database_urls: DatabaseUrls, tampering: str
) -> None:
    await tamper(postgres, database_urls, TAMPERING[tampering])
    with pytest.raises(NotIntact):
        await signed.sign()


async def test_nothing_new_needs_no_new_checkpoint(signed: Log) -> None:
    first = await signed.sign()
    assert first.sequence == 10
    assert await signed.sign() == first


async def test_an_empty_log_has_nothing_to_sign(log: Log) -> None:
    async with log.database.operator() as session:
        assert await make_checkpoint(session, KEYS) is None
    assert (await log.verify()).entries == 0


async def test_a_checkpoint_that_a_process_remembers_may_not_vanish(
    signed: Log, postgres: PostgresServer, database_urls: DatabaseUrls
) -> None:
    seen = await signed.sign()
    await tamper(postgres, database_urls, "DELETE FROM audit_checkpoint WHERE sequence > 4")
    with pytest.raises(NotIntact, match="the checkpoint at 10 is missing"):
        async with signed.database.operator() as session:
            await make_checkpoint(session, KEYS, seen=seen)


async def test_a_new_key_signs_and_the_old_signatures_stay_valid(signed: Log) -> None:
    new = parse_signing_keys(NEW_KEYS_TEXT)
    async with signed.database.operator() as session:
        made = await make_checkpoint(session, new)
    assert made is not None and made.key_version == 2
    await signed.read_into(Verifier(new.public))
    with pytest.raises(NotIntact, match="unknown key 2"):
        await signed.read_into(Verifier(KEYS.public))


async def test_another_key_of_the_same_version_signed_nothing(signed: Log) -> None:
    other = {1: Ed25519PrivateKey.generate().public_key()}
    with pytest.raises(NotIntact, match="wrong signature"):
        await signed.read_into(Verifier(other))


def test_public_keys_read_back() -> None:
    text = format_public_keys(parse_signing_keys(NEW_KEYS_TEXT).public)
    assert format_public_keys(parse_public_keys(text)) == text
    assert KEYS_TEXT[2:] not in text


@pytest.mark.parametrize(
    "text", ["", "1:", "x:" + KEYS_TEXT[2:], KEYS_TEXT[2:], "1:c2hvcnQ=", f"{KEYS_TEXT},{KEYS_TEXT}", "1:%%%"]
)
def test_wrong_keys_stop_the_start_and_are_not_shown(text: str) -> None:
    with pytest.raises(Invalid) as raised:
        parse_signing_keys(text)
    assert KEYS_TEXT[2:] not in raised.value.message


@pytest.fixture
def events() -> Iterator[list[EventDict]]:
    with structlog.testing.capture_logs() as captured:
        yield captured


async def test_the_control_plane_signs_regularly_and_raises_the_alarm(
    signed: Log, postgres: PostgresServer, database_urls: DatabaseUrls, events: list[EventDict]
) -> None:
    async with working([Work("audit_log", Signer(signed.database, KEYS).sign, 0.02)]):
        await until(events, "audit_log_signed", sequence=10)
        await signed.change("INSERT INTO publisher (id, name, title) VALUES (uuidv7(), 'late', 'P')")
        await until(events, "audit_log_signed", sequence=11)
        await tamper(postgres, database_urls, "DELETE FROM audit_checkpoint", "DELETE FROM audit_entry")
        await until(events, "audit_log_not_intact")


async def until(events: list[EventDict], event: str, **fields: object) -> None:
    async with asyncio.timeout(20):
        while not any(found["event"] == event and fields.items() <= found.items() for found in events):  # noqa: ASYNC110 -- a logger sets no event
            await asyncio.sleep(0.01)


async def tamper(postgres: PostgresServer, urls: DatabaseUrls, *statements: str) -> None:
    connection = await postgres.superuser(urls.name)
    try:
        await connection.execute("SET session_replication_role = replica")
        for statement in statements:
            assert not (await connection.execute(statement)).endswith(" 0")
    finally:
        await connection.close()
