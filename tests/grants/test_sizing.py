"""The next grant lasts about as long as it admits, at the pace at which the tenant spends."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chappe_gateway.money.grant_sizing import Burn, next_grant_nano

BLOCK_NANO = 50_000_000
RATES = st.integers(0, 10**10)


def spending(nano_per_s: int, for_s: int, every_ms: int = 1000, burn: Burn | None = None) -> Burn:
    """Steadily, looked at every so often."""
    burn = burn or Burn(0, 0)
    began_ms, before_nano = burn.at_ms, burn.spent_nano
    for elapsed_ms in range(every_ms, for_s * 1000 + 1, every_ms):
        burn = burn.observed(began_ms + elapsed_ms, before_nano + nano_per_s * elapsed_ms // 1000)
    return burn


def size(burn: Burn, lasts_ms: int = 30_000, held_nano: int = 0) -> int:
    return next_grant_nano(burn, held_nano=held_nano, lasts_ms=lasts_ms, least_nano=BLOCK_NANO)


def test_a_tenant_of_whom_nothing_is_known_gets_the_block() -> None:
    assert size(Burn(0, 0)) == BLOCK_NANO


@pytest.mark.parametrize("nano_per_s", [1000, 10**6, 10**9])
@pytest.mark.parametrize("every_ms", [100, 1000, 5000])
def test_at_a_steady_pace_it_lasts_as_long_as_it_admits(nano_per_s: int, every_ms: int) -> None:
    grown = size(spending(nano_per_s, 120, every_ms)) - BLOCK_NANO
    assert 0.9 * 30 * nano_per_s <= grown <= 30 * nano_per_s


def test_who_may_go_on_for_a_day_leases_for_a_day() -> None:
    burn = spending(1000, 120)
    assert size(burn, 86_400_000) - BLOCK_NANO == pytest.approx(86_400_000, rel=0.1)


def test_a_pause_makes_the_next_grant_small_again() -> None:
    burn = spending(10**9, 60)
    later = burn.observed(burn.at_ms + 600_000, burn.spent_nano)
    assert size(later) < size(burn) / 50


@given(RATES, st.integers(1, 60), st.integers(1, 10**6), RATES)
def test_it_is_never_less_than_what_is_known_to_be_needed(rate: int, for_s: int, lasts_ms: int, held: int) -> None:
    assert size(spending(rate, for_s), lasts_ms, held) >= BLOCK_NANO + held


@given(RATES, RATES, st.integers(1, 60))
def test_who_spends_more_gets_no_less(rate: int, more: int, for_s: int) -> None:
    assert size(spending(rate + more, for_s)) >= size(spending(rate, for_s))


@given(st.lists(st.tuples(st.integers(-5000, 5000), st.integers(0, 10**9)), max_size=20))
def test_a_clock_that_stands_still_or_goes_back_changes_nothing(steps: list[tuple[int, int]]) -> None:
    burn, now_ms, spent_nano = Burn(0, 0), 0, 0
    for step_ms, nano in steps:
        now_ms, spent_nano = now_ms + step_ms, spent_nano + nano
        seen = burn.observed(now_ms, spent_nano)
        assert seen.nano_per_ks >= 0
        assert seen is burn if now_ms <= burn.at_ms else seen.at_ms == now_ms
        burn = seen
