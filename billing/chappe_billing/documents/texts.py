"""The words of a document in its language, and how that language writes numbers and dates.

They are not in the pages' catalogues on purpose: an invoice of ten years ago must come out word for word, so what
changes here needs a new renderer version.
"""

# ruff: noqa: RUF001 -- French and German typography: apostrophes, dashes, minus signs
from collections.abc import Mapping
from datetime import date

from msgspec import Struct

from chappe_billing.documents.content import DocumentContent, DocumentKind

NBSP = "\u00a0"
NARROW_NBSP = "\u202f"


class Texts(Struct, frozen=True, kw_only=True):
    """`group` and `point` are between thousands and before decimals, `percent` before the sign."""

    language: str
    group: str
    point: str
    percent: str
    date_format: str
    titles: Mapping[DocumentKind, str]
    words: Mapping[str, str]

    def date(self, day: date) -> str:
        return day.strftime(self.date_format)

    def number(self, text: str) -> str:
        """A plain decimal text, as this language writes it. The minus is U+2212."""
        sign = "\u2212" if text.startswith("-") else ""
        before, _, after = text.removeprefix("-").partition(".")
        parts = []
        while len(before) > 3:  # noqa: PLR2004 -- thousands
            before, part = before[:-3], before[-3:]
            parts.append(part)
        grouped = self.group.join([before, *reversed(parts)])
        return f"{sign}{grouped}{self.point}{after}" if after else f"{sign}{grouped}"

    def money(self, text: str, currency: str) -> str:
        return f"{self.number(text)}{NBSP}{currency}"

    def terms(self, content: DocumentContent) -> str:
        """BT-20, where nobody said it in other words."""
        if content.kind is DocumentKind.CREDIT_NOTE:
            return self.words["credited"]
        if content.due_minor <= 0:
            return self.words["nothing_due"]
        if content.due_on is None:
            return self.words["due_at_once"]
        return self.words["due_by"].format(date=self.date(content.due_on))


_ENGLISH = Texts(
    language="en",
    group=",",
    point=".",
    percent="",
    date_format="%d/%m/%Y",
    titles={
        DocumentKind.INVOICE: "Invoice",
        DocumentKind.ADVANCE: "Advance invoice",
        DocumentKind.CREDIT_NOTE: "Credit note",
    },
    words={
        "number": "Number",
        "issued_on": "Date of issue",
        "due_on": "Due",
        "period": "Period of supply",
        "purchase_order": "Your order",
        "buyer_reference": "Your reference",
        "leitweg_id": "Leitweg-ID",
        "contract": "Contract",
        "preceding": "Refers to",
        "of_date": "{number} of {date}",
        "seller": "Seller",
        "buyer": "Bill to",
        "vat_number": "VAT number",
        "registration": "Registration",
        "contact": "Contact",
        "description": "Description",
        "quantity": "Quantity",
        "unit_price": "Unit price",
        "per": "per {quantity}",
        "amount": "Net amount",
        "general": "Whole organisation",
        "project": "Project {name}",
        "project_total": "Total {name}",
        "tax_rate": "VAT",
        "lines_total": "Total of the lines",
        "net_total": "Total without VAT",
        "tax": "VAT",
        "tax_base": "Taxable amount",
        "tax_amount": "VAT amount",
        "category": "Treatment",
        "S": "Standard rate",
        "AE": "Reverse charge",
        "O": "Outside the scope of VAT",
        "gross_total": "Total with VAT",
        "paid": "Paid already",
        "due": "Amount due",
        "credit": "Amount credited",
        "payment": "Payment",
        "pay_to": "Account holder",
        "iban": "IBAN",
        "bic": "BIC",
        "reference": "Payment reference",
        "due_by": "Payable by {date}",
        "due_at_once": "Payable on receipt",
        "nothing_due": "Paid in full. Nothing is due.",
        "credited": "This amount is credited to you.",
        "note_AE": "Reverse charge: the customer is liable for the VAT (Directive 2006/112/EC, articles 44 and 196).",
        "note_O": "Not subject to VAT: the place of supply is outside the European Union or the VAT territory of the "
        "seller (Directive 2006/112/EC, articles 44 and 58).",
        "page": "Page {page} of {pages}",
    },
)

