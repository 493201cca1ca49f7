"""A day's books: usage and revenue by region, model and hour beside the day before, and whether the ledger agrees."""

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TypeVar
from uuid import UUID

from msgspec import Struct

from chappe_billing.ledger.postings import AccountKind
from chappe_control.console.revenue.hours import Booked, begin_of_day, begin_of_hour
from chappe_control.console.revenue.queries import Sums, UsedInHour

K = TypeVar("K", bound=Hashable)

_DAY = timedelta(days=1)
_HOURS = 24


class Line(Struct, frozen=True):
    """One region, model or hour: today and yesterday."""

    name: str
    today: Sums
    yesterday: Sums


class Hour(Struct, frozen=True):
    """`begins` is today's; `today` is None for an hour that is yet to come."""

    begins: datetime
    today: Sums | None
    yesterday: Sums


class Comparison(Struct, frozen=True):
    """One account: what it should have moved by, by usage, and what its entries say. A write-off has no region."""

    kind: AccountKind
    region: str | None
    used_nano: int
    booked_nano: int

    @property
    def difference_nano(self) -> int:
        return self.booked_nano - self.used_nano


class Day(Struct, frozen=True):
    """Everything in one currency. `yesterday_so_far` ends with the hour that runs now, a day earlier."""

    currency: str
    today: Sums
    yesterday: Sums
    yesterday_so_far: Sums
    regions: Sequence[Line]
    models: Sequence[Line]
    hours: Sequence[Hour]
    compared_at: datetime
    comparisons: Sequence[Comparison]

    @property
    def agrees(self) -> bool:
        """Whether every account moved by exactly what was used."""
        return all(comparison.difference_nano == 0 for comparison in self.comparisons)

    @property
    def booked_nano(self) -> int:
        """What the ledger's revenue accounts were credited with, publishers' shares included."""
        return sum(found.booked_nano for found in self.comparisons if found.kind is AccountKind.REVENUE)


def make_days(
    used: Sequence[UsedInHour],
    compared: Booked,
    now: datetime,
    *,
    regions: Sequence[str],
    models: Mapping[UUID, str],
    currencies: Iterable[str],
) -> list[Day]:
    """One for each currency that something was used in, or that `currencies` names, by name."""
    found = {row.currency for row in used} | {row.currency for row in compared.booked} | set(currencies)
    return [
        _make_day(
            [row for row in used if row.currency == currency],
            currency,
            now,
            regions=regions,
            models=models,
            compared_at=compared.as_of,
            comparisons=_compare(compared, currency, regions),
        )
        for currency in sorted(found)
    ]


def _make_day(
    used: Sequence[UsedInHour],
    currency: str,
    now: datetime,
    *,
    regions: Sequence[str],
    models: Mapping[UUID, str],
    compared_at: datetime,
    comparisons: Sequence[Comparison],
) -> Day:
    midnight = begin_of_day(now)
    today = [row for row in used if row.hour >= midnight]
    yesterday = [row for row in used if row.hour < midnight]
    by_region = _lines(today, yesterday, lambda row: row.region)
    by_model = _lines(today, yesterday, lambda row: models.get(row.listing_id, str(row.listing_id)))
    order = {name: position for position, name in enumerate(regions)}
    empty = [Line(name, Sums(), Sums()) for name in regions if name not in {line.name for line in by_region}]
    return Day(
        currency=currency,
        today=_total(today),
        yesterday=_total(yesterday),
        yesterday_so_far=_total(row for row in yesterday if row.hour + _DAY <= begin_of_hour(now)),
        regions=sorted([*by_region, *empty], key=lambda line: (order.get(line.name, len(order)), line.name)),
        models=sorted(by_model, key=lambda line: (-line.today.rated_nano, -line.yesterday.rated_nano, line.name)),
        hours=_hours(today, yesterday, now),
        compared_at=compared_at,
        comparisons=comparisons,
    )


def _lines(
    today: Sequence[UsedInHour], yesterday: Sequence[UsedInHour], name: Callable[[UsedInHour], str]
) -> list[Line]:
    new, old = _grouped(today, name), _grouped(yesterday, name)
    return [Line(key, new.get(key, Sums()), old.get(key, Sums())) for key in sorted({*new, *old})]


def _hours(today: Sequence[UsedInHour], yesterday: Sequence[UsedInHour], now: datetime) -> list[Hour]:
    new = _grouped(today, lambda row: row.hour)
    old = _grouped(yesterday, lambda row: row.hour + _DAY)
    begins = [begin_of_day(now) + timedelta(hours=hour) for hour in range(_HOURS)]
    return [Hour(hour, new.get(hour, Sums()) if hour <= now else None, old.get(hour, Sums())) for hour in begins]


def _compare(compared: Booked, currency: str, regions: Sequence[str]) -> list[Comparison]:
    """Of today: revenue by region, and write-offs altogether."""
    since = begin_of_day(compared.as_of)
    used = [row for row in compared.used if row.currency == currency and row.hour >= since]
    booked: defaultdict[tuple[AccountKind, str | None], int] = defaultdict(int)
    for entry in compared.booked:
        if entry.currency == currency and entry.hour >= since:
            # What was sold is the operator's revenue and its publishers' shares.
            kind = AccountKind.REVENUE if entry.kind is AccountKind.PUBLISHER_PAYABLE else entry.kind
            booked[kind, entry.region] += entry.amount_nano
    rated = {region: sums.rated_nano for region, sums in _grouped(used, lambda row: row.region).items()}
    booked_regions = {region for kind, region in booked if kind is AccountKind.REVENUE and region is not None}
    names = dict.fromkeys([*regions, *sorted({*rated, *booked_regions})])
    revenue = [
        Comparison(AccountKind.REVENUE, name, rated.get(name, 0), booked[AccountKind.REVENUE, name]) for name in names
    ]
    written_off = _total(used).written_off_nano
    # A write-off is a debit: the operator's loss.
    return [*revenue, Comparison(AccountKind.WRITE_OFF, None, -written_off, booked[AccountKind.WRITE_OFF, None])]


def _grouped(rows: Iterable[UsedInHour], key: Callable[[UsedInHour], K]) -> dict[K, Sums]:
    sums: dict[K, Sums] = {}
    for row in rows:
        group = key(row)
        sums[group] = sums.get(group, Sums()) + row.sums
    return sums


def _total(rows: Iterable[UsedInHour]) -> Sums:
    return sum((row.sums for row in rows), Sums())
