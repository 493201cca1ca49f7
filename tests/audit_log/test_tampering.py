"""Whatever somebody with the database's highest rights does to a signed log, `verify` finds it."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import CursorResult, text
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_store.audit_log.chain import NotIntact, Verifier
from chappe_store.audit_log.models import AuditCheckpoint, AuditEntry
from chappe_store.audit_log.service import verify_log
from tests.audit_log.conftest import KEYS, Log

ENTRIES, SIGNED, CHECKPOINTS = 10, 8, (4, 8)
_OTHER_HASH = "sha256(hash)"
ENTRY_EDITS = {
    "sequence": "sequence + 1000",
    "id": "uuidv7()",
    "recorded_at": "recorded_at + interval '1 microsecond'",
    "tenant_id": "CASE WHEN tenant_id IS NULL THEN uuidv7() END",
    "actor_kind": "'member'",
    "actor": "actor || ' '",
    "address": "coalesce(address, '') || '1'",
    "request_id": "CASE WHEN request_id IS NULL THEN uuidv7() END",
    "action": "CASE action WHEN 'created' THEN 'changed' ELSE 'created' END",
    "noun": "upper(noun)",
    "subject": "subject || '0'",
    "before": "CASE WHEN before IS NULL THEN '{}' ELSE before::text || ' ' END::json",
    "after": "CASE WHEN after IS NULL THEN '{}'::json END",
    "hash": _OTHER_HASH,
}
CHECKPOINT_EDITS = {
    "sequence": "sequence - 1",
    "hash": _OTHER_HASH,
    "made_at": "made_at - interval '1 microsecond'",
    "key_version": "key_version + 1",
    "previous_signature": "sha512(signature)",
    "signature": "sha512(signature)",
}
# Every later hash is computed again, as the triggers do it: the chain alone would be sound.
REWRITE = """
    WITH RECURSIVE again AS (
        SELECT 0::bigint AS sequence, sha256('') AS hash
        UNION ALL
        SELECT e.sequence, sha256(audit_encoding(
            'chappe audit entry 1', encode(a.hash, 'hex'), e.sequence::text, e.id::text,
            (extract(epoch FROM e.recorded_at) * 1000000)::bigint::text, e.tenant_id::text, e.actor_kind, e.actor,
            e.address, e.request_id::text, e.action, e.noun, e.subject, e.before::text, e.after::text))
        FROM again a JOIN audit_entry e ON e.sequence = a.sequence + 1
    )
    UPDATE audit_entry e SET hash = again.hash FROM again WHERE again.sequence = e.sequence
