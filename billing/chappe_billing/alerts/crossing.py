"""What stands and what has recovered: each crossing begins once, and ends at some distance from its limit. Pure."""

from collections.abc import Iterator, Mapping
from datetime import date
from typing import Any

from msgspec import Struct

from chappe_billing.alerts.forecast import Forecast, Pace, days_left
from chappe_billing.alerts.kinds import AlertKind
from chappe_kernel.money import format_nano

# Recovered is who is a tenth away from the limit again: figures that tremble about it are told once.
_TENTH = 10

Key = tuple[str, str]
"""An alert's kind and subject."""


class Limits(Struct, frozen=True):
    """What a tenant wants to hear of. `budgets` are its own monthly budgets, nano by id as the API shows it."""

    low_balance_nano: int | None = None
    low_balance_days: int | None = None
    forecast_nano: int | None = None
    budgets: Mapping[str, int] = {}


class Finances(Struct, frozen=True):
    """A tenant's at one instant. `spendable_nano` is with its credit limit."""

    currency: str
    spendable_nano: int
    pace: Pace
    forecast: Forecast


class Watched(Struct, frozen=True):
    """One limit as it is now. Between `is_crossed` and `is_recovered` nothing changes."""

    kind: AlertKind
    subject: str
    is_crossed: bool
    is_recovered: bool
    figures: dict[str, Any]

    @property
    def key(self) -> Key:
        return (self.kind, self.subject)


def watch(limits: Limits, found: Finances) -> Iterator[Watched]:
    """Every limit that there is, with how it stands."""
    if limits.low_balance_nano is not None or limits.low_balance_days is not None:
        yield _watch_balance(limits, found)
    for subject, limit, is_budget in _forecast_limits(limits):
        yield _watch_forecast(found, subject, limit, is_budget=is_budget)


def _watch_balance(limits: Limits, found: Finances) -> Watched:
    """Low is who is below either limit, and away from it who is away from both."""
    least, days, have = limits.low_balance_nano, limits.low_balance_days, found.spendable_nano
    left = days_left(have, found.pace)
    poor = least is not None and have < least
    short = days is not None and left is not None and left < days
    rich = least is None or have >= least + least // _TENTH
    long = days is None or left is None or left * _TENTH >= days * (_TENTH + 1)
    figures = {
        "available": format_nano(have),
        "currency": found.currency,
        "days_left": left,
        "limit": None if least is None else format_nano(least),
        "limit_days": days,
    }
    return Watched(AlertKind.LOW_BALANCE, "balance", poor or short, rich and long, figures)


def changes(standing: set[Key], watched: Iterator[Watched]) -> tuple[list[Watched], set[Key]]:
    """What has to be told now, and what of that which stands has recovered. What is not watched any more has."""
    known = {one.key: one for one in watched}
    raised = [one for one in known.values() if one.is_crossed and one.key not in standing]
    return raised, {key for key in standing if key not in known or known[key].is_recovered}


def _forecast_limits(limits: Limits) -> Iterator[tuple[str, int, bool]]:
    if limits.forecast_nano is not None:
        yield "amount", limits.forecast_nano, False
    for budget_id, nano in limits.budgets.items():
        yield budget_id, nano, True


def _watch_forecast(found: Finances, subject: str, limit: int, *, is_budget: bool) -> Watched:
    expected = found.forecast.expected_nano
    return Watched(
        AlertKind.FORECAST,
        # Another month is another crossing.
        f"{found.forecast.month:%Y-%m} {subject}",
        expected > limit,
        expected <= limit - limit // _TENTH,
        {
            "month": f"{found.forecast.month:%Y-%m}",
            "expected": format_nano(expected),
            "spent": format_nano(found.forecast.spent_nano),
            "limit": format_nano(limit),
            "quota_id": subject if is_budget else None,
            "currency": found.currency,
        },
    )


def months_spending(month: date, spent_by_day: Mapping[date, int]) -> list[tuple[date, int]]:
    """Of a chart: each day of the month so far with what was spent until its end."""
    total, rows = 0, []
    for day in sorted(day for day in spent_by_day if day >= month):
        total += spent_by_day[day]
        rows.append((day, total))
    return rows
