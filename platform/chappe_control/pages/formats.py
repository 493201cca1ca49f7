"""Numbers, amounts and times as people of a locale write them. Amounts are exact: no float comes near them."""

import copy
from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import lru_cache, partial
from typing import Any

from babel import Locale
from babel.dates import format_date, format_time, format_timedelta
from babel.numbers import NumberPattern, format_decimal, format_percent
from babel.units import format_unit
from markupsafe import Markup, escape

from chappe_kernel.money import parse_nano

_MIN_DECIMALS = 2
_NANO_DECIMALS = 9
_TOKENS_PER_PRICE = 1_000_000
_MS_PER_S = 1000
_UNITS = ((24 * 3600, "day"), (3600, "hour"), (60, "minute"), (1, "second"))


def amount(locale: Locale, nano: int, currency: str) -> str:
    """Exact, with at least two decimals and at most nine: `0,00000336 €`."""
    before, after = _currency_affixes(locale, currency, negative=nano < 0)
    whole, fraction = divmod(abs(nano), 10**_NANO_DECIMALS)
    decimals = f"{fraction:0{_NANO_DECIMALS}}".rstrip("0").ljust(_MIN_DECIMALS, "0")
    return f"{before}{number(locale, whole)}{_symbol(locale, 'decimal')}{decimals}{after}"


def price_per_million(locale: Locale, nano_per_token: int, currency: str) -> str:
    """The price of a million tokens: one nano per token is 0.001 of the currency's unit."""
    return amount(locale, nano_per_token * _TOKENS_PER_PRICE, currency)


def number(locale: Locale, value: float | Decimal) -> str:
    """Grouped as the locale does; a float gets at most three decimals."""
    if isinstance(value, int):
        # A page has hundreds of these: Babel takes ten times as long for the same digits.
        return f"{value:,}".replace(",", _symbol(locale, "group"))
    return str(format_decimal(value, locale=locale))


def percent(locale: Locale, ratio: float) -> str:
    """0.125 is 12.5 %."""
    return str(format_percent(ratio, format=locale.percent_formats[None].pattern.replace("0", "0.#", 1), locale=locale))


def basis_points(locale: Locale, value: int) -> str:
    """1250 is 12.5 %: exact."""
    pattern = locale.percent_formats[None].pattern.replace("0", "0.##", 1)
    return str(format_percent(Decimal(value) / 10_000, format=pattern, locale=locale))


def duration_ms(locale: Locale, milliseconds: float) -> str:
    """`0.4 ms`, `84 ms`, `1.25 s`."""
    if milliseconds >= _MS_PER_S:
        return f"{number(locale, round(milliseconds / _MS_PER_S, 2))}\N{NO-BREAK SPACE}s"
    value = round(milliseconds, 1) if milliseconds < 10 else round(milliseconds)  # noqa: PLR2004 -- two figures are enough
    return f"{number(locale, value)}\N{NO-BREAK SPACE}ms"


def duration_s(locale: Locale, seconds: int) -> str:
    """Exact, in the longest unit that it is whole in: `7 days`, `90 minutes`."""
    length_s, unit = next((length_s, unit) for length_s, unit in _UNITS if seconds % length_s == 0)
    return str(format_unit(seconds // length_s, f"duration-{unit}", locale=locale))


def when_text(locale: Locale, moment: datetime) -> str:
    moment = moment.astimezone(UTC)
    return f"{_day_text(locale, moment.date())}, {moment:%H:%M:%S}\N{NO-BREAK SPACE}UTC"


def when(locale: Locale, moment: datetime) -> Markup:
    """A `<time>` in UTC, to the second; the exact instant is in its `datetime`."""
    return _time(moment, when_text(locale, moment))


def when_stacked(locale: Locale, moment: datetime) -> Markup:
    """As `when`, for narrow columns: the time, and the day in a line below. The column's title says that it is UTC."""
    moment = moment.astimezone(UTC)
    day = escape(_day_text(locale, moment.date()))
    return _time(
        moment,
        Markup(f'{moment:%H:%M:%S}<br><span class="small text-secondary">{day}</span>'),  # noqa: S704 -- escaped above
    )


def clock_time(locale: Locale, moment: datetime) -> str:
    """Hours and minutes in UTC, for the axes of charts."""
    return str(format_time(moment.astimezone(UTC), "HH:mm", locale=locale))


def day(locale: Locale, moment: datetime) -> str:
    """The day alone, in UTC."""
    return _day_text(locale, moment.astimezone(UTC).date())


def day_of_month(locale: Locale, day: date) -> str:
    """A day of the calendar, in no time zone."""
    return _day_text(locale, day)


def month(locale: Locale, moment: date) -> str:
    """Of a moment, in UTC, or of a day."""
    day = moment.astimezone(UTC) if isinstance(moment, datetime) else moment
    return str(format_date(day, "MMMM y", locale=locale))


def ago(locale: Locale, now: Callable[[], datetime], moment: datetime | None, never: str = "\N{EN DASH}") -> Markup:
    """`3 minutes ago`, with the exact instant as a title; None is a dash."""
    if moment is None:
        return escape(never)
    text = format_timedelta(moment - now(), add_direction=True, locale=locale)
    return Markup('<time datetime="{}" title="{}">{}</time>').format(_iso(moment), when_text(locale, moment), text)


def make_filters(locale: Locale, now: Callable[[], datetime]) -> dict[str, Callable[..., Any]]:
    """The templates' filters in one locale."""
    plain: tuple[Callable[..., Any], ...] = (
        amount, price_per_million, number, percent, basis_points, duration_ms, duration_s, when, when_text,
        when_stacked, clock_time, day, day_of_month, month,
    )  # fmt: skip
    filters: dict[str, Callable[..., Any]] = {rule.__name__: partial(rule, locale) for rule in plain}
    return {**filters, "nano": parse_nano, "ago": partial(ago, locale, now)}


@lru_cache(maxsize=64)
def _currency_affixes(locale: Locale, currency: str, *, negative: bool) -> tuple[str, str]:
    """What stands before and after the digits of an amount: sign, symbol, blanks."""
    shown = f"1{_symbol(locale, 'decimal')}00"
    pattern = _currency_pattern(locale)
    value = Decimal(-1 if negative else 1)
    text = pattern.apply(value, locale, currency=currency, currency_digits=False, numbering_system="latn")
    before, _, after = text.partition(shown)
    return before, after


@lru_cache(maxsize=16)
def _symbol(locale: Locale, name: str) -> str:
    return str(locale.number_symbols["latn"][name])


@lru_cache(maxsize=512)
def _day_text(locale: Locale, day: date) -> str:
    return str(format_date(day, "medium", locale=locale))


@lru_cache(maxsize=8)
def _currency_pattern(locale: Locale) -> NumberPattern:
    pattern: NumberPattern = copy.copy(locale.currency_formats["standard"])
    pattern.frac_prec = (_MIN_DECIMALS, _NANO_DECIMALS)
    return pattern


def _time(moment: datetime, text: str) -> Markup:
    return Markup(f'<time datetime="{_iso(moment)}">{escape(text)}</time>')  # noqa: S704 -- escaped


def _iso(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")
