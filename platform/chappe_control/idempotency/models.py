"""The tables of calls that must not happen twice: the tenants', behind row-level security, and the operator's own."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ForeignKey, func
from sqlalchemy.orm import Mapped, mapped_column

from chappe_store.base import Base


class IdempotencyRecord(Base):
    """One call of a tenant's. `answer` is None where it must not be kept, because it holds a secret."""

    __tablename__ = "idempotency_record"

    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("tenant.id"), primary_key=True)
    route: Mapped[str] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    body_digest: Mapped[bytes]
    answer: Mapped[dict[str, Any] | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class OperatorIdempotencyRecord(Base):
    """The same of one of the operator's people, whether they call themselves or by a token of theirs."""

    __tablename__ = "operator_idempotency_record"

    user_id: Mapped[UUID] = mapped_column(ForeignKey("operator_user.id", ondelete="CASCADE"), primary_key=True)
    route: Mapped[str] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    body_digest: Mapped[bytes]
    answer: Mapped[dict[str, Any] | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
