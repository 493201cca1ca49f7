"""Tables of listings and of the regions where each is sold."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import ForeignKey, func
from sqlalchemy.orm import Mapped, mapped_column

from chappe_store.base import Base


class Listing(Base):
    """`name` is what clients send as `model`. The token bounds are those that holds are computed from."""

    __tablename__ = "listing"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    publisher_id: Mapped[UUID] = mapped_column(ForeignKey("publisher.id"), index=True)
    task: Mapped[str]
    currency: Mapped[str]
    context_tokens: Mapped[int]
    template_tokens: Mapped[int]
    default_output_tokens: Mapped[int]
    max_output_tokens: Mapped[int]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class ListingRegion(Base):
    """The listing is on sale in this region. Its prices outlive the offer: they are kept by the price book."""

    __tablename__ = "listing_region"

    listing_id: Mapped[UUID] = mapped_column(ForeignKey("listing.id"), primary_key=True)
    region: Mapped[str] = mapped_column(ForeignKey("region.name"), primary_key=True)
