"""Prices are immutable, start once, and never take a gateway by surprise."""

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

import msgspec
import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from chappe_billing.prices.queries import all_prices, find_prices
from chappe_billing.prices.service import DEFAULT_NOTICE, publish_price
from chappe_kernel.errors import Conflict, Invalid
from chappe_kernel.ids import PriceVersionId, new_id
from chappe_kernel.rating import Price
from chappe_kernel.wire import control as wire
from tests.billing.conftest import PRICE, Market

DEARER = msgspec.structs.replace(PRICE, output_nano_per_token=300)
DEAREST = msgspec.structs.replace(PRICE, output_nano_per_token=400)


@dataclass(frozen=True)
class Book:
    """One listing's prices in fr-par."""

    market: Market

    async def publish(self, price: Price, starts_at: datetime | None = None) -> PriceVersionId:
        async with self.market.database.operator() as session:
            return await publish_price(
                session,
                listing_id=self.market.listing_id,
                region="fr-par",
                currency="EUR",
                price=price,
                starts_at=starts_at,
            )

    async def versions(self) -> list[wire.PriceVersion]:
        async with self.market.database.ingest() as session:
            return (await all_prices(session))[self.market.listing_id, "fr-par"]


@pytest.fixture
def book(market: Market) -> Book:
    return Book(market)


async def test_the_first_version_is_in_force_at_once(book: Book) -> None:
    (version,) = await book.versions()
    assert version.price == PRICE
    assert version.starts_at <= datetime.now(UTC)


async def test_publishing_the_same_price_again_changes_nothing(book: Book) -> None:
    assert await book.publish(PRICE) == book.market.prices["fr-par"]
    assert len(await book.versions()) == 1


async def test_a_later_version_gives_notice(book: Book) -> None:
    await book.publish(DEARER)
    first, second = await book.versions()
    assert (first.price, second.price) == (PRICE, DEARER)
    assert second.starts_at - first.starts_at >= DEFAULT_NOTICE
    assert await book.publish(DEARER) == second.id


async def test_a_start_within_the_notice_is_refused(book: Book) -> None:
    with pytest.raises(Invalid) as raised:
        await book.publish(DEARER, datetime.now(UTC) + timedelta(seconds=10))
    assert raised.value.code == "price_too_soon"


async def test_nothing_is_slipped_in_before_a_scheduled_version(book: Book) -> None:
    await book.publish(DEARER, datetime.now(UTC) + timedelta(days=2))
    with pytest.raises(Conflict):
        await book.publish(DEAREST, datetime.now(UTC) + timedelta(days=1))


async def test_a_start_needs_a_zone(book: Book) -> None:
    with pytest.raises(Invalid):
        await book.publish(DEARER, datetime(2030, 1, 1))  # noqa: DTZ001 -- the fault under test


async def test_an_absurd_price_is_refused(book: Book) -> None:
    with pytest.raises(Invalid):
        await book.publish(msgspec.structs.replace(PRICE, request_nano=10**12 + 1))


async def test_publishers_at_once_make_one_version(book: Book) -> None:
    ids = await asyncio.gather(*(book.publish(DEARER) for _ in range(8)))
    assert len(set(ids)) == 1
    assert len(await book.versions()) == 2


async def test_unknown_versions_are_not_found(market: Market) -> None:
    known = market.prices["fr-par"]
    async with market.database.ingest() as session:
        assert set(await find_prices(session, [known, new_id()])) == {known}


@pytest.mark.parametrize("statement", ["UPDATE price_version SET request_nano = 0", "DELETE FROM price_version"])
async def test_nobody_changes_a_published_price(market: Market, statement: str) -> None:
    for transaction in (market.database.operator, market.database.ingest):
        with pytest.raises(DBAPIError, match="permission denied"):
            async with transaction() as session:
                await session.execute(text(statement))


async def test_one_start_has_one_version(market: Market) -> None:
    version: UUID = market.prices["fr-par"]
    statement = """
        INSERT INTO price_version SELECT uuidv7(), listing_id, region, currency, starts_at, 1, 1, 1, 1, now()
        FROM price_version WHERE id = :id
    """
    with pytest.raises(DBAPIError, match="another price version starts then"):
        async with market.database.operator() as session:
            await session.execute(text(statement), {"id": version})
