"""Amounts are shown exactly, and everything as the locale writes it."""

from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chappe_control.pages import formats
from chappe_control.pages.languages import LOCALES

NARROW, FIXED = "\N{NARROW NO-BREAK SPACE}", "\N{NO-BREAK SPACE}"
MOMENT = datetime(2026, 11, 2, 4, 5, 6, 789, tzinfo=UTC)

AMOUNTS = [
    (3360, "€0.00000336", f"0,00000336{FIXED}€", f"0,00000336{FIXED}€"),
    (0, "€0.00", f"0,00{FIXED}€", f"0,00{FIXED}€"),
    (1, "€0.000000001", f"0,000000001{FIXED}€", f"0,000000001{FIXED}€"),
    (10_000_000_000, "€10.00", f"10,00{FIXED}€", f"10,00{FIXED}€"),
    (9_998_765_432, "€9.998765432", f"9,998765432{FIXED}€", f"9,998765432{FIXED}€"),
    (-4_200_000_000, "-€4.20", f"-4,20{FIXED}€", f"-4,20{FIXED}€"),
    (
        1_234_567_891_234_567_891,
        "€1,234,567,891.234567891",
        f"1{NARROW}234{NARROW}567{NARROW}891,234567891{FIXED}€",
        f"1.234.567.891,234567891{FIXED}€",
    ),
]


@pytest.mark.parametrize(("nano", "en", "fr", "de"), AMOUNTS)
def test_amount_in_three_locales(nano: int, en: str, fr: str, de: str) -> None:
    shown = [formats.amount(LOCALES[language], nano, "EUR") for language in ("en", "fr", "de")]
    assert shown == [en, fr, de]


@given(st.integers(-(10**24), 10**24), st.sampled_from(sorted(LOCALES)), st.sampled_from(["EUR", "USD", "CHF", "JPY"]))
def test_amount_is_exact_to_the_nano(nano: int, language: str, currency: str) -> None:
    text = formats.amount(LOCALES[language], nano, currency)
    decimal_mark = "." if language == "en" else ","
    digits = "".join(character for character in text if character.isdigit() or character == decimal_mark)
    whole, _, fraction = digits.partition(decimal_mark)
    assert 2 <= len(fraction) <= 9
    assert len(fraction) == 2 or not fraction.endswith("0")
    assert int(whole) * 10**9 + int(fraction.ljust(9, "0")) == abs(nano)
    assert ("-" in text) == (nano < 0)


@given(st.integers(0, 10**15))
def test_price_per_million_is_exact(nano_per_token: int) -> None:
    locale = LOCALES["de"]
    assert formats.price_per_million(locale, nano_per_token, "EUR") == formats.amount(
        locale, nano_per_token * 1_000_000, "EUR"
    )


def test_price_of_sixty_nanos_a_token() -> None:
    assert formats.price_per_million(LOCALES["fr"], 60, "EUR") == f"0,06{FIXED}€"


def test_other_figures() -> None:
    en, fr, de = LOCALES["en"], LOCALES["fr"], LOCALES["de"]
    numbers = [formats.number(locale, 1234567) for locale in (en, fr, de)]
    assert numbers == ["1,234,567", f"1{NARROW}234{NARROW}567", "1.234.567"]
    assert formats.number(de, Decimal("0.5")) == "0,5"
    assert [formats.percent(locale, 0.125) for locale in (en, fr, de)] == ["12.5%", f"12,5{FIXED}%", f"12,5{FIXED}%"]
    assert [formats.duration_ms(de, ms) for ms in (0.43, 9.96, 84.4, 999.7, 1254, 61_000)] == [
        f"{text}{FIXED}{unit}"
        for text, unit in (("0,4", "ms"), ("10", "ms"), ("84", "ms"), ("1.000", "ms"), ("1,25", "s"), ("61", "s"))
    ]


def test_instants_are_in_utc_to_the_second_and_exact_in_the_markup() -> None:
    elsewhere = MOMENT.astimezone(timezone(timedelta(hours=5)))
    assert formats.when_text(LOCALES["en"], elsewhere) == f"2 Nov 2026, 04:05:06{FIXED}UTC"
    assert formats.when_text(LOCALES["fr"], elsewhere) == f"2 nov. 2026, 04:05:06{FIXED}UTC"
    assert formats.when_text(LOCALES["de"], elsewhere) == f"02.11.2026, 04:05:06{FIXED}UTC"
    assert str(formats.when(LOCALES["en"], elsewhere)).startswith('<time datetime="2026-11-02T04:05:06.000789Z">')
    assert formats.clock_time(LOCALES["fr"], elsewhere) == "04:05"
    assert formats.day(LOCALES["fr"], elsewhere) == "2 nov. 2026"
    assert formats.month(LOCALES["de"], elsewhere) == "November 2026"


def test_ago_is_relative_and_a_dash_for_never() -> None:
    def now() -> datetime:
        return MOMENT + timedelta(minutes=3)

    texts = [str(formats.ago(LOCALES[language], now, MOMENT)) for language in ("en", "fr", "de")]
    assert [text.split(">")[1].split("<")[0] for text in texts] == [
        "3 minutes ago",
        "il y a 3 minutes",
        "vor 3 Minuten",
    ]
    assert str(formats.ago(LOCALES["en"], now, None)) == "\N{EN DASH}"
