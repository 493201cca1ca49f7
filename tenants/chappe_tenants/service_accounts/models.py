"""The service account's table."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import ForeignKeyConstraint, Index, Text, UniqueConstraint, func, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from chappe_store.base import Base


class ServiceAccount(Base):
    """`scopes` are the kinds of keys that it may have: taking one away ends its keys of that kind at once, and giving
    it back revives them. A removed one stays as a row, because keys that are over name it."""

    __tablename__ = "service_account"
    __table_args__ = (
        ForeignKeyConstraint(["tenant_id", "project_id"], ["project.tenant_id", "project.id"]),
        # So that a key and its service account are of one project.
        UniqueConstraint("tenant_id", "project_id", "id"),
        Index(
            "uq_service_account_name",
            "tenant_id",
            "project_id",
            "name",
            unique=True,
            postgresql_where=text("removed_at IS NULL"),
        ),
    )

    tenant_id: Mapped[UUID] = mapped_column(primary_key=True)
    id: Mapped[UUID] = mapped_column(primary_key=True)
    project_id: Mapped[UUID]
    name: Mapped[str]
    scopes: Mapped[list[str]] = mapped_column(ARRAY(Text))
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    removed_at: Mapped[datetime | None]
