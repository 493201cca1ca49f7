"""The invitation's table."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import ForeignKey, UniqueConstraint, func
from sqlalchemy.orm import Mapped, mapped_column

from chappe_store.base import Base


class Invitation(Base):
    """`digest` is SHA-256 of the secret in the link: 256 random bits need no pepper. Sent again it gets a new one.

    A row is an invitation that nobody has accepted or withdrawn yet, expired ones included.
    """

    __tablename__ = "invitation"
    __table_args__ = (UniqueConstraint("tenant_id", "email"),)

    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("tenant.id"), primary_key=True)
    id: Mapped[UUID] = mapped_column(primary_key=True)
    email: Mapped[str]
    role: Mapped[str]
    # Across tenants on purpose: this index is the look-up, and nobody can probe it without having the secret.
    digest: Mapped[bytes] = mapped_column(unique=True)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    sent_at: Mapped[datetime] = mapped_column(server_default=func.now())
    expires_at: Mapped[datetime]
