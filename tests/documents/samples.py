"""Documents to render and to break."""

from datetime import date

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
from chappe_billing.tax.deciding import OUTSIDE_SCOPE, REVERSE_CHARGE
from chappe_billing.tax.treatment import TaxCategory, TaxTreatment

FRENCH_VAT = TaxTreatment(TaxCategory.STANDARD, 2000)
SELLER = DocumentParty(
    name="Exemple Télécom SAS",
    trading_name="Exemple IA",
    address_line_1="7 rue Cler",
    postal_code="75007",
    city="Paris",
    country="FR",
    vat_number="FR40303265045",
    registration="RCS Paris 303 265 045",
    contact_name="Service facturation",
    email="facturation@telecom.example",
    phone="+33 1 23 45 67 89",
)
MINISTRY = DocumentParty(
    name="Bundesministerium für Beispiele",
    address_line_1="Wilhelmstraße 97",
    address_line_2="Referat Z 15",
    postal_code="10117",
    city="Berlin",
    country="DE",
    vat_number="DE123456789",
    contact_name="Rechnungseingang",
    email="rechnung@bmb.example",
)
COMPANY = DocumentParty(
    name="Atelier Numérique SARL",
    address_line_1="12 quai de la Fosse",
    postal_code="44000",
    city="Nantes",
    country="FR",
    vat_number="FR83404833048",
    email="compta@atelier.example",
)
ABROAD = DocumentParty(
    name="Helvetia Beispiel AG", address_line_1="Bahnhofstrasse 1", postal_code="8001", city="Zürich", country="CH"
)
LEITWEG_ID = "991-12345-73"
TRANSFER = PaymentTerms(
    iban="FR7630006000011234567890189", bic="AGRIFRPP", account_name="Exemple Télécom SAS", reference="FR-2026-000042"
)


def line(
    treatment: TaxTreatment, quantity: int, price_nano: int, *, per: int = 1, description: str = "", **more: object
) -> DocumentLine:
    exact = quantity * price_nano * 10**2
    net = (2 * abs(exact) + per * 10**9) // (2 * per * 10**9)
    values: dict[str, object] = {
        "description": description or "smollm2-135m-instruct, prompt tokens",
        "project": "default",
        "listing": "smollm2-135m-instruct",
        "component": "input tokens",
        "region": "fr-par",
        "quantity": quantity,
        "unit_price_nano": price_nano,
        "price_per": per,
        "net_minor": net if exact >= 0 else -net,
        "treatment": treatment,
        "period_from": date(2026, 10, 1),
        "period_to": date(2026, 10, 31),
    }
    return DocumentLine(**(values | more))  # type: ignore[arg-type]  # a test may change any field


def document(
    treatment: TaxTreatment,
    lines: tuple[DocumentLine, ...],
    allowances: tuple[DocumentAllowance, ...] = (),
    **more: object,
) -> DocumentContent:
    """With the totals that follow from its lines."""
    net = sum(each.net_minor for each in lines) - sum(each.net_minor for each in allowances)
    tax = (2 * net * treatment.rate_bp + 10_000) // 20_000
    paid = more.pop("paid_minor", 0)
    assert isinstance(paid, int)
    values: dict[str, object] = {
        "kind": DocumentKind.INVOICE,
        "number": "FR-2026-000042",
        "language": "fr",
        "issued_on": date(2026, 11, 2),
        "due_on": date(2026, 12, 2),
        "period_from": date(2026, 10, 1),
        "period_to": date(2026, 10, 31),
        "currency": "EUR",
        "seller": SELLER,
        "buyer": COMPANY,
        "lines": lines,
        "allowances": allowances,
        "taxes": (TaxSubtotal(treatment, net, tax),),
        "net_minor": net,
        "tax_minor": tax,
        "gross_minor": net + tax,
        "paid_minor": paid,
        "due_minor": net + tax - paid,
        "payment": TRANSFER,
    }
    return DocumentContent(**(values | more))  # type: ignore[arg-type]  # a test may change any field


def usage_lines(treatment: TaxTreatment) -> tuple[DocumentLine, ...]:
    return (
        line(treatment, 184_467_440, 60, component="input tokens"),
        line(treatment, 20_000_000, 15, component="cached input tokens",
             description="smollm2-135m-instruct, cached prompt tokens"),
        line(treatment, 92_233_720, 210, component="output tokens",
             description="smollm2-135m-instruct, completion tokens"),
        line(treatment, 1_204, 7_000_000, project="Recherche & développement", region="de-fra",
             component="requests", description="multilingual-e5-small, requests"),
        line(treatment, 1, 49_000_000_000, project=None, listing=None, component=None, region=None,
             description="Minimum commitment, October 2026"),
    )  # fmt: skip


def invoice(**more: object) -> DocumentContent:
    allowance = DocumentAllowance("Crédit de bienvenue", 1000, FRENCH_VAT)
    return document(FRENCH_VAT, usage_lines(FRENCH_VAT), (allowance,), **({"purchase_order": "BC-2026-0815"} | more))


def reverse_charge(**more: object) -> DocumentContent:
    values: dict[str, object] = {
        "buyer": MINISTRY,
        "language": "de",
        "buyer_reference": LEITWEG_ID,
        "contract_reference": "RV-2026-17",
        "purchase_order": "4500012345",
    }
    return document(REVERSE_CHARGE, usage_lines(REVERSE_CHARGE), (), **(values | more))


def outside(**more: object) -> DocumentContent:
    return document(OUTSIDE_SCOPE, usage_lines(OUTSIDE_SCOPE), (), **({"buyer": ABROAD, "language": "en"} | more))


def advance() -> DocumentContent:
    lines = (line(FRENCH_VAT, 1, 100_000_000_000, description="Payment on account", project=None),)
    return document(
        FRENCH_VAT, lines, kind=DocumentKind.ADVANCE, paid_minor=12_000, due_on=None, payment=PaymentTerms()
    )


def credit_note() -> DocumentContent:
    lines = (line(FRENCH_VAT, 1, 25_000_000_000, description="Refund", project=None),)
    return document(
        FRENCH_VAT,
        lines,
        kind=DocumentKind.CREDIT_NOTE,
        due_on=None,
        payment=PaymentTerms(),
        preceding=(PrecedingDocument("FR-2026-000041", date(2026, 10, 2)),),
    )


def after_advances() -> DocumentContent:
    lines = (
        *usage_lines(FRENCH_VAT),
        line(FRENCH_VAT, -1, 20_000_000_000, description="Advance invoice FR-2026-A00007", project=None),
        line(FRENCH_VAT, -1, 11_000_000_000, description="Advance invoice FR-2026-A00009", project=None),
    )
    preceding = (
        PrecedingDocument("FR-2026-A00007", date(2026, 10, 2)),
        PrecedingDocument("FR-2026-A00009", date(2026, 10, 9)),
    )
    return document(FRENCH_VAT, lines, preceding=preceding)


ALL = {
    "invoice": invoice(),
    "reverse_charge": reverse_charge(),
    "outside": outside(),
    "advance": advance(),
    "credit_note": credit_note(),
    "after_advances": after_advances(),
}
