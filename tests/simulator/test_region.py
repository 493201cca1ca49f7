"""One dispatcher for several gateway processes: the paper's bound holds over all of them, and nobody is lost when
messages are, when the dispatcher dies or when Valkey is away.

`make simulate SCENARIO=region SEED=…` replays one of the seeds of the first test.
"""

from dataclasses import replace
from random import Random

import pytest

from chappe_kernel.fairness.post import Role
from tests.simulator.pair import PairWatch
from tests.simulator.region import RegionFaults, RegionWorld, gateways_of, regional
from tests.simulator.scenarios import flood
from tests.simulator.world import NO_FAULTS, Tenant

SEEDS = 160
PARTS = 4
FAULTY_SEEDS = 48
DYING_SEEDS = 48


def check_ends(world: RegionWorld, seed: int) -> None:
    """Nobody is lost, nobody is served twice, and nothing is kept."""
    for report in world.reports.values():
        ends = report.done + report.refused + report.timed_out + report.left + report.broken_off
        assert ends == report.asked, seed
    assert world.is_empty(), seed


@pytest.mark.parametrize("part", range(PARTS))
def test_the_bound_holds_over_all_processes(part: int) -> None:
    for seed in range(part, SEEDS, PARTS):
        watch = PairWatch()
        world = RegionWorld(regional(seed), gateways_of(seed), watch=watch, pinned=seed % 3 == 0)
        world.run()
        assert watch.gap <= 2 * (world.most_reserved + world.most_passed), seed
        assert world.most_running <= world.scenario.capacity, seed
        check_ends(world, seed)


def test_the_test_can_fail() -> None:
    """Processes that hear nothing of each other break the bound at many of the same seeds."""
    broken = 0
    for seed in range(0, 60, 3):
        watch = PairWatch()
        scenario = replace(regional(seed), lasts_s=20.0)
        world = RegionWorld(scenario, gateways_of(seed), RegionFaults(loses_part=1.0), watch, pinned=True)
        world.run()
        broken += watch.gap > 2 * world.most_reserved
    assert broken >= 3


@pytest.mark.parametrize("part", range(PARTS))
def test_nobody_is_lost_whatever_fails_between_the_processes(part: int) -> None:
    deaths = 0
    roles: set[Role] = set()
    for seed in range(part, FAULTY_SEEDS, PARTS):
        draw = Random(seed)  # noqa: S311  # a simulation
        faults = RegionFaults(
            loses_part=draw.choice((0.0, 0.01, 0.2)),
            valkey_away_every_s=draw.choice((0.0, 6.0)),
            valkey_away_for_s=draw.choice((1.0, 6.0)),
            dispatcher_dies_every_s=draw.choice((0.0, 4.0)),
        )
        scenario = replace(regional(seed), lasts_s=15.0, patience_s=5.0)
        world = RegionWorld(scenario, gateways_of(seed), faults)
        world.run()
        check_ends(world, seed)
        # Whoever waits is served or refused in time, even if the one who should say so is dead.
        assert world.longest_wait_s <= scenario.patience_s + 1.5, seed
        # While processes cannot hear of each other they have what they were granted, and their static parts.
        assert world.most_running <= 2 * max(scenario.capacity, gateways_of(seed)), seed
        deaths += world.deaths
        roles |= world.roles
    assert deaths >= 10
    assert roles == set(Role)


@pytest.mark.parametrize("part", range(PARTS))
def test_no_change_of_dispatcher_sends_more_than_serve_takes(part: int) -> None:
    """Who takes over counts what others run before it gives the first turn, and until then nobody runs more than was
    granted, even if every tenth message is lost."""
    deaths = 0
    for seed in range(part, DYING_SEEDS, PARTS):
        draw = Random(seed)  # noqa: S311  # a simulation
        faults = RegionFaults(loses_part=draw.choice((0.0, 0.01, 0.1)), dispatcher_dies_every_s=3.0)
        world = RegionWorld(replace(regional(seed), lasts_s=12.0, patience_s=5.0), gateways_of(seed), faults)
        world.run()
        assert world.most_running <= world.scenario.capacity, seed
        check_ends(world, seed)
        deaths += world.deaths
    assert deaths >= 20


@pytest.mark.parametrize("seed", range(4))
def test_nobody_waits_long_for_another_dispatcher(seed: int) -> None:
    """It is found out that nobody listens, and the end of the lease is not waited for."""
    scenario = replace(flood(seed, flooding=False), lasts_s=60.0)
    light = replace(scenario, tenants=(Tenant("light", requests_per_s=5.0),))
    world = RegionWorld(light, 4)
    for at in (15.0, 30.0, 45.0):
        world.kill_dispatcher_at(at)
    report = world.run()["light"]
    assert world.deaths == 3
    assert report.done + report.broken_off == report.asked
    # Found out at the next look, two looks to be sure, a second for its engines to stop.
    assert world.longest_wait_s <= 2.0


@pytest.mark.parametrize("seed", range(3))
def test_who_finds_room_asks_nobody(seed: int) -> None:
    """Half of what the engine can do: blocks find their size in the first seconds, and then nearly nobody waits for a
    message, and only the processes' signs of life are sent."""
    scenario = replace(flood(seed, flooding=False), lasts_s=60.0)
    light = replace(scenario, tenants=(Tenant("light", requests_per_s=5.0),))
    world = RegionWorld(light, 4)
    report = world.run()["light"]
    assert report.done == report.asked > 200
    assert world.waited <= report.asked * 0.1
    assert world.longest_wait_s <= 0.02


def test_places_that_one_process_does_not_use_serve_another() -> None:
    scenario = replace(flood(1, flooding=False), tenants=(Tenant("only", keeps_waiting=80),), lasts_s=20.0)
    world = RegionWorld(replace(scenario, faults=NO_FAULTS), 4, pinned=True)
    world.run()
    assert world.most_running == scenario.capacity


def test_a_flood_at_one_process_is_not_felt_at_another() -> None:
    def p99_ttft_s(*, flooding: bool) -> float:
        scenario = flood(3, flooding=flooding)
        world = RegionWorld(replace(scenario, lasts_s=60.0), 2, pinned=True)
        return world.run()["good"].p99_ttft_s()

    assert p99_ttft_s(flooding=True) <= 1.2 * p99_ttft_s(flooding=False)
