"""While a grant lasts, a request's money is arithmetic: no question to anybody, no file, no socket, and quick."""

import pytest

from tests.bench.hold_bench import MAX_CPU_US, measure


@pytest.mark.parametrize("budgets", [0, 3])
async def test_holding_and_settling_touches_nothing_and_is_quick(budgets: int) -> None:
    """The best of five: it is processor time, but others may have emptied the caches."""
    rounds = [await measure(5_000, budgets=budgets) for _ in range(5)]
    assert {(one.asked, one.touched) for one in rounds} == {(0, 0)}
    assert min(one.cpu_us for one in rounds) <= MAX_CPU_US
