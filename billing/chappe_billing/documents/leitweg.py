"""The Leitweg-ID: how German authorities say where an invoice belongs (KoSIT, format
specification 2.0.2)."""

import re

_SHAPE = re.compile(r"(\d{2,12})(?:-([A-Z0-9]{1,30}))?-(\d{2})", re.ASCII)
_MODULUS = 97


def is_leitweg_id(text: str | None) -> bool:
    """By its shape and its check digits: ISO 7064, modulo 97-10, as for an IBAN, letters counting from 10."""
    match = _SHAPE.fullmatch((text or "").upper())
    if match is None:
        return False
    digits = "".join(str(int(each, 36)) for each in f"{match[1]}{match[2] or ''}{match[3]}")
    return int(digits) % _MODULUS == 1
