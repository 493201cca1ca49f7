"""The price version's table."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, UniqueConstraint, func
from sqlalchemy.orm import Mapped, mapped_column

from chappe_store.base import Base


class PriceVersion(Base):
    """Immutable. In force from `starts_at` until the next one of the same listing and region starts."""

    __tablename__ = "price_version"
    __table_args__ = (
        UniqueConstraint("listing_id", "region", "starts_at"),
        CheckConstraint(
            "least(input_nano_per_token, cached_input_nano_per_token, output_nano_per_token, request_nano) >= 0",
            name="components",
        ),
        CheckConstraint("currency ~ '^[A-Z]{3}$'", name="currency"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    listing_id: Mapped[UUID] = mapped_column(ForeignKey("listing.id"))
    region: Mapped[str] = mapped_column(ForeignKey("region.name"))
    currency: Mapped[str]
    starts_at: Mapped[datetime]
    input_nano_per_token: Mapped[int]
    cached_input_nano_per_token: Mapped[int]
    output_nano_per_token: Mapped[int]
    request_nano: Mapped[int]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
