"""Whatever a client sends, it gets a clean 4xx in the API's own shape or a closed connection; it is charged nothing,
nothing stays held, memory is bounded, health stays green, and its neighbours notice nothing.

`make fuzz MINUTES=10` runs it for longer, `SEED=…` again as it was. A run prints its seed and its sums.
"""

import asyncio
import json
import os
import secrets
import sys
from typing import Any

import pytest

from chappe_kernel.ids import REQUEST, decode_id
from tests.bad_clients.neighbour import asking, neighbour, p99
from tests.bad_clients.process import GatewayProcess, gateway_process
from tests.gateway.world import World

SECONDS = 60 * float(os.environ.get("CHAPPE_FUZZ_MINUTES") or 0.2)
SEED = os.environ.get("CHAPPE_FUZZ_SEED") or secrets.token_hex(4)
MAX_GROWTH_MIB = 96.0
"""Between the first second and the last: what is kept of one bad client must not be kept of all."""
_LOOK_EVERY_S = 0.1
pytestmark = [pytest.mark.timeout(2 * SECONDS + 240)]


@pytest.mark.alone
async def test_bad_clients_get_a_clean_refusal_and_cost_nobody_anything(world: World) -> None:
    async with gateway_process(world) as gateway, neighbour(world, gateway) as good:
        alone_s = await good.baseline()
        before_mib = gateway.rss_mib()
        async with asking(good, gateway):
            found, highest_mib = await _fuzz(world, gateway)
        after_mib = gateway.rss_mib()
        good.check(alone_s)
        assert highest_mib - before_mib < MAX_GROWTH_MIB
        assert gateway.log.read_text().count("request_failed") == 0
        await gateway.stop()
    served = {decode_id(REQUEST, name) for name in (*found["served"], *good.request_ids)}
    events = world.control.events
    assert served <= set(events)
    # Something on a connection was good by chance, and whoever sent it did not wait for its answer.
    assert len(set(events) - served) <= found["left"]
    assert all(grant.pending_nano == 0 for grant in world.control.grants.values()), "a hold is left"
    print(  # noqa: T201 -- what `make fuzz` is run for
        f"seed {SEED}, {SECONDS:.0f} s: {found['cases']} cases, answers {found['statuses']}, "
        f"{found['unanswered']} closed or waited for; {len(found['served'])} were good and charged; memory "
        f"{before_mib:.0f} MiB before, {highest_mib:.0f} at most, {after_mib:.0f} after; the neighbour's p99 "
        f"{1000 * alone_s:.1f} ms alone, {1000 * p99(good.took_s):.1f} ms beside it, of {len(good.took_s)}"
    )


async def _fuzz(world: World, gateway: GatewayProcess) -> tuple[dict[str, Any], float]:
    """What the bad clients found, and the most memory that the gateway took meanwhile."""
    command = [sys.executable, "-m", "tests.fuzz", str(gateway.port), world.key, SEED, str(SECONDS)]
    running = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    reading = asyncio.create_task(running.communicate())
    highest_mib = 0.0
    while not reading.done():
        highest_mib = max(highest_mib, gateway.rss_mib())
        await asyncio.wait([reading], timeout=_LOOK_EVERY_S)
    output, _ = await reading
    assert running.returncode == 0, f"seed {SEED}\n{output.decode()[-6000:]}\n{gateway.log.read_text()[-3000:]}"
    found: dict[str, Any] = json.loads(output.splitlines()[-1])
    return found, highest_mib
