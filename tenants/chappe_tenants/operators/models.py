"""The table of the operator's own users. It belongs to no tenant, and only the operator's role sees it."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import func
from sqlalchemy.orm import Mapped, mapped_column

from chappe_store.base import Base


class OperatorUser(Base):
    """`email` is in lower case. `password_hash` is an Argon2id string with its own parameters and salt."""

    __tablename__ = "operator_user"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    email: Mapped[str] = mapped_column(unique=True)
    role: Mapped[str]
    password_hash: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
