"""SQL of the price book."""

from collections import defaultdict
from collections.abc import Collection
from datetime import datetime
from uuid import UUID

from msgspec import Struct
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_billing.prices.models import PriceVersion
from chappe_catalogue.listings.models import Listing
from chappe_kernel.rating import Price
from chappe_kernel.wire import control as wire
from chappe_store.arrays import is_among


class ListedPrice(Struct, frozen=True):
    """A price version, and what is sold under it."""

    listing_id: UUID
    listing: str
    region: str
    currency: str
    price: Price


async def all_prices(session: AsyncSession) -> dict[tuple[UUID, str], list[wire.PriceVersion]]:
    """Every version by (listing, region), ascending by start: past ones, the one in force, scheduled ones."""
    statement = select(PriceVersion).order_by(PriceVersion.listing_id, PriceVersion.region, PriceVersion.starts_at)
    prices = defaultdict(list)
    for version in await session.scalars(statement):
        known = wire.PriceVersion(id=version.id, starts_at=version.starts_at, price=price_of(version))
        prices[version.listing_id, version.region].append(known)
    return dict(prices)


async def find_prices(session: AsyncSession, ids: Collection[UUID]) -> dict[UUID, ListedPrice]:
    """Those of `ids` that exist."""
    statement = (
        select(PriceVersion, Listing.name)
        .join(Listing, Listing.id == PriceVersion.listing_id)
        .where(is_among(PriceVersion.id, ids))
    )
    return {
        version.id: ListedPrice(version.listing_id, listing, version.region, version.currency, price_of(version))
        for version, listing in await session.execute(statement)
    }


async def last_price(session: AsyncSession, listing_id: UUID, region: str) -> PriceVersion | None:
    """The version with the latest start, which may lie in the future."""
    statement = (
        select(PriceVersion)
        .where(PriceVersion.listing_id == listing_id, PriceVersion.region == region)
        .order_by(PriceVersion.starts_at.desc())
        .limit(1)
    )
    return await session.scalar(statement)


async def lock_price_book(session: AsyncSession, listing_id: UUID, region: str) -> datetime:
    """Make publishers of one listing and region take turns until the transaction ends; the database's time."""
    lock = func.pg_advisory_xact_lock(func.hashtextextended(f"price {listing_id} {region}", 0))
    await session.execute(select(lock))
    now: datetime = (await session.execute(select(func.clock_timestamp()))).scalar_one()
    return now


def price_of(version: PriceVersion) -> Price:
    return Price(
        input_nano_per_token=version.input_nano_per_token,
        cached_input_nano_per_token=version.cached_input_nano_per_token,
        output_nano_per_token=version.output_nano_per_token,
        request_nano=version.request_nano,
    )
