"""How a supply is taxed, as EN 16931 says it."""

from enum import StrEnum

from msgspec import Struct


class TaxCategory(StrEnum):
    """The codes of UNCL 5305 that Chappe's supplies can have."""

    STANDARD = "S"
    REVERSE_CHARGE = "AE"
    """The customer owes the tax: a taxable person in another member state (Directive 2006/112, articles 44 and 196)."""
    OUTSIDE_SCOPE = "O"
    """The place of supply is outside the European Union (article 44)."""


class TaxTreatment(Struct, frozen=True):
    """`rate_bp` is in basis points (2550 is 25.5 %), 0 for what is not taxed here. What is not taxed says why, as a
    code (VATEX) and as a sentence."""

    category: TaxCategory
    rate_bp: int
    exemption_code: str | None = None
    exemption_reason: str | None = None
