"""Usage of each month has a partition of its own, made ahead of time."""

from datetime import UTC, datetime

from chappe_billing.usage.queries import ensure_partitions
from chappe_kernel.ids import new_id
from tests.billing.conftest import Customer, Market

PARTITIONS = "SELECT count(*) FROM pg_inherits WHERE inhparent = 'usage_event'::regclass"


async def test_an_event_lands_in_its_month(market: Market, customer: Customer) -> None:
    await market.ingest(market.event(customer, new_id()))
    month = f"usage_event_{datetime.now(UTC):%Y_%m}"
    assert await market.scalar("SELECT DISTINCT tableoid::regclass::text FROM usage_event") == month


async def test_partitions_are_made_once_and_ahead(market: Market) -> None:
    before = await market.scalar(PARTITIONS)
    for made in (3, 0):
        async with market.database.operator() as session:
            assert await ensure_partitions(session, months_ahead=27) == made
    assert await market.scalar(PARTITIONS) == before + 3


async def test_an_id_from_beyond_the_partitions_is_kept_too(market: Market, customer: Customer) -> None:
    far = new_id()
    strange = type(far)(int=far.int | 1 << 126)
    receipt = await market.ingest(market.event(customer, new_id(), request_id=strange))
    assert receipt.posted == 1
    assert await market.scalar("SELECT tableoid::regclass::text FROM usage_event") == "usage_event_default"
