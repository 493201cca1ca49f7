"""What stands where in the letter: content in, words of its language and finished figures out."""

from collections.abc import Iterator, Mapping
from itertools import groupby
from typing import Any

from babel import Locale

from chappe_billing.documents.amounts import decimal_text, minor_text, percent_text, price_text
from chappe_billing.documents.content import (
    DocumentContent,
    DocumentKind,
    DocumentLine,
    DocumentParty,
    TaxSubtotal,
)
from chappe_billing.documents.leitweg import is_leitweg_id
from chappe_billing.documents.texts import Texts, texts_of
from chappe_billing.tax.treatment import TaxCategory, TaxTreatment

_PER_MILLION, _MICRO_DIGITS = 1_000_000, 3
_IBAN_GROUP = 4
EN_DASH = "\u2013"


def lay_out(content: DocumentContent) -> dict[str, Any]:
    """All that `letter.typ` shows, as text. Pure."""
    letter = _Letter(content)
    title = f"{letter.words['title']} {content.number}"
    return {
        "language": letter.texts.language,
        "title": title,
        "author": content.seller.name,
        "date": [content.issued_on.year, content.issued_on.month, content.issued_on.day],
        "kind": letter.words["title"],
        "number": content.number,
        "words": letter.words,
        "seller": {
            "shown_name": content.seller.trading_name or content.seller.name,
            "lines": [content.seller.name, *letter.address(content.seller), *letter.identity(content.seller)],
        },
        "buyer": {
            "name": content.buyer.name,
            "lines": letter.address(content.buyer),
            "notes": letter.identity(content.buyer),
        },
        "facts": letter.facts(),
        "groups": list(letter.groups()),
        "taxes": [letter.tax(tax) for tax in content.taxes],
        "totals": list(letter.totals()),
        "due": letter.due(),
        "terms": content.payment.text or letter.texts.terms(content),
        "payment": list(letter.payment()),
        "notes": list(letter.notes()),
        "footer": letter.footer(),
    }


