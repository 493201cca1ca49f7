"""Numbers of documents, and minor units of currencies. Pure."""

from collections.abc import Mapping
from datetime import date
from types import MappingProxyType

from babel.numbers import get_currency_precision
from msgspec import Struct

from chappe_billing.documents.content import DocumentKind
from chappe_kernel.ids import InvoiceId
from chappe_kernel.money import NANO_PER_UNIT

_SERIES: Mapping[DocumentKind, str] = MappingProxyType(
    {DocumentKind.INVOICE: "INV", DocumentKind.ADVANCE: "ADV", DocumentKind.CREDIT_NOTE: "CRN"}
)


class Issued(Struct, frozen=True):
    id: InvoiceId
    number: str


def series_of(kind: DocumentKind, issued_on: date) -> str:
    """Each kind has its own for every year, like `INV-2026`."""
    return f"{_SERIES[kind]}-{issued_on:%Y}"


def number_of(series: str, ordinal: int) -> str:
    return f"{series}-{ordinal:06d}"


def minor_nano_of(currency: str) -> int:
    """What the currency's minor unit is in nano: 10,000,000 for a cent."""
    return int(NANO_PER_UNIT // 10 ** get_currency_precision(currency))


def digits_of(minor_nano: int) -> int:
    """How many digits a currency has after the point, by what its minor unit is in nano."""
    return 10 - len(str(minor_nano))