"""

positions = st.integers(1, ENTRIES)
signed_positions = st.integers(1, SIGNED)


def test_every_column_is_tampered_with() -> None:
    assert set(ENTRY_EDITS) == set(AuditEntry.__table__.columns.keys())
    assert set(CHECKPOINT_EDITS) == set(AuditCheckpoint.__table__.columns.keys())


edits = st.builds(
    lambda column, position: [f"UPDATE audit_entry SET {column} = {ENTRY_EDITS[column]} WHERE sequence = {position}"],
    st.sampled_from(sorted(ENTRY_EDITS)),
    positions,
)
edits_with_new_hashes = st.builds(
    lambda column, position: [
        f"UPDATE audit_entry SET {column} = {ENTRY_EDITS[column]} WHERE sequence = {position}",
        REWRITE,
    ],
    st.sampled_from(sorted(set(ENTRY_EDITS) - {"sequence", "hash"})),
    signed_positions,
)
checkpoint_edits = st.builds(
    lambda column, sequence: [
        f"UPDATE audit_checkpoint SET {column} = {CHECKPOINT_EDITS[column]} WHERE sequence = {sequence}"
    ],
    st.sampled_from(sorted(CHECKPOINT_EDITS)),
    st.sampled_from(CHECKPOINTS),
)
drops = st.builds(
    lambda first, count: [
        f"DELETE FROM audit_entry WHERE sequence BETWEEN {first} AND {min(first + count, ENTRIES - 1)}"
    ],
    st.integers(1, ENTRIES - 1),
    st.integers(0, ENTRIES),
)
drops_closed_up = st.builds(
    lambda position: [
        f"DELETE FROM audit_entry WHERE sequence = {position}",
        f"UPDATE audit_entry SET sequence = -sequence WHERE sequence > {position}",
        "UPDATE audit_entry SET sequence = -sequence - 1 WHERE sequence < 0",
        REWRITE,
    ],
    signed_positions,
)
truncations = st.builds(
    lambda last: [f"DELETE FROM audit_entry WHERE sequence > {last}"],
    st.integers(0, SIGNED - 1),
)
reorderings = st.builds(
    lambda one, distance: [
        f"UPDATE audit_entry SET sequence = -sequence WHERE sequence IN ({one}, {_other(one, distance)})",
        f"UPDATE audit_entry SET sequence = {one + _other(one, distance)} + sequence WHERE sequence < 0",
    ],
    positions,
    st.integers(1, ENTRIES - 1),
)
forgeries = st.builds(
    lambda position, rehashed: [
        f"UPDATE audit_entry SET sequence = -sequence WHERE sequence >= {position}",
        "UPDATE audit_entry SET sequence = 1 - sequence WHERE sequence < 0",
        (
            "INSERT INTO audit_entry (sequence, id, recorded_at, actor_kind, actor, action, noun, subject, hash) "
            f"SELECT {position}, uuidv7(), recorded_at, 'member', 'x', 'changed', 'tenant', 'x', sha256('x') "
            f"FROM audit_entry WHERE sequence = {position} + 1"
        ),
        *([REWRITE] if rehashed else []),
    ],
    signed_positions,
    st.booleans(),
)
lost_checkpoint = st.just([f"DELETE FROM audit_checkpoint WHERE sequence = {CHECKPOINTS[0]}"])


def _other(one: int, distance: int) -> int:
    return (one - 1 + distance) % ENTRIES + 1


@pytest.mark.timeout(300)
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    statements=st.one_of(
        edits,
        edits_with_new_hashes,
        checkpoint_edits,
        drops,
        drops_closed_up,
        truncations,
        reorderings,
        forgeries,
        lost_checkpoint,
    )
)
async def test_tampering_is_found(signed: Log, tampering: AsyncSession, statements: list[str]) -> None:
    await tampering.execute(text("SET LOCAL session_replication_role = replica"))
    # A primary key is checked row by row, and a constraint would stop a negative number on its way.
    await tampering.execute(text("ALTER TABLE audit_entry DROP CONSTRAINT IF EXISTS ck_audit_entry_sequence"))
    try:
        for statement in statements:
            result = await tampering.execute(text(statement))
            assert isinstance(result, CursorResult)
            assert result.rowcount > 0 or statement.startswith("UPDATE audit_entry SET sequence"), statement
        with pytest.raises(NotIntact):
            await verify_log(tampering, Verifier(KEYS.public))
    finally:
        await tampering.rollback()


async def test_an_untouched_log_is_intact(signed: Log, tampering: AsyncSession) -> None:
    """The same reading as above finds nothing where nothing is wrong; computing all hashes in SQL changes nothing."""
    await tampering.execute(text("SET LOCAL session_replication_role = replica"))
    await tampering.execute(text(REWRITE))
    verifier = Verifier(KEYS.public)
    await verify_log(tampering, verifier)
    assert (verifier.entries, verifier.checkpoints, verifier.position.sequence) == (ENTRIES, 2, ENTRIES)


async def test_a_tail_cut_off_with_its_checkpoint_is_found_by_an_exported_one(
    signed: Log, tampering: AsyncSession
) -> None:
    exported = (await signed.verify()).last_checkpoint
    await tampering.execute(text("SET LOCAL session_replication_role = replica"))
    for table in ("audit_entry", "audit_checkpoint"):
        await tampering.execute(text(f"DELETE FROM {table} WHERE sequence > 4"))
    await verify_log(tampering, Verifier(KEYS.public))  # In itself this log is sound.
    with pytest.raises(NotIntact, match="ends with entry 4"):
        await verify_log(tampering, Verifier(KEYS.public, known=exported))
    await tampering.execute(text("DELETE FROM audit_entry"))
    await tampering.execute(text("DELETE FROM audit_checkpoint"))
    with pytest.raises(NotIntact, match="ends with entry 0"):
        await verify_log(tampering, Verifier(KEYS.public, known=exported))


async def test_a_history_written_anew_is_found_by_an_exported_checkpoint(signed: Log, tampering: AsyncSession) -> None:
    exported = (await signed.verify()).last_checkpoint
    await tampering.execute(text("SET LOCAL session_replication_role = replica"))
    await tampering.execute(text("UPDATE audit_entry SET actor = 'nobody'"))
    await tampering.execute(text(REWRITE))
    await tampering.execute(text("DELETE FROM audit_checkpoint"))
    await verify_log(tampering, Verifier(KEYS.public))
    with pytest.raises(NotIntact, match="from elsewhere"):
        await verify_log(tampering, Verifier(KEYS.public, known=exported))
