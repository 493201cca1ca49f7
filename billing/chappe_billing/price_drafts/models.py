"""Tables of price drafts."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, func
from sqlalchemy.orm import Mapped, mapped_column

from chappe_store.base import Base


class PriceDraft(Base):
    """Prices that nobody pays yet: everybody's, or one tenant's. Editable until it is published or discarded.

    `simulated_lines` is the digest of what was last reckoned with usage: only that can be published.
    """

    __tablename__ = "price_draft"
    __table_args__ = (CheckConstraint("num_nonnulls(published_at, discarded_at) <= 1", name="end"),)

    id: Mapped[UUID] = mapped_column(primary_key=True)
    title: Mapped[str]
    tenant_id: Mapped[UUID | None] = mapped_column(ForeignKey("tenant.id"), index=True)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    simulated_lines: Mapped[bytes | None]
    published_at: Mapped[datetime | None]
    discarded_at: Mapped[datetime | None]


class PriceDraftLine(Base):
    """What a listing will cost in a region: components, or a discount on the list price."""

    __tablename__ = "price_draft_line"

    draft_id: Mapped[UUID] = mapped_column(ForeignKey("price_draft.id"), primary_key=True)
    listing_id: Mapped[UUID] = mapped_column(ForeignKey("listing.id"), primary_key=True)
    region: Mapped[str] = mapped_column(ForeignKey("region.name"), primary_key=True)
    discount_basis_points: Mapped[int | None]
    input_nano_per_token: Mapped[int | None]
    cached_input_nano_per_token: Mapped[int | None]
    output_nano_per_token: Mapped[int | None]
    request_nano: Mapped[int | None]
    second_nano: Mapped[int | None]
    image_nano: Mapped[int | None]
