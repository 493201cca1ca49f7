"""SQL of the price book."""

from collections import defaultdict
from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
from msgspec import Struct
from sqlalchemy import ColumnElement, func, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased

from chappe_billing.prices.models import PriceVersion, PriceWithdrawal
from chappe_catalogue.listings.models import Listing
from chappe_kernel.ids import PublisherId
from chappe_kernel.rating import Price
from chappe_kernel.wire import control as wire
from chappe_store.arrays import is_among
from chappe_store.session import TenantScope


class PriceList(Struct, frozen=True, order=True):
    """A listing's prices in a region: everybody's, those that one tenant's contract says, or those of batches."""

    listing_id: UUID
    region: str
    tenant_id: UUID | None = None
    for_batches: bool = False


class ListedPrice(Struct, frozen=True):
    """A price version, what is sold under it, and to whom. It was over at `ends_at`: another started, or it was
    withdrawn. `share_bp` of what tenants pay is the publisher's."""

    listing_id: UUID
    listing: str
    region: str
    currency: str
    price: Price
    publisher_id: PublisherId
    share_bp: int
    starts_at: datetime
    ends_at: datetime | None = None
    tenant_id: UUID | None = None


_withdrawn: ColumnElement[bool] = (
    select(PriceWithdrawal.price_version_id).where(PriceWithdrawal.price_version_id == PriceVersion.id).exists()
)
_ORDER = (PriceVersion.listing_id, PriceVersion.region, PriceVersion.starts_at)


async def all_prices(
    session: AsyncSession, *, for_batches: bool = False
) -> dict[tuple[UUID, str], list[wire.PriceVersion]]:
    """Everybody's versions by (listing, region), ascending by start: past ones, the one in force, scheduled ones."""
    statement = (
        select(PriceVersion)
        .where(PriceVersion.tenant_id.is_(None), PriceVersion.for_batches.is_(for_batches), ~_withdrawn)
        .order_by(*_ORDER)
    )
    prices = defaultdict(list)
    for version in await session.scalars(statement):
        prices[version.listing_id, version.region].append(_known(version))
    return dict(prices)


async def contract_prices(
    session: AsyncSession, tenant_id: UUID, region: str | None = None
) -> dict[tuple[str, str], list[wire.PriceVersion]]:
    """A tenant's own versions by (listing's name, region), ascending by start; in all regions, or in this one."""
    statement = (
        select(Listing.name, PriceVersion)
        .join(Listing, Listing.id == PriceVersion.listing_id)
        .where(PriceVersion.tenant_id == tenant_id, ~_withdrawn)
        .order_by(*_ORDER)
    )
    if region is not None:
        statement = statement.where(PriceVersion.region == region)
    prices = defaultdict(list)
    for listing, version in await session.execute(statement):
        prices[listing, version.region].append(_known(version))
    return dict(prices)


async def own_versions(session: AsyncSession, scope: TenantScope) -> set[UUID]:
    """The ids of all that was ever published for this tenant alone."""
    return set(await session.scalars(select(PriceVersion.id).where(PriceVersion.tenant_id == scope.tenant_id)))


async def own_discounts(session: AsyncSession, scope: TenantScope) -> dict[UUID, int | None]:
    """All that was ever published for this tenant alone, with the discount that it follows the list price with."""
    statement = select(PriceVersion.id, PriceVersion.discount_basis_points)
    rows = await session.execute(statement.where(PriceVersion.tenant_id == scope.tenant_id))
    return {row.id: row.discount_basis_points for row in rows}


async def contract_starts(session: AsyncSession, tenant_ids: Collection[UUID]) -> dict[PriceList, datetime]:
    """Since when these tenants have prices of their own, wherever they do."""
    statement = (
        select(PriceVersion.listing_id, PriceVersion.region, PriceVersion.tenant_id, func.min(PriceVersion.starts_at))
        .where(is_among(PriceVersion.tenant_id, tenant_ids), ~_withdrawn)
        .group_by(PriceVersion.listing_id, PriceVersion.region, PriceVersion.tenant_id)
    )
    rows = await session.execute(statement)
    return {PriceList(listing_id, region, tenant_id): start for listing_id, region, tenant_id, start in rows}


