"""The browser token's table."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import ForeignKeyConstraint, Index, UniqueConstraint, func
from sqlalchemy.orm import Mapped, mapped_column

from chappe_store.base import Base


class BrowserToken(Base):
    """`digest` is HMAC-SHA256 of the token under pepper `pepper_version`; the token itself is nowhere.

    It does what its key may do, until `expires_at` or its session's end, whichever comes first.
    """

    __tablename__ = "browser_token"
    __table_args__ = (
        ForeignKeyConstraint(["tenant_id", "key_id"], ["api_key.tenant_id", "api_key.id"]),
        ForeignKeyConstraint(
            ["tenant_id", "session_id"], ["member_session.tenant_id", "member_session.id"], ondelete="CASCADE"
        ),
        # Across tenants on purpose, as with keys: this index is the look-up.
        UniqueConstraint("pepper_version", "digest"),
        Index("ix_browser_token_tenant_id_session_id", "tenant_id", "session_id"),
        Index("ix_browser_token_tenant_id_key_id", "tenant_id", "key_id"),
    )

    tenant_id: Mapped[UUID] = mapped_column(primary_key=True)
    id: Mapped[UUID] = mapped_column(primary_key=True)
    pepper_version: Mapped[int]
    digest: Mapped[bytes]
    key_id: Mapped[UUID]
    session_id: Mapped[UUID]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    expires_at: Mapped[datetime]
