"""Which rate each country has today, which is next, and what holds when."""

from collections.abc import Iterable
from datetime import date, timedelta
from itertools import groupby
from operator import attrgetter

from msgspec import Struct

from chappe_billing.tax.models import VatRate


class CountryRates(Struct, frozen=True):
    """`now` is in force, `next` the first that is scheduled; None where there is none."""

    country: str
    now: VatRate | None
    next: VatRate | None


class Span(Struct, frozen=True):
    """A rate and its last day; None for one that ends with no other."""

    rate: VatRate
    until: date | None

    def is_over(self, today: date) -> bool:
        return self.until is not None and self.until < today


def spans_of(rates: Iterable[VatRate]) -> list[Span]:
    """What holds when, of rates as `list_rates` has them and in its order: of two for one day the later word."""
    spans: list[Span] = []
    for rate in rates:
        later = spans[-1].rate if spans and spans[-1].rate.country == rate.country else None
        if later is None:
            spans.append(Span(rate, None))
        elif later.starts_on != rate.starts_on:
            spans.append(Span(rate, later.starts_on - timedelta(days=1)))
    return spans


def rates_by_country(rates: Iterable[VatRate], today: date) -> list[CountryRates]:
    """Of rates by country and then from the newest, as `list_rates` has them: of two for one day the later word counts,
    and comes first."""
    return [_of_country(country, list(rows), today) for country, rows in groupby(rates, key=attrgetter("country"))]


def _of_country(country: str, newest_first: list[VatRate], today: date) -> CountryRates:
    first_day = min((rate.starts_on for rate in newest_first if rate.starts_on > today), default=None)
    return CountryRates(
        country,
        next((rate for rate in newest_first if rate.starts_on <= today), None),
        next((rate for rate in newest_first if rate.starts_on == first_day), None),
    )
