"""The rule that makes the log a chain, without I/O: the same for a database and for an exported file.

An entry's hash is SHA-256 over its predecessor's hash and all of its own fields; the first one's predecessor is the
hash of nothing. A checkpoint is an Ed25519 signature over an entry's number and hash and over the previous
checkpoint's signature. The encoding puts every field's length in bytes in front of it and writes a missing one as `~`.
"""

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from uuid import UUID

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from msgspec import Raw, Struct

from chappe_kernel.errors import ChappeError

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_ENTRY = "chappe audit entry 1"
_CHECKPOINT = "chappe audit checkpoint 1"
_NULL = Raw(b"null")

PublicKeys = Mapping[int, Ed25519PublicKey]
"""By version."""


class NotIntact(ChappeError):
    """The log is not what was once written. The message says where it first shows."""

    default_code = "audit_log_not_intact"


class Entry(Struct, frozen=True, tag="entry"):
    """One change. `before` and `after` are JSON as it was hashed, byte for byte. `hash` is in hexadecimal."""

    sequence: int
    id: UUID
    recorded_at: datetime
    tenant_id: UUID | None
    actor_kind: str
    actor: str
    address: str | None
    request_id: UUID | None
    action: str
    noun: str
    subject: str
    hash: str
    before: Raw = _NULL
    after: Raw = _NULL


class Checkpoint(Struct, frozen=True, tag="checkpoint"):
    """Somebody with the signing key saw the log end with this entry. Hash and signatures are in hexadecimal."""

    sequence: int
    hash: str
    made_at: datetime
    key_version: int
    previous_signature: str | None
    signature: str


Record = Entry | Checkpoint
"""A log is its entries in their order, each followed by its checkpoint if it has one."""


class Position(Struct, frozen=True):
    """The end of the log, at some time: the last entry's number and hash."""

    sequence: int
    hash: str


GENESIS = Position(0, hashlib.sha256(b"").hexdigest())


def encode(*fields: str | None) -> bytes:
    """What `audit_encoding` does in the database."""
    parts = []
    for field in fields:
        if field is None:
            parts.append(b"~")
        else:
            raw = field.encode()
            parts.append(b"%d:%s" % (len(raw), raw))
    return b"".join(parts)


def entry_hash(entry: Entry, previous_hash: str) -> str:
    """In hexadecimal."""
    return hashlib.sha256(
        encode(
            _ENTRY,
            previous_hash,
            str(entry.sequence),
            str(entry.id),
            _microseconds(entry.recorded_at),
            _text(entry.tenant_id),
            entry.actor_kind,
            entry.actor,
            entry.address,
            _text(entry.request_id),
            entry.action,
            entry.noun,
            entry.subject,
            _json(entry.before),
            _json(entry.after),
        )
    ).hexdigest()


def signed_bytes(checkpoint: Checkpoint) -> bytes:
    """All of a checkpoint but its signature."""
    return encode(
        _CHECKPOINT,
        str(checkpoint.sequence),
        checkpoint.hash,
        _microseconds(checkpoint.made_at),
        str(checkpoint.key_version),
        checkpoint.previous_signature,
    )


def check_signature(checkpoint: Checkpoint, keys: PublicKeys) -> None:
    """Raises `NotIntact` for a version without a key, and for what that key did not sign."""
    key = keys.get(checkpoint.key_version)
    if key is None:
        raise NotIntact(f"the checkpoint at {checkpoint.sequence} is of the unknown key {checkpoint.key_version}")
    try:
        key.verify(bytes.fromhex(checkpoint.signature), signed_bytes(checkpoint))
    except (InvalidSignature, ValueError):
        raise NotIntact(f"the checkpoint at {checkpoint.sequence} has a wrong signature") from None


class Verifier:
    """Takes a log record by record, from its beginning or from a checkpoint that is trusted, and remembers only where
    it is. Every method raises `NotIntact` at the first difference."""

    def __init__(self, keys: PublicKeys, *, start: Checkpoint | None = None, known: Checkpoint | None = None) -> None:
        """`known` is a checkpoint from elsewhere, which the log must lead through. Both must be signed by us."""
        for given in (start, known):
            if given is not None:
                check_signature(given, keys)
        self.position = GENESIS if start is None else Position(start.sequence, start.hash)
        self.last_checkpoint = start
        self.entries = 0
        self.checkpoints = 0
        self._keys = keys
        self._known = known

    def take(self, record: Record) -> None:
        if isinstance(record, Entry):
            self._take_entry(record)
        else:
            self._take_checkpoint(record)

    def finish(self) -> None:
        """The log has no more records."""
        if self._known is not None and self._known.sequence > self.position.sequence:
            raise NotIntact(
                f"the log ends with entry {self.position.sequence}, and a checkpoint from elsewhere has seen "
                f"{self._known.sequence}"
            )

    def _take_entry(self, entry: Entry) -> None:
        expected = self.position.sequence + 1
        if entry.sequence != expected:
            raise NotIntact(f"entry {expected} is missing: {entry.sequence} stands in its place")
        if entry.hash != entry_hash(entry, self.position.hash):
            raise NotIntact(f"entry {entry.sequence} is not what was written: its hash is another one")
        known = self._known
        if known is not None and known.sequence == entry.sequence and known.hash != entry.hash:
            raise NotIntact(f"entry {entry.sequence} is not the one that a checkpoint from elsewhere has seen")
        self.position = Position(entry.sequence, entry.hash)
        self.entries += 1

    def _take_checkpoint(self, checkpoint: Checkpoint) -> None:
        check_signature(checkpoint, self._keys)
        if checkpoint.sequence > self.position.sequence:
            raise NotIntact(
                f"the log ends with entry {self.position.sequence}, and its checkpoint has seen {checkpoint.sequence}"
            )
        if (checkpoint.sequence, checkpoint.hash) != (self.position.sequence, self.position.hash):
            raise NotIntact(f"entry {self.position.sequence} is not the one that its checkpoint has seen")
        previous = None if self.last_checkpoint is None else self.last_checkpoint.signature
        if checkpoint.previous_signature != previous:
            raise NotIntact(f"a checkpoint before the one at {checkpoint.sequence} is missing")
        self.last_checkpoint = checkpoint
        self.checkpoints += 1


def _microseconds(instant: datetime) -> str:
    return str((instant - _EPOCH) // _MICROSECOND)


def _text(value: UUID | None) -> str | None:
    return None if value is None else str(value)


def _json(value: Raw) -> str | None:
    raw = bytes(value)
    return None if raw == b"null" else raw.decode()
