"""Between nanos and the currency's minor unit, and what tax adds. Pure, in whole numbers."""

from msgspec import Struct

from chappe_billing.tax.treatment import TaxTreatment
from chappe_kernel.errors import Invalid
from chappe_kernel.money import NANO_PER_UNIT, format_nano

_BASIS_POINTS = 10_000
_WITHOUT_MINOR_UNIT = frozenset(
    (
        *("BIF", "CLP", "DJF", "GNF", "ISK", "JPY", "KMF", "KRW"),
        *("PYG", "RWF", "UGX", "VND", "VUV", "XAF", "XOF", "XPF"),
    )
)
_IN_THOUSANDTHS = frozenset({"BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"})
_OTHERWISE_AT_THE_SERVICE = frozenset({"ISK", "UGX", "MGA", "MRU"}) | _IN_THOUSANDTHS
"""What the service counts in another unit than ISO 4217 does, or rounds: a hundred times too much or too little would
be asked for."""
_LEAST_MINOR = {
    "AED": 200,
    "AUD": 50,
    "BGN": 100,
    "BRL": 50,
    "CAD": 50,
    "CHF": 50,
    "CZK": 1500,
    "DKK": 250,
    "EUR": 50,
    "GBP": 30,
    "HKD": 400,
    "HUF": 17500,
    "INR": 50,
    "JPY": 50,
    "MXN": 1000,
    "MYR": 200,
    "NOK": 300,
    "NZD": 50,
    "PLN": 200,
    "RON": 200,
    "SEK": 300,
    "SGD": 50,
    "THB": 1000,
    "USD": 50,
}
"""Below that the service takes no payment. Of others it is not known: it says so itself."""
_MOST_MINOR = 99_999_999


class Charged(Struct, frozen=True):
    """Net and tax in nanos, both whole minor units, and their sum in minor units."""

    net_nano: int
    tax_nano: int
    gross_minor: int


def nano_per_minor(currency: str) -> int:
    """What the smallest amount that can be paid in `currency` is worth (ISO 4217)."""
    if currency in _WITHOUT_MINOR_UNIT:
        return NANO_PER_UNIT
    return NANO_PER_UNIT // (1000 if currency in _IN_THOUSANDTHS else 100)


def is_offered(currency: str) -> bool:
    """Whether amounts of the currency are the same to us and to the service."""
    return currency not in _OTHERWISE_AT_THE_SERVICE


def can_be_charged(gross_minor: int, currency: str) -> bool:
    """Whether the service takes a payment of so much: never too little or too much for it, or in another unit."""
    return is_offered(currency) and _LEAST_MINOR.get(currency, 1) <= gross_minor <= _MOST_MINOR


def add_tax(net_nano: int, currency: str, treatment: TaxTreatment) -> Charged:
    """The tax is rounded half up to the minor unit. Raises `Invalid` for a net amount that is no whole minor units."""
    unit = nano_per_minor(currency)
    net_minor, rest = divmod(net_nano, unit)
    if rest:
        raise Invalid("an amount that is paid is in whole cents", code="invalid_amount", param="amount")
    tax_minor = (2 * net_minor * treatment.rate_bp + _BASIS_POINTS) // (2 * _BASIS_POINTS)
    return Charged(net_nano, tax_minor * unit, net_minor + tax_minor)


def check_bounds(net_nano: int, least_nano: int, most_nano: int) -> None:
    """Raises `Invalid` for what is too little to be worth a payment, or too much to be meant."""
    if not least_nano <= net_nano <= most_nano:
        text = f"an amount is between {format_nano(least_nano)} and {format_nano(most_nano)}"
        raise Invalid(text, code="amount_out_of_bounds", param="amount")
