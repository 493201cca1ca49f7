"""Amounts of money: integers in nano-units of a currency (1 EUR = 10**9). No float ever touches them."""

import re
from typing import NewType

from chappe_kernel.errors import Invalid

Nano = NewType("Nano", int)

NANO_PER_UNIT = 1_000_000_000
_DECIMAL = re.compile(r"(-?)(\d{1,12})(?:\.(\d{1,9}))?", re.ASCII)


def format_nano(amount_nano: int) -> str:
    """A decimal string with exactly nine decimals, as the public API shows amounts."""
    sign = "-" if amount_nano < 0 else ""
    whole, fraction = divmod(abs(amount_nano), NANO_PER_UNIT)
    return f"{sign}{whole}.{fraction:09d}"


def parse_nano(text: str) -> Nano:
    """The inverse of `format_nano`; fewer decimals are allowed, more are refused with `Invalid`."""
    match = _DECIMAL.fullmatch(text)
    if match is None:
        raise Invalid(f"not an amount with at most nine decimals: {text!r}", code="invalid_amount")
    sign, whole, fraction = match.groups()
    amount = int(whole) * NANO_PER_UNIT + int((fraction or "").ljust(9, "0"))
    return Nano(-amount if sign else amount)
