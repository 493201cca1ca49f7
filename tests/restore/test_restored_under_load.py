"""A database that is restored from a backup, while gateways serve, ends with the same totals to the nano."""

import asyncio
import signal
from collections.abc import AsyncIterator

import pytest

from chappe_local import postgres
from chappe_local.backup.restoring import restore_into
from tests.restore.conftest import Place, until
from tests.restore.estate import Estate, running_estate

_POOR_NANO = 60_000


@pytest.fixture
async def estate(place: Place) -> AsyncIterator[Estate]:
    async with running_estate(place, "gw-0", "gw-1") as running:
        yield running


@pytest.mark.timeout(300)
async def test_totals_are_equal_and_no_budget_is_exceeded(estate: Estate) -> None:
    place = estate.place
    rich, poor = await estate.tenant("Rich", 10_000_000_000), await estate.tenant("Poor", _POOR_NANO)
    users = (("rich", rich), ("rich", rich), ("poor", poor))
    estate.start_load(*((gateway, name, tenant) for gateway in estate.gateways for name, tenant in users))
    await estate.until_counted("rich 200", 20)
    backup = await place.backup()
    # What the backup does not know: most of the poor one's money is spent, and money of grants is held by streams.
    script, streams = await estate.long_streams(rich, 4)
    await estate.until_counted("poor 402 insufficient_funds", 1)
    await estate.until_counted("rich 200", 60)
    ((before,),) = await estate.sql("SELECT count(*) FROM usage_event")
    ((old_epoch,),) = await estate.sql("SELECT epoch FROM instance")

    await estate.stop_control()
    place.stop(signal.SIGKILL)
    postgres.remove_data(place.data_dir)
    await restore_into(place.folder, place.order(backup, use_log=False), place.data_dir)
    await place.start()
    ((known,),) = await estate.sql("SELECT count(*) FROM usage_event")
    assert 0 < known < before
    assert await estate.sql("SELECT epoch FROM instance") != [(old_epoch,)]
    assert not await estate.is_lending()
    await estate.start_control()
    await until(estate.is_lending, within_s=120)
    held = await estate.sql("SELECT sum(amount_nano - returned_nano) FROM budget_grant WHERE released_at IS NULL")
    assert held[0][0] > 0, "the streams' money is free to be lent"

    served = estate.statuses["rich 200"]
    await estate.until_counted("rich 200", served + 20)
    script.delay_s = 0
    assert set(await asyncio.gather(*streams)) == {"200"}
    await estate.stop_load()
    await estate.stop_gateways()
    assert await estate.all_is_posted()

    events = estate.recorded()
    for tenant in (rich, poor):
        spent = sum(event.amount_nano for event in events if event.tenant_id == tenant.id)
        ((funds, posted),) = await estate.sql(
            "SELECT funds_nano, posted_nano FROM budget WHERE tenant_id = $1", tenant.id
        )
        assert posted == spent <= funds
    ((written_off,),) = await estate.sql("SELECT sum(written_off_nano) FROM usage_event")
    assert written_off == 0
    assert await estate.difference() is None