async def find_prices(session: AsyncSession, ids: Collection[UUID]) -> dict[UUID, ListedPrice]:
    """Those of `ids` that exist."""
    following = aliased(PriceVersion)
    followed_at = (
        select(func.min(following.starts_at))
        .outerjoin(PriceWithdrawal, PriceWithdrawal.price_version_id == following.id)
        .where(
            following.listing_id == PriceVersion.listing_id,
            following.region == PriceVersion.region,
            following.tenant_id.is_not_distinct_from(PriceVersion.tenant_id),
            following.for_batches == PriceVersion.for_batches,
            following.starts_at > PriceVersion.starts_at,
            PriceWithdrawal.price_version_id.is_(None),
        )
        .correlate(PriceVersion)
        .scalar_subquery()
    )
    statement = (
        select(PriceVersion, Listing, func.least(followed_at, PriceWithdrawal.withdrawn_at))
        .join(Listing, Listing.id == PriceVersion.listing_id)
        .outerjoin(PriceWithdrawal, PriceWithdrawal.price_version_id == PriceVersion.id)
        .where(is_among(PriceVersion.id, ids))
    )
    return {
        version.id: ListedPrice(
            listing_id=version.listing_id,
            listing=listing.name,
            region=version.region,
            currency=version.currency,
            price=price_of(version),
            publisher_id=PublisherId(listing.publisher_id),
            share_bp=listing.publisher_share_bp,
            starts_at=version.starts_at,
            ends_at=ends_at,
            tenant_id=version.tenant_id,
        )
        for version, listing, ends_at in await session.execute(statement)
    }


async def find_version(session: AsyncSession, version_id: UUID) -> PriceVersion | None:
    return await session.get(PriceVersion, version_id)


async def find_withdrawal(session: AsyncSession, version_id: UUID) -> PriceWithdrawal | None:
    return await session.get(PriceWithdrawal, version_id)


async def versions_of(session: AsyncSession, listing_id: UUID, region: str) -> dict[PriceList, list[PriceVersion]]:
    """What is published and not withdrawn there, everybody's and each tenant's, ascending by start."""
    statement = (
        select(PriceVersion)
        .where(PriceVersion.listing_id == listing_id, PriceVersion.region == region, ~_withdrawn)
        .order_by(PriceVersion.starts_at)
    )
    found: dict[PriceList, list[PriceVersion]] = {PriceList(listing_id, region): []}
    for version in await session.scalars(statement):
        found.setdefault(PriceList(listing_id, region, version.tenant_id, version.for_batches), []).append(version)
    return found


async def last_price(session: AsyncSession, listing_id: UUID, region: str) -> PriceVersion | None:
    """Everybody's version with the latest start, which may lie in the future."""
    statement = (
        select(PriceVersion)
        .where(
            PriceVersion.listing_id == listing_id,
            PriceVersion.region == region,
            PriceVersion.tenant_id.is_(None),
            ~PriceVersion.for_batches,
            ~_withdrawn,
        )
        .order_by(PriceVersion.starts_at.desc())
        .limit(1)
    )
    return await session.scalar(statement)


async def list_versions(
    session: AsyncSession,
    *,
    limit: int,
    before: UUID | None = None,
    tenant_id: UUID | None = None,
    for_batches: bool = False,
    listing: str | None = None,
    region: str | None = None,
) -> Sequence[Any]:
    """(version, listing's name, withdrawal) at most `limit`, newest first by id: everybody's, a tenant's own, or those
    of batches."""
    statement = (
        select(PriceVersion, Listing.name, PriceWithdrawal)
        .join(Listing, Listing.id == PriceVersion.listing_id)
        .outerjoin(PriceWithdrawal, PriceWithdrawal.price_version_id == PriceVersion.id)
        .where(PriceVersion.tenant_id.is_not_distinct_from(tenant_id), PriceVersion.for_batches.is_(for_batches))
        .order_by(PriceVersion.id.desc())
        .limit(limit)
    )
    for column, wanted in ((Listing.name, listing), (PriceVersion.region, region)):
        if wanted is not None:
            statement = statement.where(column == wanted)
    if before is not None:
        statement = statement.where(PriceVersion.id < before)
    return (await session.execute(statement)).all()


async def insert_version(session: AsyncSession, version: PriceVersion) -> PriceVersion:
    session.add(version)
    await session.flush()
    return version


async def insert_withdrawal(session: AsyncSession, version: PriceVersion, reason: str) -> None:
    session.add(PriceWithdrawal(price_version_id=version.id, tenant_id=version.tenant_id, reason=reason))
    await session.flush()


async def lock_price_book(session: AsyncSession, listing_id: UUID, region: str) -> datetime:
    """Make publishers of one listing and region take turns until the transaction ends, whomever the prices are for;
    the database's time."""
    lock = func.pg_advisory_xact_lock(func.hashtextextended(f"price {listing_id} {region}", 0))
    await session.execute(select(lock))
    now: datetime = (await session.execute(select(func.clock_timestamp()))).scalar_one()
    return now


def price_of(version: PriceVersion) -> Price:
    return Price(**{name: getattr(version, name) for name in COMPONENTS})


COMPONENTS = Price.__struct_fields__
"""The names of a price's columns."""


def columns_of(price: Price) -> dict[str, Any]:
    return msgspec.structs.asdict(price)


def _known(version: PriceVersion) -> wire.PriceVersion:
    return wire.PriceVersion(id=version.id, starts_at=version.starts_at, price=price_of(version))
