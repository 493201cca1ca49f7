"""Where this month's spending is going, and how long the money lasts, by usage so far. Pure; integers of nanos."""

from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Final

from msgspec import Struct

WINDOW_DAYS: Final = 7
_DAY_S: Final = 86_400


class Pace(Struct, frozen=True):
    """What was spent lately, and in how many seconds."""

    spent_nano: int
    elapsed_s: int

    def over(self, seconds: int) -> int:
        """What that would be in so many seconds, rounded down."""
        return self.spent_nano * seconds // self.elapsed_s


class Forecast(Struct, frozen=True):
    """`expected_nano` is this month's spending at its end, if the rest of it is like the last days."""

    month: date
    spent_nano: int
    expected_nano: int
    ends_at: datetime


def pace_of(spent_by_day: Mapping[date, int], now: datetime) -> Pace:
    """Of today and the seven days before it (UTC), or since usage began in them. At least a day counts as gone by: an
    hour's rush is no month's."""
    today = now.astimezone(UTC).date()
    days = [today - timedelta(days=back) for back in range(WINDOW_DAYS + 1)]
    first = min((day for day in days if spent_by_day.get(day, 0) > 0), default=today)
    spent_nano = sum(spent_by_day.get(day, 0) for day in days)
    elapsed_s = int((now - _midnight(first)).total_seconds())
    return Pace(max(0, spent_nano), max(elapsed_s, _DAY_S))


def forecast(spent_by_day: Mapping[date, int], now: datetime) -> Forecast:
    """By the days' sums of at least this month and the seven days before today; those in the future count nothing."""
    today = now.astimezone(UTC).date()
    month = today.replace(day=1)
    ends_at = _midnight((month + timedelta(days=32)).replace(day=1))
    spent_nano = sum(nano for day, nano in spent_by_day.items() if month <= day <= today)
    left_s = int((ends_at - now).total_seconds())
    return Forecast(month, spent_nano, spent_nano + pace_of(spent_by_day, now).over(left_s), ends_at)


def days_left(spendable_nano: int, pace: Pace) -> int | None:
    """Whole days that the money lasts at this pace; None when nothing is spent."""
    if pace.spent_nano <= 0:
        return None
    return max(0, spendable_nano) * pace.elapsed_s // (pace.spent_nano * _DAY_S)


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)
