"""The member's table."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import ForeignKey, UniqueConstraint, func
from sqlalchemy.orm import Mapped, mapped_column

from chappe_store.base import Base


class Member(Base):
    """`email` is in lower case. `password_hash` is an Argon2id string with its own parameters and salt."""

    __tablename__ = "member"
    # Across tenants: a person signs in with the address alone. An account in several organisations comes later.
    __table_args__ = (UniqueConstraint("tenant_id", "email"), UniqueConstraint("email"))

    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("tenant.id"), primary_key=True)
    id: Mapped[UUID] = mapped_column(primary_key=True)
    email: Mapped[str]
    role: Mapped[str]
    password_hash: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
