"""Who floods is not felt by who behaves: p99 of the time to the first token, alone and beside 50 times a share."""

from dataclasses import replace

import pytest

from tests.simulator.scenarios import flood
from tests.simulator.world import World


@pytest.mark.parametrize("seed", range(6))
def test_a_flood_of_fifty_shares_is_not_felt(seed: int) -> None:
    alone = World(flood(seed, flooding=False)).run()["good"]
    world = World(flood(seed, flooding=True))
    beside = world.run()
    good, flooding = beside["good"], beside["flood"]
    assert good.p99_ttft_s() <= 1.2 * alone.p99_ttft_s()
    assert good.refused == good.timed_out == 0
    assert good.asked == good.done == alone.done
    # The flood gets what is left, and is told when to come back.
    assert flooding.done > good.done
    assert flooding.refused > 0


@pytest.mark.parametrize("seed", range(2))
def test_the_budget_finds_what_the_engine_really_takes(seed: int) -> None:
    """Serve would take twice what the engine can work on at once; what waits inside the engine waits unfairly."""
    scenario = replace(flood(seed, flooding=True), capacity=128)
    world = World(scenario)
    good = world.run()["good"]
    assert world.least_limit < 80
    late = [ttft_s for ttft_s in good.ttft_s[len(good.ttft_s) // 2 :] if ttft_s > 2.0]
    assert len(late) <= len(good.ttft_s) // 50
