"""The API key's table."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKeyConstraint, Index, Text, UniqueConstraint, func, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from chappe_store.base import Base
from chappe_tenants.members.models import Member
from chappe_tenants.service_accounts.models import ServiceAccount


class ApiKey(Base):
    """`digest` is HMAC-SHA256 of the key under pepper `pepper_version`; the key itself is nowhere.

    `regions` and `models` are None when the key narrows nothing. `requests_per_minute` is the limit that the key
    begins with: a trigger makes it the key's quota, and nobody else reads it. `purpose` is None for every key that
    somebody asked for, and `playground` for the one of its project that browser tokens stand for: nobody has its
    secret.

    `networks` are CIDRs in their one spelling. It belongs to a member, who takes it along when they leave, to a service
    account of its project, or to nobody but the project. `predecessor_id` is the key that it was made to replace.
    `revoked_for` is None when somebody of the tenant revoked it. `last_used_region` is None for a management key.
    """

    __tablename__ = "api_key"
    __table_args__ = (
        ForeignKeyConstraint(["tenant_id", "project_id"], ["project.tenant_id", "project.id"]),
        # Across tenants on purpose: this index is the look-up. Nobody can probe it for another tenant's key without
        # having that key.
        UniqueConstraint("pepper_version", "digest"),
        ForeignKeyConstraint(
            ["tenant_id", "member_id"], [Member.tenant_id, Member.id], ondelete="SET NULL (member_id)"
        ),
        ForeignKeyConstraint(
            ["tenant_id", "project_id", "service_account_id"],
            [ServiceAccount.tenant_id, ServiceAccount.project_id, ServiceAccount.id],
            name="fk_api_key_service_account",
        ),
        ForeignKeyConstraint(["tenant_id", "predecessor_id"], ["api_key.tenant_id", "api_key.id"]),
        CheckConstraint("num_nonnulls(member_id, service_account_id) <= 1", name="owner"),
        CheckConstraint("revoked_for IS NULL OR revoked_at IS NOT NULL", name="revoked"),
        Index("ix_api_key_tenant_id_project_id", "tenant_id", "project_id"),
        Index(
            "uq_api_key_predecessor",
            "tenant_id",
            "predecessor_id",
            unique=True,
            postgresql_where=text("predecessor_id IS NOT NULL"),
        ),
        Index("ix_api_key_member", "tenant_id", "member_id", postgresql_where=text("member_id IS NOT NULL")),
        Index(
            "ix_api_key_service_account",
            "tenant_id",
            "service_account_id",
            postgresql_where=text("service_account_id IS NOT NULL"),
        ),
        Index(
            "uq_api_key_playground",
            "tenant_id",
            "project_id",
            unique=True,
            postgresql_where=text("purpose = 'playground' AND revoked_at IS NULL"),
        ),
    )

    tenant_id: Mapped[UUID] = mapped_column(primary_key=True)
    id: Mapped[UUID] = mapped_column(primary_key=True)
    project_id: Mapped[UUID]
    kind: Mapped[str]
    name: Mapped[str]
    prefix: Mapped[str]
    pepper_version: Mapped[int]
    digest: Mapped[bytes]
    regions: Mapped[list[str] | None] = mapped_column(ARRAY(Text))
    models: Mapped[list[str] | None] = mapped_column(ARRAY(Text))
    requests_per_minute: Mapped[int | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    revoked_at: Mapped[datetime | None]
    last_used_at: Mapped[datetime | None]
    purpose: Mapped[str | None]
    networks: Mapped[list[str] | None] = mapped_column(ARRAY(Text))
    expires_at: Mapped[datetime | None]
    member_id: Mapped[UUID | None]
    service_account_id: Mapped[UUID | None]
    predecessor_id: Mapped[UUID | None]
    revoked_for: Mapped[str | None]
    last_used_region: Mapped[str | None]
    last_used_network: Mapped[str | None]
