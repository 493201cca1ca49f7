"""Theorem 4.4 of the VTC paper over many seeds, with faults, liars, leavers, weights and priorities beside the pair.

The same code as in a gateway decides; the engine is a model. `make simulate SEED=…` replays one of these.
"""

import heapq
from typing import Any

import pytest

from chappe_kernel.fairness.line import Line
from tests.simulator.pair import PairWatch
from tests.simulator.scenarios import mixed
from tests.simulator.world import World

SEEDS = 1000
PARTS = 4


@pytest.mark.parametrize("part", range(PARTS))
def test_two_backlogged_tenants_never_differ_by_more_than_the_bound(part: int) -> None:
    for seed in range(part, SEEDS, PARTS):
        watch = PairWatch()
        world = World(mixed(seed), watch)
        reports = world.run()
        assert watch.gap <= 2 * world.most_reserved, seed
        assert world.most_running <= world.scenario.capacity, seed
        assert world.dispatcher.running == world.dispatcher.waiting == 0, seed
        for report in reports.values():
            # Nobody is lost, and nobody is served twice.
            ends = report.done + report.refused + report.timed_out + report.left + report.broken_off
            assert ends == report.asked, seed


def test_the_test_can_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    """First come, first served, breaks the bound at many of the same seeds."""

    def by_arrival(self: Line, queue: Any) -> None:
        place(self, queue)
        self._order._entries = [(0.0, number, item) for _, number, item in self._order._entries]
        heapq.heapify(self._order._entries)

    place = Line._place
    monkeypatch.setattr(Line, "_place", by_arrival)
    broken = 0
    for seed in range(100):
        watch = PairWatch()
        world = World(mixed(seed), watch)
        world.run()
        broken += watch.gap > 2 * world.most_reserved
    assert broken >= 3


def test_a_seed_is_the_same_run_every_time() -> None:
    first, second = World(mixed(7)).run(), World(mixed(7)).run()
    assert first == second
