"""Amounts, prices and percentages as decimal text. Whole numbers come in, nothing is rounded."""

NANO_DIGITS = 9


def decimal_text(amount: int, digits: int, *, at_least: int | None = None) -> str:
    """`amount` with its last `digits` after a point; of zeros at the end just as many stay as make `at_least`."""
    sign, whole = "-" if amount < 0 else "", abs(amount)
    before, after = divmod(whole, 10**digits)
    fraction = f"{after:0{digits}d}" if digits else ""
    if at_least is not None:
        fraction = fraction[:at_least] + fraction[at_least:].rstrip("0")
    return f"{sign}{before}.{fraction}" if fraction else f"{sign}{before}"


def minor_text(amount_minor: int, minor_digits: int) -> str:
    return decimal_text(amount_minor, minor_digits)


def price_text(price_nano: int, minor_digits: int) -> str:
    return decimal_text(price_nano, NANO_DIGITS, at_least=minor_digits)


def percent_text(rate_bp: int, *, at_least: int = 2) -> str:
    return decimal_text(rate_bp, 2, at_least=at_least)
