"""Where an address is, for value added tax: the member states, and the parts of them that have rules of their own.

Directive 2006/112, articles 5 to 7. A postal code that is missing counts as the mainland's. What no postal code tells
(the reduced rates of some Greek islands, the Turkish Cypriot north) is not told here either.
"""

import re

from msgspec import Struct

MEMBER_STATES = frozenset(
    "AT BE BG CY CZ DE DK EE ES FI FR GR HR HU IE IT LT LU LV MT NL PL PT RO SE SI SK".split()  # noqa: SIM905 -- a table
)


class Area(Struct, frozen=True):
    """`country` has the rates. `part` names what is not simply that country. `in_union` is whether the Union's common
    system of value added tax applies there."""

    country: str
    in_union: bool
    part: str | None = None


# Countries whose tax is another one's.
_TAXED_AS = {"MC": "FR", "LI": "CH", "IM": "GB"}
# Codes of their own for what is part of a member state in law and outside the Union in tax.
_OVERSEAS = {
    "AX": Area("FI", in_union=False, part="Åland"),
    "GP": Area("FR", in_union=False, part="Guadeloupe"),
    "MQ": Area("FR", in_union=False, part="Martinique"),
    "RE": Area("FR", in_union=False, part="Réunion"),
    "GF": Area("FR", in_union=False, part="Guyane"),
    "YT": Area("FR", in_union=False, part="Mayotte"),
}
_GONE_FROM_FRANCE = ("BL", "MF", "PM", "WF", "PF", "NC", "TF")
# By country: postal codes, as a pattern, and where they are.
_PARTS: dict[str, tuple[tuple[str, Area], ...]] = {
    "ES": (
        (r"(35|38)\d{3}", Area("ES", in_union=False, part="Canarias")),
        (r"51\d{3}", Area("ES", in_union=False, part="Ceuta")),
        (r"52\d{3}", Area("ES", in_union=False, part="Melilla")),
    ),
    "DE": (
        (r"27498", Area("DE", in_union=False, part="Helgoland")),
        (r"78266", Area("DE", in_union=False, part="Büsingen")),
    ),
    "IT": (
        (r"2304[01]|23030", Area("IT", in_union=False, part="Livigno")),
        (r"22060|22061", Area("IT", in_union=False, part="Campione d'Italia")),
    ),
    "GR": ((r"6308[67]", Area("GR", in_union=False, part="Ágion Óros")),),
    "FI": ((r"22\d{3}", _OVERSEAS["AX"]),),
    "FR": (
        (r"971\d{2}", _OVERSEAS["GP"]),
        (r"972\d{2}", _OVERSEAS["MQ"]),
        (r"973\d{2}", _OVERSEAS["GF"]),
        (r"974\d{2}", _OVERSEAS["RE"]),
        (r"976\d{2}", _OVERSEAS["YT"]),
        (r"980\d{2}", Area("FR", in_union=True)),
        (r"975\d{2}|977\d{2}|978\d{2}|98[4678]\d{2}", Area("NC", in_union=False)),
    ),
    "PT": (
        (r"9[0-4]\d{2}(\d{3})?", Area("PT", in_union=True, part="Madeira")),
        (r"9[5-9]\d{2}(\d{3})?", Area("PT", in_union=True, part="Açores")),
    ),
    "AT": (
        (r"6691", Area("AT", in_union=True, part="Jungholz")),
        (r"699[123]", Area("AT", in_union=True, part="Mittelberg")),
    ),
}


def area_of(country: str, postal_code: str | None) -> Area:
    """Northern Ireland is the United Kingdom here: it is in the Union for goods, and Chappe sells services."""
    if country in _OVERSEAS:
        return _OVERSEAS[country]
    if country in _GONE_FROM_FRANCE:
        return Area(country, in_union=False)
    # All of these countries' codes are digits, whatever is written before and between them.
    code = re.sub(r"[^0-9]", "", postal_code or "")
    for pattern, area in _PARTS.get(country, ()):
        if re.fullmatch(pattern, code, re.ASCII):
            return area
    own = _TAXED_AS.get(country, country)
    return Area(own, in_union=own in MEMBER_STATES)


def state_of_number(vat_number: str) -> str | None:
    """The member state whose register has this VAT number; None for all others, Northern Ireland's `XI` among them,
    which is for goods alone."""
    prefix = {"EL": "GR", "GR": None}.get(vat_number[:2], vat_number[:2])
    return prefix if prefix in MEMBER_STATES else None
