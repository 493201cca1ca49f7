"""Tables of price versions."""

from datetime import date, datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, Date, ForeignKey, Index, false, func, text
from sqlalchemy.orm import Mapped, mapped_column

from chappe_store.base import Base

_ZERO = text("0")


class PriceVersion(Base):
    """Immutable. In force from `starts_at` until the next one of the same list starts, unless it was withdrawn before.

    A list is a listing's prices in a region: everybody's, or with `tenant_id` those that one tenant's contract says.
    With `discount_basis_points` a tenant's version follows the list price, less that; zero is a return to it. What is
    `for_batches` is everybody's, for lines of batches alone, and follows the list price likewise.
    """

    __tablename__ = "price_version"
    __table_args__ = (
        Index(None, "listing_id", "region", "tenant_id", "starts_at"),
        Index(None, "tenant_id", postgresql_where=text("tenant_id IS NOT NULL")),
        Index(None, "reverts_id", postgresql_where=text("reverts_id IS NOT NULL")),
        CheckConstraint(
            "least(input_nano_per_token, cached_input_nano_per_token, output_nano_per_token, request_nano) >= 0",
            name="components",
        ),
        CheckConstraint("least(second_nano, image_nano) >= 0", name="more_components"),
        CheckConstraint(
            "NOT for_batches OR (tenant_id IS NULL AND discount_basis_points IS NOT NULL)", name="for_batches"
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
    second_nano: Mapped[int] = mapped_column(server_default=_ZERO)
    image_nano: Mapped[int] = mapped_column(server_default=_ZERO)
    tenant_id: Mapped[UUID | None] = mapped_column(ForeignKey("tenant.id"))
    discount_basis_points: Mapped[int | None]
    for_batches: Mapped[bool] = mapped_column(server_default=false(), default=False)
    draft_id: Mapped[UUID | None]
    reverts_id: Mapped[UUID | None] = mapped_column(ForeignKey("price_version.id"))
    """The version whose mistake this one ends."""
    reason: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class PriceWithdrawal(Base):
    """A version that was taken back before it started. Nothing is ever deleted from the price book."""

    __tablename__ = "price_withdrawal"

    price_version_id: Mapped[UUID] = mapped_column(ForeignKey("price_version.id"), primary_key=True)
    tenant_id: Mapped[UUID | None] = mapped_column(ForeignKey("tenant.id"), index=True)
    reason: Mapped[str]
    withdrawn_at: Mapped[datetime] = mapped_column(server_default=func.now())


class UsagePriceDay(Base):
    """Sums of a tenant's chargeable events by day (UTC, by when they were posted), project and price version. A trigger
    on the events keeps it: it never differs from them."""

    __tablename__ = "usage_price_day"
    __table_args__ = (Index(None, "price_version_id"), Index(None, "day"))

    tenant_id: Mapped[UUID] = mapped_column(primary_key=True)
    day: Mapped[date] = mapped_column(Date, primary_key=True)
    project_id: Mapped[UUID] = mapped_column(primary_key=True)
    price_version_id: Mapped[UUID] = mapped_column(primary_key=True)
    requests: Mapped[int]
    prompt_tokens: Mapped[int]
    cached_tokens: Mapped[int]
    completion_tokens: Mapped[int]
    seconds: Mapped[int]
    images: Mapped[int]
    amount_nano: Mapped[int]
    written_off_nano: Mapped[int]
