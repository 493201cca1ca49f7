"""The tenant's table."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import ForeignKey, ForeignKeyConstraint, Index, Text, UniqueConstraint, false, func, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from chappe_store.base import Base
from chappe_tenants.legal_entities.models import BY_DEFAULT


class Tenant(Base):
    """`allowed_regions` holds names of regions and jurisdictions in order of preference; empty means nowhere.

    `reference` is the operator's own number for this customer: what makes a repeated seed find it again.
    `requests_per_minute` is what the tenant begins with: a trigger makes it the contract's quota, and nobody else
    reads it. `legal_entity_id` is who of the operator sells to it, in its own currency: for good, once it has a budget.
    `verified` is whether the operator knows who it is: all that are not have one share of a busy deployment together.
    `share` is how many shares its contract gives it, instead of its plan's.
    `answers_kept_for_s` is how long a region may keep an answer for a repeat with the same `Idempotency-Key`.
    `parent_id` is its group or its reseller, as `relation` says. `state_changed_at` is the database's to write. Of the
    legal details some may be missing until the operator verifies them; the address's country is ISO 3166-1.
    """

    __tablename__ = "tenant"
    __table_args__ = (
        Index("ix_tenant_name", func.lower(text("name")), "id"),
        Index("ix_tenant_state", "state", "id"),
        UniqueConstraint("id", "legal_entity_id"),
        ForeignKeyConstraint(["legal_entity_id", "currency"], ["legal_entity.id", "legal_entity.currency"]),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    parent_id: Mapped[UUID | None] = mapped_column(ForeignKey("tenant.id"), index=True)
    relation: Mapped[str | None]
    is_reseller: Mapped[bool] = mapped_column(server_default=false())
    reference: Mapped[str | None] = mapped_column(unique=True)
    name: Mapped[str]
    state: Mapped[str]
    state_reason: Mapped[str | None]
    state_by: Mapped[str] = mapped_column(server_default=text("'operator'"))
    state_changed_at: Mapped[datetime] = mapped_column(server_default=func.now())
    currency: Mapped[str]
    legal_entity_id: Mapped[UUID] = mapped_column(ForeignKey("legal_entity.id"), server_default=BY_DEFAULT)
    allowed_regions: Mapped[list[str]] = mapped_column(ARRAY(Text))
    plan: Mapped[str] = mapped_column(ForeignKey("plan.name"), server_default=text("'standard'"), index=True)
    requests_per_minute: Mapped[int]
    answers_kept_for_s: Mapped[int] = mapped_column(server_default=text("0"))
    verified: Mapped[bool] = mapped_column(server_default=false())
    share: Mapped[int | None]
    contract_reference: Mapped[str | None]
    legal_name: Mapped[str | None]
    address_line_1: Mapped[str | None]
    address_line_2: Mapped[str | None]
    postal_code: Mapped[str | None]
    city: Mapped[str | None]
    country: Mapped[str | None]
    vat_number: Mapped[str | None]
    contact_name: Mapped[str | None]
    contact_email: Mapped[str | None]
    contact_phone: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
