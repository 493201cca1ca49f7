"""A disk that is full under the spool: new work is refused, and no answer ends whose event is not written."""

import asyncio
import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.cell_faults.test_deaths import delivering
from tests.chaos.load import Seen, ask
from tests.chaos.realm import Payer, Realm

SIZE = 4 * 1024 * 1024
LEFT_FREE = 512 * 1024
pytestmark = [
    pytest.mark.timeout(240),
    pytest.mark.skipif(os.geteuid() != 0, reason="mounting a disk of 4 MiB takes root"),
]


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(path: Path) -> None:
    """To the last byte."""
    with contextlib.suppress(OSError), path.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))


async def test_work_is_refused_before_a_record_is_lost(
    realm: Realm, payer: Payer, http: httpx.AsyncClient, tmp_path: Path
) -> None:
    with small_disk(tmp_path / "disk") as disk:
        realm.gateway_settings = {"SPOOL_DIR": str(disk), "SPOOL_MIN_FREE_BYTES": str(LEFT_FREE)}
        try:
            await realm.start("gw-full")
        finally:
            realm.gateway_settings = {}
        running = [Seen(payer) for _ in range(4)]
        asking = [asyncio.create_task(ask(http, realm.url("gw-full"), payer, seen=one)) for one in running]
        for one in running:
            await delivering(one, 1)
        await asyncio.to_thread(fill, disk / "filler")
        # On a machine without CPU time to spare the first may have ended before the last one began.
        waiting = [one for one in running if not one.whole]
        assert waiting

        async def is_refused() -> bool:
            # Who was admitted just before waits, as those four do.
            answer = await ask(http, realm.url("gw-full"), payer, max_tokens=1, leave_after_s=2.0)
            return answer.status == httpx.codes.SERVICE_UNAVAILABLE

        await realm.until(is_refused)
        for one in running:
            await delivering(one, 119)
        # All is delivered but what came with the end, and no answer ends: its event is not safe yet.
        await asyncio.wait(asking, timeout=1.0)
        assert not any(one.whole for one in waiting)
        (disk / "filler").unlink()
        await asyncio.gather(*asking)
        assert all(one.whole for one in running)
        for one in running:
            assert one.request_id is not None
            event = await realm.event(one.request_id)
            assert (event["outcome"], event["completion_tokens"]) == ("completed", 120)

        async def is_served() -> bool:
            return (await ask(http, realm.url("gw-full"), payer, max_tokens=1)).whole

        await realm.until(is_served)
        realm.kill("gw-full")
