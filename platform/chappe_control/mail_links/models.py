"""The links' table. It belongs to no tenant: who opens a link becomes somebody, or proves to be."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, Index, func
from sqlalchemy.orm import Mapped, mapped_column

from chappe_store.base import Base


class MailLink(Base):
    """`digest` is SHA-256 of the link's secret: 256 random bits need no pepper. `organisation` is of a sign-up only."""

    __tablename__ = "mail_link"
    __table_args__ = (
        CheckConstraint("(purpose = 'sign_up') = (organisation IS NOT NULL)", name="organisation"),
        Index("ix_mail_link_email_purpose", "email", "purpose"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    purpose: Mapped[str]
    email: Mapped[str]
    organisation: Mapped[str | None]
    digest: Mapped[bytes] = mapped_column(unique=True)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    expires_at: Mapped[datetime] = mapped_column(index=True)
