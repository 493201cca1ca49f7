"""Routing over many seeds, with regions that are cut off and drained: never out of the set, and nobody in vain."""

import pytest

from tests.simulator.regions import Regions

SEEDS = 300
PARTS = 2


@pytest.mark.parametrize("part", range(PARTS))
def test_no_request_is_tried_outside_its_set_and_none_is_refused_in_vain(part: int) -> None:
    asked = ran = refused = again = unreachable = 0
    for seed in range(part, SEEDS, PARTS):
        regions = Regions(seed)
        regions.run()
        for request in regions.requests:
            assert set(request.tried) <= set(request.allowed), f"seed {seed}"
            assert len(set(request.tried)) == len(request.tried), f"seed {seed}"
            assert request.ran_in is None or request.ran_in == request.tried[-1], f"seed {seed}"
        assert regions.missed == 0, f"seed {seed}"
        asked += len(regions.requests)
        ran += sum(request.ran_in is not None for request in regions.requests)
        refused += sum(request.refused for request in regions.requests)
        again += sum(len(request.tried) > 1 for request in regions.requests)
        unreachable += regions.unreachable_tries
    assert ran + refused == asked
    assert min(ran, refused, again, unreachable) > 100


def test_who_is_cut_off_is_not_tried_by_everybody() -> None:
    """A breaker and old news together: few requests pay for finding out."""
    tried = asked = 0
    for seed in range(20):
        regions = Regions(seed)
        regions.run(10.0)
        for site in regions.sites.values():
            site.away = True
        before = len(regions.requests)
        was_tried = regions.unreachable_tries
        regions._fault = lambda: None  # type: ignore[method-assign]  # nothing else happens now
        regions.run(130.0)
        asked += len(regions.requests) - before
        tried += regions.unreachable_tries - was_tried
    assert tried < asked / 20
