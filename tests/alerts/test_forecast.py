"""The month's expected end and the days that the money lasts: integers, by what was spent lately."""

from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chappe_billing.alerts.crossing import Finances, Limits, changes, watch
from chappe_billing.alerts.forecast import Pace, days_left, forecast, pace_of
from chappe_billing.alerts.kinds import AlertKind

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
EURO = 1_000_000_000


def days(*spent: tuple[int, int]) -> dict[date, int]:
    """By day of November 2026, in euros."""
    return {date(2026, 11, day): euros * EURO for day, euros in spent}


def test_an_even_month_goes_on_evenly() -> None:
    """Ten euros a day until the 22nd and five in half of the 23rd: 300 at the month's end."""
    found = forecast(days(*((day, 10) for day in range(1, 23)), (23, 5)), NOON)
    assert (found.spent_nano, found.expected_nano) == (225 * EURO, 300 * EURO)
    assert (found.month, found.ends_at) == (date(2026, 11, 1), datetime(2026, 12, 1, tzinfo=UTC))


def test_what_was_long_ago_says_nothing_of_the_rest() -> None:
    assert forecast(days((1, 100)), NOON).expected_nano == 100 * EURO


def test_on_the_first_of_a_month_the_month_before_counts() -> None:
    spent = {date(2026, 10, day): 10 * EURO for day in range(20, 32)}
    found = forecast(spent, datetime(2026, 11, 1, tzinfo=UTC))
    assert (found.spent_nano, found.expected_nano) == (0, 300 * EURO)


def test_an_hours_rush_is_no_months() -> None:
    """Whoever began an hour ago is reckoned as if it had been a day."""
    now = datetime(2026, 11, 30, 1, tzinfo=UTC)
    assert forecast(days((30, 24)), now).expected_nano == 24 * EURO + 23 * EURO
    assert pace_of(days((30, 24)), now) == Pace(24 * EURO, 86_400)


@pytest.mark.parametrize(
    ("spendable", "pace", "left"),
    [
        (70 * EURO, Pace(70 * EURO, 7 * 86_400), 7),
        (70 * EURO - 1, Pace(70 * EURO, 7 * 86_400), 6),
        (0, Pace(9, 86_400), 0),
        (-5, Pace(9, 86_400), 0),
        (5, Pace(0, 86_400), None),
    ],
)
def test_days_left_are_whole(spendable: int, pace: Pace, left: int | None) -> None:
    assert days_left(spendable, pace) == left


spending = st.dictionaries(
    st.integers(-10, 22).map(lambda day: date(2026, 11, 1) + timedelta(days=day)), st.integers(0, 10**15), max_size=33
)


@given(spent=spending, second=st.integers(0, 23 * 86_400 - 1))
def test_a_forecast_is_never_below_what_was_spent(spent: dict[date, int], second: int) -> None:
    now = datetime(2026, 11, 1, tzinfo=UTC) + timedelta(seconds=second)
    found = forecast(spent, now)
    assert found.expected_nano >= found.spent_nano >= 0


@given(figures=st.lists(st.integers(0, 30), min_size=1, max_size=40), limit=st.integers(1, 20))
def test_a_crossing_is_told_once_and_again_after_it_recovered(figures: list[int], limit: int) -> None:
    """Whatever a balance does: between two letters it was a tenth above the limit, and no fall is kept silent."""
    standing: set[tuple[str, str]] = set()
    told_since_recovery = False
    for euros in figures:
        found = Finances("EUR", euros * EURO, Pace(0, 86_400), forecast({}, NOON))
        raised, recovered = changes(standing, watch(Limits(low_balance_nano=limit * EURO), found))
        if recovered:
            assert euros * 10 >= limit * 11
            told_since_recovery = False
        if raised:
            assert euros < limit and not told_since_recovery
            told_since_recovery = True
        standing = (standing | {one.key for one in raised}) - recovered
        assert bool(standing) or euros >= limit


def test_what_is_watched_no_more_has_recovered() -> None:
    found = Finances("EUR", 0, Pace(0, 86_400), forecast({}, NOON))
    raised, _ = changes(set(), watch(Limits(low_balance_nano=1), found))
    assert [one.key for one in raised] == [(AlertKind.LOW_BALANCE, "balance")]
    assert changes({raised[0].key}, watch(Limits(), found)) == ([], {raised[0].key})


def test_a_forecast_is_watched_against_each_budget_and_anew_each_month() -> None:
    found = Finances("EUR", 0, Pace(0, 86_400), forecast(days((22, 70)), NOON))
    told = {one.subject: one.is_crossed for one in watch(Limits(None, None, EURO, {"quo_a": 10**15}), found)}
    assert told == {"2026-11 amount": True, "2026-11 quo_a": False}
