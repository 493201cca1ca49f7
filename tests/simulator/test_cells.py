"""Limits, grants and residency over many seeds: no limit and no funds are exceeded, nobody runs outside its regions."""

import pytest

from tests.simulator.cells import Cells

SEEDS = 400
PARTS = 2


@pytest.mark.parametrize("part", range(PARTS))
def test_no_limit_and_no_funds_are_exceeded_and_nobody_runs_elsewhere(part: int) -> None:
    seen = {"admitted": 0, "refused": 0, "deaths": 0}
    for seed in range(part, SEEDS, PARTS):
        cells = Cells(seed)
        try:
            cells.run()
        except AssertionError as error:
            raise AssertionError(f"seed {seed}") from error
        for name in seen:
            seen[name] += getattr(cells, name)
    assert min(seen.values()) > 500


def test_the_test_can_fail() -> None:
    """A bank that lends what it does not have is found out."""
    broken = 0
    for seed in range(40):
        cells = Cells(seed)
        cells.bank.lend = lambda grant, wanted, least, now, bank=cells.bank: (  # type: ignore[method-assign,misc]
            bank.lent.update({grant: (wanted, now + 200.0)}) or wanted
        )
        try:
            cells.run()
        except AssertionError:
            broken += 1
    assert broken > 10
