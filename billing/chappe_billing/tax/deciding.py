"""How a supply is taxed: one rule, over what is known of seller and buyer on a day.

Chappe's supplies are services supplied electronically. Between businesses they are taxed where the buyer is
established (Directive 2006/112, article 44), which then owes the tax (article 196); to everybody else where the buyer
lives (article 58), unless a seller below the threshold of article 59c charges its own rate. Whoever gives a VAT number
that is confirmed is a business (Regulation 282/2011, article 18). What cannot be decided is said so of: nothing is
taxed by a guess.
"""

from collections.abc import Callable
from datetime import date
from enum import StrEnum

from msgspec import Struct

from chappe_billing.tax.areas import Area, area_of, state_of_number
from chappe_billing.tax.treatment import TaxCategory, TaxTreatment

RateOf = Callable[[str], int | None]
"""The standard rate of a country on the day in question, in basis points."""

REVERSE_CHARGE = TaxTreatment(TaxCategory.REVERSE_CHARGE, 0, "VATEX-EU-AE", "Reverse charge")
OUTSIDE_SCOPE = TaxTreatment(TaxCategory.OUTSIDE_SCOPE, 0, "VATEX-EU-O", "Not subject to VAT")


class Reason(StrEnum):
    """Why a supply is taxed so. The last six are why it cannot be told."""

    RULING = "ruling"
    DOMESTIC = "domestic"
    REVERSE_CHARGE = "reverse_charge"
    SELLERS_RATE = "sellers_rate"
    """No confirmed VAT number, in another member state; the seller charges its own rate."""
    BUYERS_RATE = "buyers_rate"
    """The same, and the seller uses the one-stop shop."""
    OUTSIDE_UNION = "outside_union"
    NO_SELLER_COUNTRY = "no_seller_country"
    NO_BUYER_COUNTRY = "no_buyer_country"
    NUMBER_PENDING = "number_pending"
    NUMBER_OF_SELLERS_STATE = "number_of_sellers_state"
    """A buyer of one member state with a number of the seller's: it may be established there as well."""
    TERRITORY = "territory"
    """A part of a country with rules of its own that are not known here."""
    NO_RATE = "no_rate"


class NumberState(StrEnum):
    """What is known of the buyer's VAT number."""

    NONE = "none"
    PENDING = "pending"
    CONFIRMED = "confirmed"
    INVALID = "invalid"


class SellerFacts(Struct, frozen=True):
    country: str | None
    postal_code: str | None = None
    one_stop_shop: bool = False


class BuyerFacts(Struct, frozen=True):
    country: str | None
    postal_code: str | None = None
    vat_number: str | None = None
    number: NumberState = NumberState.NONE


class Ruling(Struct, frozen=True):
    """What the operator decided of this buyer; it goes before every rule."""

    starts_on: date
    treatment: TaxTreatment


class Decision(Struct, frozen=True):
    """`treatment` is None when it cannot be told."""

    reason: Reason
    treatment: TaxTreatment | None = None


def decide(
    seller: SellerFacts, buyer: BuyerFacts, *, on: date, rate_of: RateOf, ruling: Ruling | None = None
) -> Decision:
    """`rate_of` gives the rates of the day `on`."""
    if ruling is not None and ruling.starts_on <= on:
        return Decision(Reason.RULING, ruling.treatment)
    if seller.country is None:
        return Decision(Reason.NO_SELLER_COUNTRY)
    if buyer.country is None:
        return Decision(Reason.NO_BUYER_COUNTRY)
    sellers, buyers = area_of(seller.country, seller.postal_code), area_of(buyer.country, buyer.postal_code)
    if sellers.part is not None or sellers.country == buyers.country:
        return _within(sellers, buyers, rate_of)
    return _abroad(seller, sellers, buyer, buyers, rate_of)


# Parts of the seller's own country where its tax does not apply: Spain's law 37/1992, article 3; Germany's UStG § 1(2);
# Italy's DPR 633/1972, article 7; France's CGI, article 294. Of the others each law says something of its own.
_NOT_TAXED_AT_HOME = frozenset(
    ("Canarias", "Ceuta", "Melilla", "Helgoland", "Büsingen", "Livigno", "Campione d'Italia", "Guyane", "Mayotte")
)


def _within(sellers: Area, buyers: Area, rate_of: RateOf) -> Decision:
    if sellers.part is not None:
        return Decision(Reason.TERRITORY)
    if buyers.part is None:
        return _at_rate(Reason.DOMESTIC, rate_of(sellers.country))
    if buyers.part in _NOT_TAXED_AT_HOME:
        return Decision(Reason.OUTSIDE_UNION, OUTSIDE_SCOPE)
    return Decision(Reason.TERRITORY)


def _abroad(seller: SellerFacts, sellers: Area, buyer: BuyerFacts, buyers: Area, rate_of: RateOf) -> Decision:
    if not buyers.in_union:
        return Decision(Reason.OUTSIDE_UNION, OUTSIDE_SCOPE)
    state = None if buyer.vat_number is None else state_of_number(buyer.vat_number)
    if state is not None and buyer.number in {NumberState.PENDING, NumberState.CONFIRMED}:
        return _to_a_business(sellers, state, buyer.number)
    if not sellers.in_union:
        return Decision(Reason.TERRITORY)
    if not seller.one_stop_shop:
        return _at_rate(Reason.SELLERS_RATE, rate_of(sellers.country))
    return Decision(Reason.TERRITORY) if buyers.part else _at_rate(Reason.BUYERS_RATE, rate_of(buyers.country))


def _to_a_business(sellers: Area, state: str, number: NumberState) -> Decision:
    if number is NumberState.PENDING:
        return Decision(Reason.NUMBER_PENDING)
    if state == sellers.country:
        return Decision(Reason.NUMBER_OF_SELLERS_STATE)
    if not sellers.in_union:
        # It charges nothing, and its buyer owes the tax just so.
        return Decision(Reason.OUTSIDE_UNION, OUTSIDE_SCOPE)
    return Decision(Reason.REVERSE_CHARGE, REVERSE_CHARGE)


def _at_rate(reason: Reason, rate_bp: int | None) -> Decision:
    if not rate_bp:
        return Decision(Reason.NO_RATE)
    return Decision(reason, TaxTreatment(TaxCategory.STANDARD, rate_bp))
