"""Tries go on for a day, further and further apart; an endpoint is given up after three days, or when it says so."""

from datetime import UTC, datetime, timedelta

from chappe_control.webhooks.schedule import MOST_ATTEMPTS, reason_to_disable, wait_after

NOW = datetime(2026, 11, 23, tzinfo=UTC)


def test_tries_are_spread_over_a_day() -> None:
    waits = [wait for wait in (wait_after(attempt) for attempt in range(1, MOST_ATTEMPTS)) if wait is not None]
    assert waits == sorted(waits) and len(waits) == MOST_ATTEMPTS - 1
    assert timedelta(hours=22) < sum(waits, timedelta()) < timedelta(hours=26)
    assert wait_after(MOST_ATTEMPTS) is None and wait_after(MOST_ATTEMPTS + 1) is None


def test_an_endpoint_is_disabled_after_days_or_at_its_own_word() -> None:
    assert reason_to_disable(500, NOW - timedelta(days=2, hours=23), NOW) is None
    assert reason_to_disable(None, NOW - timedelta(days=3), NOW) == "failing"
    assert reason_to_disable(410, NOW, NOW) == "gone"
