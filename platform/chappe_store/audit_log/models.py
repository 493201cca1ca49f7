"""The audit log's tables. Both are append-only, and only triggers write entries."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, Index
from sqlalchemy.dialects.postgresql import JSON
from sqlalchemy.orm import Mapped, mapped_column

from chappe_store.base import Base


class AuditEntry(Base):
    """One row of one table was created, changed or removed.

    `tenant_id` is None for the operator's own things. It has no foreign key: the log outlives what it tells of.
    `before` and `after` are `json` and not `jsonb`, since the hash is over their very bytes. A field whose value may
    not be shown says `"withheld"`. `hash` is SHA-256 over the entry and its predecessor's hash (see `chain`).
    """

    __tablename__ = "audit_entry"
    __table_args__ = (
        Index("ix_audit_entry_tenant_id_sequence", "tenant_id", "sequence"),
        CheckConstraint("isfinite(recorded_at)", name="recorded_at"),
    )

    sequence: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    id: Mapped[UUID] = mapped_column(unique=True)
    recorded_at: Mapped[datetime]
    tenant_id: Mapped[UUID | None]
    actor_kind: Mapped[str]
    actor: Mapped[str]
    address: Mapped[str | None]
    request_id: Mapped[UUID | None]
    action: Mapped[str]
    noun: Mapped[str]
    subject: Mapped[str]
    before: Mapped[dict[str, Any] | None] = mapped_column(JSON)
    after: Mapped[dict[str, Any] | None] = mapped_column(JSON)
    hash: Mapped[bytes]


class AuditCheckpoint(Base):
    """The control plane's signature (Ed25519) on the log up to `sequence`. Each signs its predecessor's as well."""

    __tablename__ = "audit_checkpoint"

    sequence: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    hash: Mapped[bytes]
    made_at: Mapped[datetime]
    key_version: Mapped[int]
    previous_signature: Mapped[bytes | None]
    signature: Mapped[bytes] = mapped_column(unique=True)
