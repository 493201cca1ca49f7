"""Through two real gateway processes: who behaves does not feel a flood of 50 shares, neither when they have just
started nor later. `python -m tests.bench.flood_bench` measures the same for longer."""

from pathlib import Path

import pytest

from tests.fairness.flooded_region import FLOOD, Felt, cold_region

BAR = 1.2
_SECONDS = 10.0
pytestmark = [pytest.mark.alone, pytest.mark.timeout(180)]


async def test_a_flood_of_fifty_shares_is_not_felt_through_cold_and_warm_gateways(tmp_path: Path) -> None:
    async with cold_region(tmp_path) as region:
        async with region.flooded(seed=1) as flood:
            cold = await region.alone(_SECONDS, seed=1)
            warm = await region.alone(_SECONDS, seed=1)
        alone = await region.alone(_SECONDS, seed=1)
    assert set(alone.statuses) == set(cold.statuses) == set(warm.statuses) == {200}
    # It was a flood: it kept all places busy that it could have, and most of it was told to come back.
    assert flood.statuses[429] > len(cold.ttft_s) * FLOOD / 2
    assert flood.statuses[200] > 2 * len(cold.ttft_s)
    for felt in (cold, warm):
        assert felt.p99_ttft_s() <= BAR * alone.p99_ttft_s(), _told(alone, cold, warm)


def _told(*felt: Felt) -> str:
    return "; ".join(" ".join(f"{ttft_s:.2f}" for ttft_s in each.ttft_s) for each in felt)