class _Letter:
    def __init__(self, content: DocumentContent) -> None:
        self.content = content
        self.texts: Texts = texts_of(content.language)
        self.territories: Mapping[str, str] = Locale(self.texts.language).territories
        self.words = {**self.texts.words, "title": self.texts.titles[content.kind]}

    def money(self, amount_minor: int) -> str:
        return self.texts.money(minor_text(amount_minor, self.content.minor_digits), self.content.currency)

    def facts(self) -> list[list[str]]:
        content, words, date = self.content, self.words, self.texts.date
        found = [(words["number"], content.number), (words["issued_on"], date(content.issued_on))]
        if content.due_on is not None:
            found.append((words["due_on"], date(content.due_on)))
        if content.period_from is not None and content.period_to is not None:
            found.append((words["period"], f"{date(content.period_from)} {EN_DASH} {date(content.period_to)}"))
        routed = "leitweg_id" if is_leitweg_id(content.buyer_reference) else "buyer_reference"
        for name, value in (
            ("purchase_order", content.purchase_order),
            (routed, content.buyer_reference),
            ("contract", content.contract_reference),
        ):
            if value is not None:
                found.append((words[name], value))
        found += [
            (words["preceding"], words["of_date"].format(number=each.number, date=date(each.issued_on)))
            for each in content.preceding
        ]
        return [list(fact) for fact in found]

    def identity(self, party: DocumentParty) -> list[str]:
        found = []
        if party.vat_number is not None:
            found.append(f"{self.words['vat_number']} {party.vat_number}")
        if party.registration is not None:
            found.append(party.registration)
        return found

    def groups(self) -> Iterator[dict[str, Any]]:
        """Lines by project, in the content's order; a total for each where there are several."""
        groups = [(project, list(lines)) for project, lines in groupby(self.content.lines, lambda line: line.project)]
        for project, lines in groups:
            total = self.money(sum(line.net_minor for line in lines)) if len(groups) > 1 and len(lines) > 1 else ""
            yield {
                "name": self.words["project"].format(name=project) if project else self.words["general"],
                "lines": [self.line(line) for line in lines],
                "total_name": self.words["project_total"].format(name=project) if project else "",
                "total": total if project else "",
            }

    def line(self, line: DocumentLine) -> dict[str, str]:
        price, per = self.price(line)
        return {
            "description": line.description,
            "detail": " · ".join(part for part in (line.component, line.region, self.line_period(line)) if part),
            "quantity": self.texts.number(str(line.quantity)),
            "price": price,
            "per": per,
            "tax": self.rate(line.treatment),
            "net": self.money(line.net_minor),
        }

    def price(self, line: DocumentLine) -> tuple[str, str]:
        """A price of fractions of a cent is shown for a million, which is the same price and can be read."""
        per, amount = line.price_per, line.unit_price_nano
        if per == 1 and 0 < amount < _PER_MILLION:
            shown = decimal_text(amount, _MICRO_DIGITS, at_least=self.content.minor_digits)
            per = _PER_MILLION
        else:
            shown = price_text(amount, self.content.minor_digits)
        suffix = "" if per == 1 else self.words["per"].format(quantity=self.texts.number(str(per)))
        return self.texts.money(shown, self.content.currency), suffix

    def line_period(self, line: DocumentLine) -> str:
        """Only where it is not the whole document's."""
        if line.period_from is None or line.period_to is None:
            return ""
        if (line.period_from, line.period_to) == (self.content.period_from, self.content.period_to):
            return ""
        return f"{self.texts.date(line.period_from)} {EN_DASH} {self.texts.date(line.period_to)}"

    def rate(self, treatment: TaxTreatment) -> str:
        if treatment.category is TaxCategory.OUTSIDE_SCOPE:
            return EN_DASH
        return f"{self.texts.number(percent_text(treatment.rate_bp, at_least=0))}{self.texts.percent}%"

    def tax(self, tax: TaxSubtotal) -> dict[str, str]:
        name = self.words[tax.category]
        if tax.category is TaxCategory.STANDARD:
            name = f"{name} {self.rate(tax.treatment)}"
        return {"name": name, "base": self.money(tax.base_minor), "tax": self.money(tax.tax_minor)}

    def totals(self) -> Iterator[list[str]]:
        content, words = self.content, self.words
        if content.allowances:
            taken = sum(allowance.net_minor for allowance in content.allowances)
            yield [words["lines_total"], self.money(content.net_minor + taken)]
            for allowance in content.allowances:
                yield [allowance.reason, self.money(-allowance.net_minor)]
        yield [words["net_total"], self.money(content.net_minor)]
        yield [words["tax"], self.money(content.tax_minor)]
        yield [words["gross_total"], self.money(content.gross_minor)]
        if content.paid_minor:
            yield [words["paid"], self.money(-content.paid_minor)]

    def due(self) -> list[str]:
        name = "credit" if self.content.kind is DocumentKind.CREDIT_NOTE else "due"
        return [self.words[name], self.money(self.content.due_minor)]

    def payment(self) -> Iterator[list[str]]:
        payment, words = self.content.payment, self.words
        if payment.iban is not None:
            spaced = " ".join(payment.iban[at : at + _IBAN_GROUP] for at in range(0, len(payment.iban), _IBAN_GROUP))
            for name, value in (("pay_to", payment.account_name), ("iban", spaced), ("bic", payment.bic)):
                if value is not None:
                    yield [words[name], value]
        if payment.reference is not None and self.content.due_minor > 0:
            yield [words["reference"], payment.reference]

    def notes(self) -> Iterator[str]:
        for category in dict.fromkeys(tax.category for tax in self.content.taxes):
            if category is not TaxCategory.STANDARD:
                yield self.words[f"note_{category}"]
        if self.content.note is not None:
            yield self.content.note

    def footer(self) -> str:
        seller = self.content.seller
        parts = (seller.name, seller.registration, seller.vat_number, seller.contact_name, seller.email, seller.phone)
        return " · ".join(part for part in parts if part)

    def address(self, party: DocumentParty) -> list[str]:
        city = " ".join(part for part in (party.postal_code, party.city) if part)
        country = self.territories.get(party.country, party.country)
        return [line for line in (party.address_line_1, party.address_line_2, city, country) if line]
