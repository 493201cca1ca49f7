"""PostgreSQL dies and is back, in mid-load: nothing acknowledged is lost, and nothing leaks into what follows."""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from chappe_kernel.errors import Unavailable
from chappe_store.session import NOBODY, TenantScope
from tests.restore.conftest import Place, until
from tests.restore.estate import Estate, opened, running_estate


@pytest.fixture
async def estate(place: Place) -> AsyncIterator[Estate]:
    # What is lent in a tenant's first second has to outlast a restart: the server is killed that early.
    async with running_estate(place, "gw-0", grant_block_nano=10_000_000) as running:
        yield running


@pytest.mark.alone  # what is lent has to last as long as the server takes to come back
@pytest.mark.timeout(300)
async def test_no_acknowledged_settle_is_lost(estate: Estate) -> None:
    place = estate.place
    tenant = await estate.tenant("Rich", 10_000_000_000)
    estate.start_load(*[("gw-0", "rich", tenant)] * 4)
    for number in range(1, 4):
        await estate.until_counted("rich 200", number * 20)
        place.stop(signal.SIGKILL if number % 2 else signal.SIGQUIT)
        await place.start()
    await estate.until_counted("rich 200", 80)
    await estate.stop_load()
    # What a gateway has no time to send before it goes, it would send when it is back.
    await until(estate.all_is_posted)
    await estate.stop_gateways()
    # A grant's holds go on while the database is away: none of these requests fails for it.
    assert {status for status in estate.statuses if not status.endswith("200")} <= {"rich 503 budget_unavailable"}
    events = estate.recorded()
    assert len(events) >= estate.statuses["rich 200"]
    assert await estate.all_is_posted()
    ((posted,),) = await estate.sql("SELECT posted_nano FROM budget WHERE tenant_id = $1", tenant.id)
    assert posted == sum(event.amount_nano for event in events)
    assert await estate.difference() is None


async def test_a_pool_recovers_and_no_tenant_is_left_in_it(estate: Estate) -> None:
    place = estate.place
    tenant = await estate.tenant("Alice", 1_000)
    async with opened(place) as database:
        with pytest.raises(DBAPIError):
            async with database.tenant(TenantScope(tenant.id)) as session:
                assert (await session.execute(text("SELECT count(*) FROM budget"))).scalar_one() == 1
                backend = (await session.execute(text("SELECT pg_backend_pid()"))).scalar_one()
                place.stop(signal.SIGKILL)
                # It ends by itself when it notices, which may be after it has answered once more.
                with contextlib.suppress(ProcessLookupError):
                    os.kill(backend, signal.SIGKILL)
        await place.start()
        async with asyncio.timeout(20):
            while True:
                try:
                    async with database.tenant(NOBODY) as session:
                        assert (await session.execute(text("SELECT count(*) FROM budget"))).scalar_one() == 0
                        break
                except Unavailable:
                    await asyncio.sleep(0.05)
