"""The tenant's table."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import ForeignKey, Index, Text, func, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from chappe_store.base import Base


class Tenant(Base):
    """`allowed_regions` holds names of regions and jurisdictions in order of preference; empty means nowhere.

    `reference` is the operator's own number for this customer: what makes a repeated seed find it again.
    `requests_per_minute` is what the tenant begins with: a trigger makes it the contract's quota, and nobody else
    reads it.
    """

    __tablename__ = "tenant"
    __table_args__ = (Index("ix_tenant_name", func.lower(text("name")), "id"),)

    id: Mapped[UUID] = mapped_column(primary_key=True)
    parent_id: Mapped[UUID | None] = mapped_column(ForeignKey("tenant.id"), index=True)
    reference: Mapped[str | None] = mapped_column(unique=True)
    name: Mapped[str]
    state: Mapped[str]
    currency: Mapped[str]
    allowed_regions: Mapped[list[str]] = mapped_column(ARRAY(Text))
    plan: Mapped[str] = mapped_column(ForeignKey("plan.name"), server_default=text("'standard'"), index=True)
    requests_per_minute: Mapped[int]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
