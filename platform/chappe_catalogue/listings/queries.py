"""SQL for listings."""

from collections.abc import Collection, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import delete, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_catalogue.listings.models import Listing, ListingRegion
from chappe_kernel.ids import ListingId


async def list_listings(session: AsyncSession) -> Sequence[Listing]:
    """By name."""
    return (await session.scalars(select(Listing).order_by(Listing.name))).all()


async def sold_in(session: AsyncSession) -> dict[UUID, list[str]]:
    """Regions by listing, sorted by name."""
    regions: dict[UUID, list[str]] = {}
    query = select(ListingRegion.listing_id, ListingRegion.region).order_by(ListingRegion.region)
    for listing_id, region in await session.execute(query):
        regions.setdefault(listing_id, []).append(region)
    return regions


async def find_listing(session: AsyncSession, name: str) -> Listing | None:
    """By the name that clients send as `model`."""
    found: Listing | None = await session.scalar(select(Listing).where(Listing.name == name))
    return found


async def find_name(session: AsyncSession, listing_id: UUID) -> str:
    """Of one that exists: listings are never deleted."""
    return (await session.execute(select(Listing.name).where(Listing.id == listing_id))).scalar_one()


async def unknown_listings(session: AsyncSession, names: Collection[str]) -> set[str]:
    """Those of `names` that no listing has."""
    known = await session.scalars(select(Listing.name).where(Listing.name.in_(names)))
    return set(names) - set(known.all())


async def put_listing(session: AsyncSession, *, listing_id: ListingId, name: str, values: dict[str, Any]) -> ListingId:
    """Insert, or change the one with this name, which keeps its id and the time since when it is sold."""
    kept: UUID = (
        await session.execute(
            insert(Listing)
            .values(id=listing_id, name=name, **values)
            .on_conflict_do_update(index_elements=["name"], set_=values)
            .returning(Listing.id)
        )
    ).scalar_one()
    return ListingId(kept)


async def sell_in(session: AsyncSession, listing_id: ListingId, regions: Collection[str]) -> None:
    """The listing is on sale in exactly these regions afterwards."""
    await session.execute(
        delete(ListingRegion).where(ListingRegion.listing_id == listing_id, ListingRegion.region.not_in(regions))
    )
    if regions:
        await session.execute(
            insert(ListingRegion)
            .values([{"listing_id": listing_id, "region": region} for region in sorted(regions)])
            .on_conflict_do_nothing()
        )