_FRENCH = Texts(
    language="fr",
    group=NARROW_NBSP,
    point=",",
    percent=NBSP,
    date_format="%d/%m/%Y",
    titles={
        DocumentKind.INVOICE: "Facture",
        DocumentKind.ADVANCE: "Facture d’acompte",
        DocumentKind.CREDIT_NOTE: "Avoir",
    },
    words={
        "number": "Numéro",
        "issued_on": "Date d’émission",
        "due_on": "Échéance",
        "period": "Période de prestation",
        "purchase_order": "Votre bon de commande",
        "buyer_reference": "Votre référence",
        "leitweg_id": "Leitweg-ID",
        "contract": "Marché ou contrat",
        "preceding": "Se rapporte à",
        "of_date": "{number} du {date}",
        "seller": "Vendeur",
        "buyer": "Client",
        "vat_number": "N° de TVA",
        "registration": "Immatriculation",
        "contact": "Contact",
        "description": "Désignation",
        "quantity": "Quantité",
        "unit_price": "Prix unitaire",
        "per": "par {quantity}",
        "amount": "Montant HT",
        "general": "Toute l’organisation",
        "project": "Projet {name}",
        "project_total": "Total {name}",
        "tax_rate": "TVA",
        "lines_total": "Total des lignes",
        "net_total": "Total HT",
        "tax": "TVA",
        "tax_base": "Base imposable",
        "tax_amount": "Montant de TVA",
        "category": "Régime",
        "S": "Taux normal",
        "AE": "Autoliquidation",
        "O": "Hors champ de la TVA",
        "gross_total": "Total TTC",
        "paid": "Déjà payé",
        "due": "Net à payer",
        "credit": "Montant de l’avoir",
        "payment": "Règlement",
        "pay_to": "Titulaire du compte",
        "iban": "IBAN",
        "bic": "BIC",
        "reference": "Référence à rappeler",
        "due_by": "À payer au plus tard le {date}",
        "due_at_once": "Payable à réception",
        "nothing_due": "Acquittée. Rien ne reste à payer.",
        "credited": "Ce montant vous est crédité.",
        "note_AE": "Autoliquidation\u00a0: la TVA est due par le preneur (directive 2006/112/CE, articles 44 et 196).",
        "note_O": "Non soumis à la TVA\u00a0: le lieu de la prestation est situé hors de l’Union européenne ou du "
        "territoire de TVA du vendeur (directive 2006/112/CE, articles 44 et 58).",
        "page": "Page {page} sur {pages}",
    },
)

_GERMAN = Texts(
    language="de",
    group=".",
    point=",",
    percent=NBSP,
    date_format="%d.%m.%Y",
    titles={
        DocumentKind.INVOICE: "Rechnung",
        DocumentKind.ADVANCE: "Vorauszahlungsrechnung",
        DocumentKind.CREDIT_NOTE: "Rechnungskorrektur (Gutschrift)",
    },
    words={
        "number": "Nummer",
        "issued_on": "Rechnungsdatum",
        "due_on": "Fällig am",
        "period": "Leistungszeitraum",
        "purchase_order": "Ihre Bestellung",
        "buyer_reference": "Ihr Zeichen",
        "leitweg_id": "Leitweg-ID",
        "contract": "Vertrag",
        "preceding": "Bezieht sich auf",
        "of_date": "{number} vom {date}",
        "seller": "Verkäufer",
        "buyer": "Rechnung an",
        "vat_number": "USt-IdNr.",
        "registration": "Register",
        "contact": "Ansprechpartner",
        "description": "Bezeichnung",
        "quantity": "Menge",
        "unit_price": "Einzelpreis",
        "per": "je {quantity}",
        "amount": "Nettobetrag",
        "general": "Gesamte Organisation",
        "project": "Projekt {name}",
        "project_total": "Summe {name}",
        "tax_rate": "USt",
        "lines_total": "Summe der Positionen",
        "net_total": "Summe netto",
        "tax": "Umsatzsteuer",
        "tax_base": "Bemessungsgrundlage",
        "tax_amount": "Steuerbetrag",
        "category": "Behandlung",
        "S": "Regelsteuersatz",
        "AE": "Steuerschuldnerschaft des Leistungsempfängers",
        "O": "Nicht steuerbar",
        "gross_total": "Gesamtbetrag",
        "paid": "Bereits gezahlt",
        "due": "Zu zahlen",
        "credit": "Gutgeschriebener Betrag",
        "payment": "Zahlung",
        "pay_to": "Kontoinhaber",
        "iban": "IBAN",
        "bic": "BIC",
        "reference": "Verwendungszweck",
        "due_by": "Zahlbar bis {date}",
        "due_at_once": "Zahlbar bei Erhalt",
        "nothing_due": "Vollständig bezahlt. Es ist nichts mehr zu zahlen.",
        "credited": "Dieser Betrag wird Ihnen gutgeschrieben.",
        "note_AE": "Steuerschuldnerschaft des Leistungsempfängers (Reverse Charge, Richtlinie 2006/112/EG, Artikel 44 "
        "und 196).",
        "note_O": "Nicht steuerbar: Der Ort der Leistung liegt außerhalb der Europäischen Union oder des Steuergebiets "
        "des Verkäufers (Richtlinie 2006/112/EG, Artikel 44 und 58).",
        "page": "Seite {page} von {pages}",
    },
)

_BY_LANGUAGE = {texts.language: texts for texts in (_ENGLISH, _FRENCH, _GERMAN)}
LANGUAGES = tuple(_BY_LANGUAGE)


def texts_of(language: str) -> Texts:
    """English for a language that documents are not written in."""
    return _BY_LANGUAGE.get(language[:2], _ENGLISH)
