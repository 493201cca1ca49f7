"""What an invoice or a credit note says: kept as JSON when it is issued, and all that its documents are made of.

Amounts are whole minor units (cents) of `currency`, `minor_digits` after the point, in the sign of the document: those
of a credit note are positive. Comments name the business terms of EN 16931.
"""

from datetime import date
from enum import StrEnum

from msgspec import Struct

from chappe_billing.tax.treatment import TaxCategory, TaxTreatment


class DocumentKind(StrEnum):
    INVOICE = "invoice"
    """UNTDID 1001: 380."""
    ADVANCE = "advance"
    """For a payment on account, already paid: 386."""
    CREDIT_NOTE = "credit_note"
    """381."""


class DocumentParty(Struct, frozen=True, kw_only=True):
    """Seller (BG-4) or buyer (BG-7) as they were in law on that day."""

    name: str
    trading_name: str | None = None
    address_line_1: str | None = None
    address_line_2: str | None = None
    postal_code: str | None = None
    city: str | None = None
    country: str
    vat_number: str | None = None
    registration: str | None = None
    contact_name: str | None = None
    email: str | None = None
    phone: str | None = None


class DocumentLine(Struct, frozen=True, kw_only=True):
    """BG-25. `net_minor` is the exact sum rounded half up; `quantity` times `unit_price_nano` over `price_per` need not
    give it where prices changed within the period, but then there is a line for each price.

    A negative line takes back: its quantity is negative and its price is not. `unit` is a code of UN/ECE
    Recommendation 20 (`C62` is one).
    """

    description: str
    section: str | None = None
    """On a group's invoice: whose line it is."""
    project: str | None = None
    listing: str | None = None
    component: str | None = None
    region: str | None = None
    quantity: int
    unit: str = "C62"
    unit_price_nano: int
    price_per: int = 1
    net_minor: int
    treatment: TaxTreatment
    period_from: date | None = None
    period_to: date | None = None


class DocumentAllowance(Struct, frozen=True):
    """BG-20: what the whole document is less, `net_minor` over 0."""

    reason: str
    net_minor: int
    treatment: TaxTreatment


class TaxSubtotal(Struct, frozen=True):
    """BG-23. `tax_minor` is `base_minor` times the rate, rounded half up."""

    treatment: TaxTreatment
    base_minor: int
    tax_minor: int

    @property
    def category(self) -> TaxCategory:
        return self.treatment.category


class PrecedingDocument(Struct, frozen=True):
    """BG-3: the invoice that a credit note takes back, or whose advance is deducted."""

    number: str
    issued_on: date


class PaymentTerms(Struct, frozen=True, kw_only=True):
    """BG-16, BG-17 and BT-20. Without an account number nothing has to be transferred."""

    text: str | None = None
    iban: str | None = None
    bic: str | None = None
    account_name: str | None = None
    reference: str | None = None


class DocumentContent(Struct, frozen=True, kw_only=True):
    """`net_minor` is lines less allowances (BT-109), `tax_minor` the sum of `taxes` (BT-110), `gross_minor` both
    (BT-112), `paid_minor` what was paid before (BT-113), `due_minor` what is left (BT-115)."""

    version: int = 1
    kind: DocumentKind
    number: str
    language: str
    issued_on: date
    due_on: date | None = None
    period_from: date | None = None
    period_to: date | None = None
    currency: str
    minor_digits: int = 2
    seller: DocumentParty
    buyer: DocumentParty
    purchase_order: str | None = None
    """BT-13."""
    buyer_reference: str | None = None
    """BT-10: the Leitweg-ID of a German authority, or whatever else the buyer routes by."""
    contract_reference: str | None = None
    """BT-12."""
    preceding: tuple[PrecedingDocument, ...] = ()
    lines: tuple[DocumentLine, ...]
    allowances: tuple[DocumentAllowance, ...] = ()
    taxes: tuple[TaxSubtotal, ...]
    net_minor: int
    tax_minor: int
    gross_minor: int
    paid_minor: int = 0
    due_minor: int
    payment: PaymentTerms = PaymentTerms()
    note: str | None = None
