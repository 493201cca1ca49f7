"""The snapshot that lets gateways serve on their own, and its cache.

Every gateway polls twice a second. However many they are, the database is read at most once per `FRESH_S`: within
that time all share one snapshot. The version is a digest of the content, so that it is the same from every process
and changes exactly when something did.
"""

import asyncio
import hashlib
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

import msgspec
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_billing.prices.queries import all_prices, contract_prices
from chappe_catalogue.listings import queries as listings
from chappe_catalogue.listings.models import Listing
from chappe_catalogue.publishers import queries as publishers
from chappe_catalogue.regions import queries as regions
from chappe_kernel.api_keys import Pepper
from chappe_kernel.clock import Clock
from chappe_kernel.errors import Unavailable
from chappe_kernel.wire import control as wire
from chappe_store.queries import read_epoch, read_now
from chappe_store.session import Database, TenantScope

FRESH_S = 0.2


class EncodedSnapshot(NamedTuple):
    version: str
    body: bytes
    since: float
    """When this process first read this version, on its monotonic clock."""


class SnapshotCache:
    """Holds the last snapshot and when its reading began."""

    def __init__(
        self,
        database: Database,
        peppers: tuple[Pepper, ...],
        max_age_s: float,
        clock: Clock,
        *,
        portal_origin: str = "",
    ) -> None:
        self._database = database
        self._peppers = peppers
        self._max_age_s = max_age_s
        self._portal_origin = portal_origin
        self._clock = clock
        self._lock = asyncio.Lock()
        self._latest: EncodedSnapshot | None = None
        self._read_at = float("-inf")
        self._database_time: tuple[datetime, float] | None = None

    async def current(self) -> EncodedSnapshot:
        """Not older than `FRESH_S`. Concurrent callers wait for one reading. Raises `Unavailable`."""
        async with self._lock:
            if self._latest is None or self._clock.monotonic() >= self._read_at + FRESH_S:
                began_at = self._clock.monotonic()
                async with self._database.ingest() as session:
                    snapshot = await read_snapshot(
                        session,
                        self._peppers,
                        self._max_age_s,
                        self._clock.now(),
                        portal_origin=self._portal_origin,
                    )
                    self._database_time = await read_now(session), self._clock.monotonic()
                if self._latest is None or self._latest.version != snapshot.version:
                    self._latest = EncodedSnapshot(snapshot.version, msgspec.json.encode(snapshot), began_at)
                self._read_at = began_at
            return self._latest

    def database_time(self) -> datetime:
        """Now, by the database's clock when it was last read, which was a moment ago: never ahead of it. Only after
        `current`."""
        if self._database_time is None:
            raise Unavailable("the database was not read yet", code="database_unavailable")
        at, read_at = self._database_time
        return at + timedelta(seconds=self._clock.monotonic() - read_at)


async def read_snapshot(
    session: AsyncSession, peppers: tuple[Pepper, ...], max_age_s: float, now: datetime, *, portal_origin: str = ""
) -> wire.Snapshot:
    """All that a gateway must know, with the digest of it as its version."""
    snapshot = wire.Snapshot(
        version="",
        epoch=str(await read_epoch(session)),
        max_age_s=max_age_s,
        regions=await read_regions(session),
        listings=await read_listings(session, since=now - timedelta(seconds=max_age_s)),
        peppers=peppers,
        portal_origin=portal_origin,
    )
    version = hashlib.sha256(msgspec.json.encode(snapshot)).hexdigest()
    return msgspec.structs.replace(snapshot, version=version)


async def read_regions(session: AsyncSession) -> tuple[wire.Region, ...]:
    """In the catalogue's order, with their health now."""
    healthy = await regions.healthy_regions(session)
    return tuple(
        wire.Region(
            name=region.name,
            jurisdiction=region.jurisdiction,
            gateway_url=region.gateway_url,
            healthy=region.name in healthy,
        )
        for region in await regions.list_regions(session)
    )


async def read_listings(
    session: AsyncSession, since: datetime, scope: TenantScope | None = None
) -> tuple[wire.Listing, ...]:
    """What is on sale where it has a price, with every price that was in force at `since` or starts later: everybody's,
    or what this tenant pays."""
    publisher_names = await publishers.publisher_names(session)
    sold_in = await listings.sold_in(session)
    prices = await all_prices(session)
    batch_prices = await all_prices(session, for_batches=True)
    own = {} if scope is None else await contract_prices(session, scope.tenant_id)
    found = []
    for listing in await listings.list_listings(session):
        offers = tuple(
            wire.ListingInRegion(
                region=region,
                prices=_from(_paid(prices[listing.id, region], own.get((listing.name, region), [])), since),
                batch_prices=_from(batch_prices.get((listing.id, region), []), since),
            )
            for region in sold_in.get(listing.id, ())
            if (listing.id, region) in prices
        )
        found.append(_listing(listing, publisher_names[listing.publisher_id], offers))
    return tuple(found)


async def read_contract_prices(
    session: AsyncSession, tenant_id: UUID, region: str, since: datetime
) -> dict[str, tuple[wire.PriceVersion, ...]]:
    """What a tenant's contract says that listings cost in a region: prices that were in force at `since`, or start
    later."""
    found = await contract_prices(session, tenant_id, region)
    return {listing: _from(prices, since) for (listing, _), prices in found.items()}


def _paid(prices: Sequence[wire.PriceVersion], own: Sequence[wire.PriceVersion]) -> Sequence[wire.PriceVersion]:
    """Everybody's until the first one of a tenant's own starts, and its own from then on."""
    return [*(version for version in prices if not own or version.starts_at < own[0].starts_at), *own]


def _from(prices: Sequence[wire.PriceVersion], since: datetime) -> tuple[wire.PriceVersion, ...]:
    started = sum(version.starts_at <= since for version in prices)
    return tuple(prices[max(started - 1, 0) :])


def _listing(listing: Listing, publisher: str, offers: tuple[wire.ListingInRegion, ...]) -> wire.Listing:
    return msgspec.convert(
        {
            "name": listing.name,
            "publisher": publisher,
            "task": listing.task,
            "currency": listing.currency,
            "created": int(listing.created_at.timestamp()),
            "context_tokens": listing.context_tokens,
            "template_tokens": listing.template_tokens,
            "default_output_tokens": listing.default_output_tokens,
            "max_output_tokens": listing.max_output_tokens,
            "regions": offers,
        },
        wire.Listing,
    )
