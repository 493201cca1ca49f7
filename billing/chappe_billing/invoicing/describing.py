"""A planned invoice as the content of its document. Pure."""

from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, timedelta

from msgspec import Struct

from chappe_billing.documents.content import (
    DocumentAllowance,
    DocumentContent,
    DocumentKind,
    DocumentLine,
    DocumentParty,
    PaymentTerms,
    PrecedingDocument,
    TaxSubtotal,
)
from chappe_billing.invoicing.charges import Component
from chappe_billing.invoicing.fundings import Taken
from chappe_billing.invoicing.numbering import digits_of
from chappe_billing.invoicing.planning import PlannedInvoice, PlannedPart
from chappe_billing.invoicing.queries import Group, Profile
from chappe_billing.invoicing.wording import describe, text
from chappe_billing.tax.treatment import TaxTreatment
from chappe_kernel.errors import Conflict
from chappe_tenants.legal_entities.models import LegalEntity, Payments
from chappe_tenants.organisations.models import Tenant

_SECOND = "SEC"
_PIECE = "C62"


class Dates(Struct, frozen=True):
    """`period_to` is the date of supply."""

    issued_on: date
    period_from: date
    period_to: date


def within_eras(dates: Dates, eras: Sequence[tuple[datetime, str]]) -> Dates:
    """Without the days on which another system billed alone. `eras` are since when which `Payments` hold, in order."""
    period_from, period_to = dates.period_from, dates.period_to
    for number, (since, payments) in enumerate(eras):
        first = since.astimezone(UTC).date()
        if payments == Payments.EXTERNAL:
            until = eras[number + 1][0].astimezone(UTC).date() if number + 1 < len(eras) else None
            if first <= period_from and until is not None and period_from < until <= period_to:
                period_from = until
            elif until is None and period_from <= first < period_to:
                period_to = first
    return Dates(dates.issued_on, period_from, period_to)


def content_of(invoice: PlannedInvoice, group: Group, dates: Dates, *, number: str, minor_nano: int) -> DocumentContent:
    """Raises `Conflict` (`seller_incomplete`) while the seller's country is unknown."""
    profile, treatment = group.profile, invoice.treatment
    due_minor = invoice.gross_minor - invoice.paid_minor
    is_of_group = len(group.members) > 1
    lines = [
        line
        for part in invoice.parts
        for line in _lines(part, treatment, profile.language, part.name if is_of_group else None, minor_nano)
    ]
    gifts = [taken.minor for part in invoice.parts for taken in part.gifts if taken.minor > 0]
    allowances = (DocumentAllowance(text(profile.language, "gift"), sum(gifts), treatment),) if gifts else ()
    due_on = dates.issued_on + timedelta(days=profile.payment_terms_days) if due_minor else None
    return DocumentContent(
        kind=DocumentKind.INVOICE,
        number=number,
        language=profile.language,
        issued_on=dates.issued_on,
        due_on=due_on,
        period_from=dates.period_from,
        period_to=dates.period_to,
        currency=group.seller.currency,
        minor_digits=digits_of(minor_nano),
        seller=seller_party(group.seller),
        buyer=buyer_party(group.payer, group.profile),
        purchase_order=profile.purchase_order,
        buyer_reference=profile.buyer_reference,
        contract_reference=group.payer.contract_reference,
        preceding=tuple(_preceding(invoice)),
        lines=tuple(lines),
        allowances=allowances,
        taxes=(TaxSubtotal(treatment, invoice.net_minor, invoice.tax_minor),),
        net_minor=invoice.net_minor,
        tax_minor=invoice.tax_minor,
        gross_minor=invoice.gross_minor,
        paid_minor=invoice.paid_minor,
        due_minor=due_minor,
        payment=_terms(profile, number, due_minor),
    )


def seller_party(seller: LegalEntity) -> DocumentParty:
    if seller.country is None:
        raise Conflict("the seller's country is not known", code="seller_incomplete")
    return DocumentParty(
        name=seller.name,
        address_line_1=seller.address_line_1,
        address_line_2=seller.address_line_2,
        postal_code=seller.postal_code,
        city=seller.city,
        country=seller.country,
        vat_number=seller.vat_number,
        registration=seller.registration,
    )


def buyer_party(tenant: Tenant, profile: Profile) -> DocumentParty:
    """Raises `Conflict` (`buyer_incomplete`) while its country is unknown."""
    if tenant.country is None:
        raise Conflict("the organisation's country is not known", code="buyer_incomplete")
    return DocumentParty(
        name=tenant.legal_name or tenant.name,
        trading_name=tenant.name if tenant.legal_name not in {None, tenant.name} else None,
        address_line_1=tenant.address_line_1,
        address_line_2=tenant.address_line_2,
        postal_code=tenant.postal_code,
        city=tenant.city,
        country=tenant.country,
        vat_number=tenant.vat_number,
        contact_name=tenant.contact_name,
        email=profile.invoice_email or tenant.contact_email,
        phone=tenant.contact_phone,
    )


def _lines(
    part: PlannedPart, treatment: TaxTreatment, language: str, section: str | None, minor_nano: int
) -> Iterator[DocumentLine]:
    for line in part.lines:
        charge = line.charge
        yield DocumentLine(
            description=describe(charge, language),
            section=section,
            project=charge.project,
            listing=charge.listing,
            component=charge.component,
            region=charge.region,
            quantity=charge.quantity,
            unit=_SECOND if charge.component is Component.SECOND else _PIECE,
            unit_price_nano=charge.unit_price_nano,
            price_per=charge.price_per,
            net_minor=line.net_minor,
            treatment=treatment,
        )
    deductions: list[tuple[str, Taken, str | None]] = [
        (text(language, "gift_back"), taken, None) for taken in part.gifts if taken.minor < 0
    ]
    for taken in part.advances:
        name = text(language, "advance" if taken.minor > 0 else "advance_back", number=taken.funding.number or "…")
        deductions.append((name, taken, "advance"))
    for name, taken, component in deductions:
        yield DocumentLine(
            description=name,
            section=section,
            component=component,
            quantity=-1 if taken.minor > 0 else 1,
            unit_price_nano=abs(taken.minor) * minor_nano,
            net_minor=-taken.minor,
            treatment=treatment,
        )


def _preceding(invoice: PlannedInvoice) -> Iterator[PrecedingDocument]:
    for part in invoice.parts:
        for taken in part.advances:
            if taken.funding.number is not None and taken.funding.issued_on is not None:
                yield PrecedingDocument(taken.funding.number, taken.funding.issued_on)


def _terms(profile: Profile, number: str, due_minor: int) -> PaymentTerms:
    if not due_minor:
        return PaymentTerms(text=text(profile.language, "paid"))
    return PaymentTerms(text=text(profile.language, "terms", days=profile.payment_terms_days), reference=number)
