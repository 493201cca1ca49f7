"""The member's table."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import ForeignKey, ForeignKeyConstraint, Index, UniqueConstraint, func
from sqlalchemy.orm import Mapped, mapped_column

from chappe_store.base import Base


class Member(Base):
    """An account's place in an organisation. `email` is a copy of the account's, which a foreign key keeps equal: the
    role of tenants sees no account. `last_signed_in_at` counts switching to this organisation too.
    `language` is the portal's when they last did, for letters that they did not ask for."""

    __tablename__ = "member"
    __table_args__ = (
        UniqueConstraint("tenant_id", "email"),
        UniqueConstraint("tenant_id", "account_id"),
        ForeignKeyConstraint(["account_id", "email"], ["account.id", "account.email"], onupdate="CASCADE"),
        Index("ix_member_account_id_email", "account_id", "email"),
    )

    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("tenant.id"), primary_key=True)
    id: Mapped[UUID] = mapped_column(primary_key=True)
    account_id: Mapped[UUID]
    email: Mapped[str]
    role: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    last_signed_in_at: Mapped[datetime | None]
    language: Mapped[str | None]
