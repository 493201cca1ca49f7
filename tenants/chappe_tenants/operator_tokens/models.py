"""The operator tokens' table. It belongs to no tenant, and only the operator's role sees it."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import ForeignKey, UniqueConstraint, func
from sqlalchemy.orm import Mapped, mapped_column

from chappe_store.base import Base


class OperatorToken(Base):
    """`digest` is HMAC-SHA256 of the secret under the pepper `pepper_version`, as an API key's is."""

    __tablename__ = "operator_token"
    __table_args__ = (UniqueConstraint("pepper_version", "digest"),)

    id: Mapped[UUID] = mapped_column(primary_key=True)
    user_id: Mapped[UUID] = mapped_column(ForeignKey("operator_user.id", ondelete="CASCADE"), index=True)
    name: Mapped[str]
    role: Mapped[str]
    prefix: Mapped[str]
    pepper_version: Mapped[int]
    digest: Mapped[bytes]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    expires_at: Mapped[datetime]
    revoked_at: Mapped[datetime | None]
    last_used_at: Mapped[datetime | None]
