"""The price book as one list."""

from datetime import datetime
from uuid import UUID

from msgspec import Struct
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_billing.prices.models import PriceVersion
from chappe_billing.prices.queries import price_of
from chappe_kernel.rating import Price


class BookedPrice(Struct, frozen=True):
    """A version of one listing's price in one region."""

    id: UUID
    listing_id: UUID
    region: str
    currency: str
    starts_at: datetime
    published_at: datetime
    price: Price


async def list_versions(session: AsyncSession) -> list[BookedPrice]:
    """Every version, ascending by start within its listing and region."""
    statement = select(PriceVersion).order_by(PriceVersion.listing_id, PriceVersion.region, PriceVersion.starts_at)
    return [
        BookedPrice(
            id=version.id,
            listing_id=version.listing_id,
            region=version.region,
            currency=version.currency,
            starts_at=version.starts_at,
            published_at=version.created_at,
            price=price_of(version),
        )
        for version in await session.scalars(statement)
    ]
