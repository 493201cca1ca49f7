"""The account's table. It belongs to no tenant, and the role of tenants cannot see it."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import UniqueConstraint, func
from sqlalchemy.orm import Mapped, mapped_column

from chappe_store.base import Base


class Account(Base):
    """`email` is in lower case. `password_hash` is an Argon2id string with its own parameters and salt."""

    __tablename__ = "account"
    # For the foreign key that keeps the members' copies of the address equal.
    __table_args__ = (UniqueConstraint("id", "email"),)

    id: Mapped[UUID] = mapped_column(primary_key=True)
    email: Mapped[str] = mapped_column(unique=True)
    password_hash: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
