"""Signing the log, and verifying it."""

from collections.abc import AsyncIterator, Iterable, Iterator

import msgspec
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_kernel.errors import Invalid
from chappe_store.audit_log import queries
from chappe_store.audit_log.chain import Checkpoint, NotIntact, Record, Verifier, check_signature
from chappe_store.audit_log.signing import SigningKeys


async def verify_log(session: AsyncSession, verifier: Verifier) -> None:
    """Read the whole log into the verifier, in a read-only snapshot (`audit`). Raises `NotIntact`."""
    async for record in queries.read_log(session):
        verifier.take(record)
    verifier.finish()


async def make_checkpoint(
    session: AsyncSession, keys: SigningKeys, *, seen: Checkpoint | None = None
) -> Checkpoint | None:
    """Sign the log as it ends now. The newest checkpoint, made now or before; None while the log is empty.

    What came since the newest checkpoint is verified first, so that no damage is ever signed; `seen` is one that the
    caller remembers, and it must be in the log still. Raises `NotIntact`, and then nothing is signed. As the operator.
    """
    now = await queries.lock_signing(session)
    last = await queries.last_checkpoint(session)
    await _check_still_there(session, last, seen, keys)
    verifier = Verifier(keys.public, start=last)
    async for record in queries.read_log(session, after=0 if last is None else last.sequence):
        verifier.take(record)
    if not verifier.entries:
        return last
    made = keys.sign(
        Checkpoint(
            sequence=verifier.position.sequence,
            hash=verifier.position.hash,
            made_at=now,
            key_version=0,
            previous_signature=None if last is None else last.signature,
            signature="",
        )
    )
    await queries.insert_checkpoint(session, made)
    return made


async def export_log(session: AsyncSession) -> AsyncIterator[bytes]:
    """JSON Lines, each with its newline: what `read_export` reads. In a read-only snapshot (`audit`)."""
    encoder = msgspec.json.Encoder()
    async for record in queries.read_log(session):
        yield encoder.encode(record) + b"\n"


def read_export(lines: Iterable[bytes]) -> Iterator[Record]:
    """An exported log, or a single exported checkpoint. Raises `Invalid` naming the line that is none of ours."""
    decoder: msgspec.json.Decoder[Record] = msgspec.json.Decoder(Record)
    for number, line in enumerate(lines, start=1):
        try:
            yield decoder.decode(line)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise Invalid(f"line {number} is not of an exported audit log: {error}") from None


async def _check_still_there(
    session: AsyncSession, last: Checkpoint | None, seen: Checkpoint | None, keys: SigningKeys
) -> None:
    for known in (last, seen):
        if known is None:
            continue
        check_signature(known, keys.public)
        found = await queries.read_position(session, known.sequence)
        if found is None or found.hash != known.hash:
            raise NotIntact(f"entry {known.sequence} is not the one that a checkpoint has seen")
    if seen is not None and (last is None or last.sequence < seen.sequence):
        raise NotIntact(f"the checkpoint at {seen.sequence} is missing")
