"""The store's own tables: the instance's identity, the keys' revision and the outbox."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, Index, UniqueConstraint, func, text
from sqlalchemy.orm import Mapped, mapped_column

from chappe_store.base import Base


class Instance(Base):
    """One row. `epoch` is the database's identity: a restore from a backup gives it a new one, and so does a standby's
    promotion. `server` is the one that has it; any other is a copy that does not know yet that it is one.

    After a restore nothing is lent before `lends_from`; that comes sooner, but not before `listens_until`, when every
    gateway has sent again what it recorded.
    """

    __tablename__ = "instance"
    __table_args__ = (CheckConstraint("singleton", name="singleton"),)

    singleton: Mapped[bool] = mapped_column(primary_key=True, server_default=text("true"))
    epoch: Mapped[UUID]
    server: Mapped[str] = mapped_column(server_default=text("''"))
    listens_until: Mapped[datetime | None]
    lends_from: Mapped[datetime | None]


class KeysRevision(Base):
    """One row. Grows in the transaction of every change that alters what some key may do."""

    __tablename__ = "keys_revision"
    __table_args__ = (CheckConstraint("singleton", name="singleton"),)

    singleton: Mapped[bool] = mapped_column(primary_key=True, server_default=text("true"))
    revision: Mapped[int]


class KeyChange(Base):
    """At which revision something last changed what this key may do; without a key, what all of the tenant's may;
    without a tenant, what any may. Written by the triggers that raise the revision."""

    __tablename__ = "key_change"
    __table_args__ = (
        CheckConstraint("tenant_id IS NOT NULL OR key_id IS NULL", name="subject"),
        UniqueConstraint("tenant_id", "key_id", postgresql_nulls_not_distinct=True),
    )

    revision: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    tenant_id: Mapped[UUID | None]
    key_id: Mapped[UUID | None]
    changed_at: Mapped[datetime]


class OutboxMessage(Base):
    """Something to tell the outside world, written in the transaction that made it true.

    It is tried from `due_at` on, at most until `expires_at`; at its end it is either delivered or given up.
    """

    __tablename__ = "outbox"
    __table_args__ = (
        Index("ix_outbox_undelivered", "id", postgresql_where=text("delivered_at IS NULL")),
        Index(
            "ix_outbox_topic_due_at",
            "topic",
            "due_at",
            postgresql_where=text("delivered_at IS NULL AND given_up_at IS NULL"),
        ),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    topic: Mapped[str]
    payload: Mapped[dict[str, Any]]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    delivered_at: Mapped[datetime | None]
    due_at: Mapped[datetime] = mapped_column(server_default=func.now())
    expires_at: Mapped[datetime | None]
    attempts: Mapped[int] = mapped_column(server_default=text("0"))
    given_up_at: Mapped[datetime | None]
