"""The database decides which price is in force, though the gateway's clock is ten minutes off."""

from datetime import UTC, datetime, timedelta

import pytest

from chappe_kernel.ids import new_id
from chappe_kernel.wire.control import PriceVersion
from tests.gateway.fake_control import CHAT, PRICE
from tests.gateway.world import World, chat_body

TEN_MINUTES = timedelta(minutes=10)


@pytest.mark.parametrize("database_ahead_by", [-TEN_MINUTES, TEN_MINUTES])
async def test_a_price_starts_by_the_databases_clock(world: World, database_ahead_by: timedelta) -> None:
    """By the gateway's clock the next price started five minutes ago, or starts in five minutes."""
    starts_at = datetime.now(UTC) + database_ahead_by / 2
    following = PriceVersion(new_id(), starts_at, PRICE)
    world.control.database_ahead_by = database_ahead_by
    world.control.next_prices[CHAT] = following
    async with world.gateway() as gateway, world.openai(gateway.url) as client:
        await client.chat.completions.create(**chat_body())
        [event] = await world.events(1)
    has_started = database_ahead_by > timedelta(0)
    assert event.price_version == (following.id if has_started else world.control.price_version(CHAT))
