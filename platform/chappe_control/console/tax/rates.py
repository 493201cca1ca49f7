"""Which rate each country has today, and which is next."""

from collections.abc import Iterable
from datetime import date
from itertools import groupby
from operator import attrgetter

from msgspec import Struct

from chappe_billing.tax.models import VatRate


class CountryRates(Struct, frozen=True):
    """`now` is in force, `next` the first that is scheduled; None where there is none."""

    country: str
    now: VatRate | None
    next: VatRate | None


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
