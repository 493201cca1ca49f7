"""VAT numbers by country: their shape. Whether one is in force only the country's own register can say.

The shapes are the European Commission's (VIES, frequently asked questions, Q11), and those of the neighbours' tax
offices. A number is written with its country's prefix and nothing between its characters.
"""

import re

from chappe_kernel.errors import Invalid

_SEPARATORS = re.compile(r"[\s.\-/]+")
_UNITED_KINGDOM = r"\d{9}|\d{12}|GD\d{3}|HA\d{3}"
_BODIES = {
    "AT": r"U\d{8}",
    "BE": r"[01]\d{9}",
    "BG": r"\d{9,10}",
    "CH": r"E\d{9}(?:MWST|TVA|IVA)",
    "CY": r"\d{8}[A-Z]",
    "CZ": r"\d{8,10}",
    "DE": r"\d{9}",
    "DK": r"\d{8}",
    "EE": r"\d{9}",
    "EL": r"\d{9}",
    "ES": r"[A-Z]\d{7}[A-Z0-9]|\d{8}[A-Z]",
    "FI": r"\d{8}",
    "FR": r"[A-HJ-NP-Z0-9]{2}\d{9}",
    "GB": _UNITED_KINGDOM,
    "HR": r"\d{11}",
    "HU": r"\d{8}",
    "IE": r"\d[A-Z0-9+*]\d{5}[A-Z]|\d{7}[A-W][A-I]",
    "IT": r"\d{11}",
    "LT": r"\d{9}|\d{12}",
    "LU": r"\d{8}",
    "LV": r"\d{11}",
    "MT": r"\d{8}",
    "NL": r"\d{9}B\d{2}",
    "NO": r"\d{9}MVA",
    "PL": r"\d{10}",
    "PT": r"\d{9}",
    "RO": r"\d{2,10}",
    "SE": r"\d{10}01",
    "SI": r"\d{8}",
    "SK": r"\d{10}",
    "XI": _UNITED_KINGDOM,
}
# Where a country's numbers do not begin with its own code.
_PREFIX_OF = {"GR": "EL", "MC": "FR"}
# Of other countries there is no shape that we could vouch for.
_ANYWHERE = re.compile(r"[A-Z0-9]{4,20}", re.ASCII)


def clean_vat_number(text: str, country: str | None) -> str:
    """The number in capitals, with its prefix and without blanks, dots, dashes and slashes.

    The prefix says whose it is: a company may be registered in another country than its seat. Without one it is taken
    for a number of `country`. Raises `Invalid` for what has not that country's shape, and never shows the text.
    """
    number = _SEPARATORS.sub("", text).upper()
    prefix = number[:2] if number[:2] in _BODIES else _PREFIX_OF.get(country or "", country)
    body = _BODIES.get(prefix or "")
    if body is None:
        fits = prefix is not None and _ANYWHERE.fullmatch(number)
    else:
        number = f"{prefix}{number.removeprefix(prefix or '')}"
        fits = re.fullmatch(body, number[2:], re.ASCII)
    if not fits:
        whose = f"of {prefix}" if prefix else "with its country's code in front"
        raise Invalid(f"this is not a VAT number {whose}", code="invalid_vat_number", param="vat_number")
    return number
