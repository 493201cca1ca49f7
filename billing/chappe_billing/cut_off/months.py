"""Months by their first days. Pure."""

from collections.abc import Iterator
from datetime import date, timedelta

_LONGEST_MONTH = timedelta(days=31)


def next_month(month: date) -> date:
    return (month + _LONGEST_MONTH).replace(day=1)


def months_from(first: date, until: date) -> Iterator[date]:
    """`first` and all that follow before `until`."""
    month = first
    while month < until:
        yield month
        month = next_month(month)
