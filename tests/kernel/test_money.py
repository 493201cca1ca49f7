"""Amounts survive their text form to the nano, and nothing else reads as an amount."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chappe_kernel.errors import Invalid
from chappe_kernel.money import NANO_PER_UNIT, format_nano, parse_nano

AMOUNTS = st.integers(-(10**21) + 1, 10**21 - 1)


@given(AMOUNTS)
def test_parse_inverts_format(amount_nano: int) -> None:
    assert parse_nano(format_nano(amount_nano)) == amount_nano


@given(AMOUNTS)
def test_text_has_exactly_nine_decimals_and_the_exact_value(amount_nano: int) -> None:
    text = format_nano(amount_nano)
    assert re.fullmatch(r"-?\d+\.\d{9}", text)
    assert int(text.replace(".", "")) == amount_nano


@given(st.integers(0, 10**12 - 1), st.integers(0, 9).flatmap(lambda n: st.from_regex(rf"[0-9]{{{n}}}", fullmatch=True)))
def test_fewer_decimals_mean_the_same_as_with_zeros(whole: int, decimals: str) -> None:
    text = f"{whole}.{decimals}" if decimals else str(whole)
    assert parse_nano(text) == whole * NANO_PER_UNIT + int(decimals.ljust(9, "0"))


@pytest.mark.parametrize(
    "text",
    ["", "-", ".5", "1.", "1.0000000001", "1e3", "+1", " 1", "1 ", "1\n", "1,5", "1_0", "NaN", "inf", "0x1", "--1"],
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(Invalid) as raised:
        parse_nano(text)
    assert raised.value.code == "invalid_amount"


@pytest.mark.parametrize("digit", ["\u0661", "\uff11"])
def test_only_ascii_digits_count(digit: str) -> None:
    with pytest.raises(Invalid):
        parse_nano(digit)


def test_more_than_twelve_whole_digits_are_refused() -> None:
    with pytest.raises(Invalid):
        parse_nano("1" * 13)
