"""Tables of listings and of the regions where each is sold."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, func, text
from sqlalchemy.orm import Mapped, mapped_column

from chappe_store.base import Base


class Listing(Base):
    """`name` is what clients send as `model`. The token bounds are those that holds are computed from.

    `publisher_share_bp` is the publisher's part, in ten thousandths, of what tenants pay from now on.
    """

    __tablename__ = "listing"
    __table_args__ = (CheckConstraint("publisher_share_bp BETWEEN 0 AND 10000", name="publisher_share_bp"),)

    id: Mapped[UUID] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    publisher_id: Mapped[UUID] = mapped_column(ForeignKey("publisher.id"), index=True)
    task: Mapped[str]
    currency: Mapped[str]
    context_tokens: Mapped[int]
    template_tokens: Mapped[int]
    default_output_tokens: Mapped[int]
    max_output_tokens: Mapped[int]
    publisher_share_bp: Mapped[int] = mapped_column(server_default=text("0"))
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class ListingRegion(Base):
    """The listing is on sale in this region. Its prices outlive the offer: they are kept by the price book."""

    __tablename__ = "listing_region"

    listing_id: Mapped[UUID] = mapped_column(ForeignKey("listing.id"), primary_key=True)
    region: Mapped[str] = mapped_column(ForeignKey("region.name"), primary_key=True)
