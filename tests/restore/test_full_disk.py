"""A disk that is full under PostgreSQL: nothing acknowledged is lost, spools keep the rest, and when there is space
again all of it is posted, to the nano.

A server that cannot lengthen a table refuses the transaction and goes on; one that cannot write its log ends itself.
"""

import asyncio
import contextlib
import os
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import UUID

import asyncpg
import pytest

from tests.control.world import Tenant
from tests.gateway.spool_files import spooled
from tests.restore.conftest import Place, make_place, remove_place, until
from tests.restore.estate import Estate, running_estate

SIZE = 256 * 1024 * 1024
"""A cluster with the schema has a good third of it."""
POOR_NANO = 60_000
pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk takes root"),
]


class SmallDisk:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._filler = folder / "filler"

    def mount(self) -> None:
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE},mode=711", "tmpfs", str(self._folder)], check=True)

    def unmount(self) -> None:
        subprocess.run(["umount", "--lazy", str(self._folder)], check=True)

    @staticmethod
    def take(source: Path, target: Path) -> None:
        subprocess.run(["cp", "-a", str(source), str(target)], check=True)

    def fill(self) -> None:
        """To the last byte."""
        with contextlib.suppress(OSError), self._filler.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(2**20))
        with contextlib.suppress(OSError), self._filler.open("ab", buffering=0) as file:
            while True:
                file.write(bytes(2**10))

    def free(self) -> None:
        self._filler.unlink()


@pytest.fixture
async def small(migrated: Place) -> AsyncIterator[tuple[Place, SmallDisk]]:
    made = make_place()
    disk = SmallDisk(made.root / "state")
    disk.mount()
    try:
        await asyncio.to_thread(disk.take, migrated.data_dir, made.data_dir)
        await made.start()
        yield made, disk
    finally:
        if made.server is not None:
            made.stop()
        disk.unmount()
        remove_place(made)


@pytest.fixture
async def estate(small: tuple[Place, SmallDisk]) -> AsyncIterator[Estate]:
    async with running_estate(small[0], "gw-0", "gw-1") as running:
        yield running


@pytest.mark.parametrize("is_log", [False, True], ids=["tables", "log"])
async def test_nothing_is_lost_and_nothing_is_lent_that_is_not_there(
    estate: Estate, small: tuple[Place, SmallDisk], is_log: bool
) -> None:
    place, disk = small
    rich, poor = await estate.tenant("Rich", 10_000_000_000), await estate.tenant("Poor", POOR_NANO)
    users = (("rich", rich), ("rich", rich), ("poor", poor))
    estate.start_load(*((gateway, name, tenant) for gateway in estate.gateways for name, tenant in users))
    await estate.until_counted("rich 200", 20)

    disk.fill()
    if is_log:
        await begin_another_segment(place)
        # Grants are small: they are spent, and then new work is refused.
        await until(lambda: refuses(estate), within_s=120)
    else:
        # What needs no new space goes on: leases may still be written, out of the funds that are there.
        await until(lambda: waits(place, 40), within_s=120)
    assert {one for one in estate.statuses if not one.endswith("200")} <= {
        "rich 503 budget_unavailable",
        "rich 503 control_unreachable",
        "poor 503 budget_unavailable",
        "poor 503 control_unreachable",
        "poor 402 insufficient_funds",
    }
    acknowledged, waiting = recorded(place)
    assert waiting, "what could not be posted is in the spools"
    served = estate.statuses["rich 200"]

    disk.free()
    assert place.server is not None
    if is_log:
        # It ended itself rather than lose a record; the supervisor starts it again.
        await asyncio.to_thread(place.server.wait, 60)
        await place.start()
    async with place.superuser() as connection:
        posted = {row[0] for row in await connection.fetch("SELECT request_id FROM usage_event")}
    assert acknowledged <= posted
    await estate.until_counted("rich 200", served + 20)
    await estate.stop_load()
    await estate.stop_gateways()
    assert await estate.all_is_posted()
    await assert_books(estate, rich, poor)


async def begin_another_segment(place: Place) -> None:
    """Of the log, for which there is no space: whoever writes next finds out."""
    with contextlib.suppress(asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
        async with place.superuser() as connection:
            # Segments that were made ahead or kept for later use are used up first.
            while True:
                await connection.execute("SELECT pg_logical_emit_message(false, 'to', 'write'), pg_switch_wal()")


async def refuses(estate: Estate) -> bool:
    refused = sum(count for said, count in estate.statuses.items() if said.startswith("rich 503"))
    return refused >= 10


async def waits(place: Place, at_least: int) -> bool:
    return len(recorded(place)[1]) >= at_least


def recorded(place: Place) -> tuple[set[UUID], set[UUID]]:
    """Requests that the control plane has acknowledged, and those that it has not."""
    rows = []
    for path in sorted((place.root / "spool").glob("*.sqlite")):
        rows += spooled(path)
    acknowledged = {UUID(bytes=row.key[:16]) for row in rows if row.is_shipped}
    return acknowledged, {UUID(bytes=row.key[:16]) for row in rows if not row.is_shipped}


async def assert_books(estate: Estate, *tenants: Tenant) -> None:
    events = estate.recorded()
    for tenant in tenants:
        spent = sum(event.amount_nano for event in events if event.tenant_id == tenant.id)
        ((funds, posted),) = await estate.sql(
            "SELECT funds_nano, posted_nano FROM budget WHERE tenant_id = $1", tenant.id
        )
        assert posted == spent <= funds
    ((written_off,),) = await estate.sql("SELECT sum(written_off_nano) FROM usage_event")
    assert written_off == 0
    assert await estate.difference() is None
