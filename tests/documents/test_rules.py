"""The business rules of EN 16931 really run: sound documents pass, and each broken one fails by the rule's own name."""

import re
from datetime import date
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lxml import etree
from msgspec.structs import replace

from chappe_billing.documents import rules
from chappe_billing.documents.amounts import minor_text
from chappe_billing.documents.cii import EN_16931, XRECHNUNG, guideline_of, render_xml
from chappe_billing.documents.content import DocumentAllowance, DocumentContent, PaymentTerms, TaxSubtotal
from chappe_billing.documents.leitweg import is_leitweg_id
from chappe_billing.documents.pdf import render_pdf
from chappe_billing.documents.rules import check, check_xml
from chappe_billing.documents.texts import LANGUAGES, texts_of
from chappe_billing.tax.deciding import OUTSIDE_SCOPE, REVERSE_CHARGE
from chappe_billing.tax.treatment import TaxCategory, TaxTreatment
from chappe_kernel.errors import Unavailable
from tests.documents.samples import (
    ABROAD,
    ALL,
    COMPANY,
    FRENCH_VAT,
    LEITWEG_ID,
    MINISTRY,
    SELLER,
    document,
    invoice,
    line,
    outside,
    reverse_charge,
    usage_lines,
)
from tests.documents.test_pdf import text_of

RAM = "{urn:un:unece:uncefact:data:standard:ReusableAggregateBusinessInformationEntity:100}"


@pytest.mark.parametrize("name", ALL)
def test_a_sound_document_passes(name: str) -> None:
    assert check(ALL[name]) == ()


def broken_rules(content: DocumentContent) -> set[str]:
    return {finding.rule for finding in check(content)}


def tax_of(content: DocumentContent, **changes: Any) -> tuple[TaxSubtotal, ...]:
    return (replace(content.taxes[0], **changes),)


SOUND, REVERSED, ABROAD_ONE = invoice(), reverse_charge(), outside()
PLAIN_REVERSED = reverse_charge(buyer_reference=None)


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        (replace(SOUND, gross_minor=SOUND.gross_minor + 1), "BR-CO-15"),
        (replace(SOUND, due_minor=SOUND.due_minor - 1), "BR-CO-16"),
        (replace(SOUND, tax_minor=SOUND.tax_minor + 1), "BR-CO-14"),
        (replace(SOUND, taxes=tax_of(SOUND, tax_minor=SOUND.tax_minor + 500), tax_minor=SOUND.tax_minor + 500,
                 gross_minor=SOUND.gross_minor + 500, due_minor=SOUND.due_minor + 500), "BR-CO-17"),
        (replace(SOUND, net_minor=SOUND.net_minor - 100), "BR-CO-10"),
        (replace(SOUND, taxes=tax_of(SOUND, base_minor=SOUND.net_minor - 700)), "BR-S-08"),
        (replace(SOUND, taxes=()), "XSD"),
        (replace(SOUND, number=""), "BR-02"),
        (replace(SOUND, buyer=replace(COMPANY, name="")), "BR-07"),
        (replace(SOUND, seller=replace(SELLER, vat_number=None)), "BR-S-02"),
        (replace(SOUND, seller=replace(SELLER, vat_number="40303265045")), "BR-CO-09"),
        (replace(SOUND, buyer=replace(COMPANY, country="XX")), "BR-CL-14"),
        (replace(SOUND, currency="EUX"), "BR-CL-04"),
        (replace(PLAIN_REVERSED, buyer=replace(MINISTRY, vat_number=None)), "BR-AE-02"),
        (replace(PLAIN_REVERSED, taxes=tax_of(PLAIN_REVERSED, tax_minor=1)), "BR-AE-09"),
        (replace(PLAIN_REVERSED,
                 taxes=tax_of(PLAIN_REVERSED, treatment=TaxTreatment(TaxCategory.REVERSE_CHARGE, 0))), "BR-AE-10"),
        (replace(ABROAD_ONE, taxes=tax_of(ABROAD_ONE, treatment=TaxTreatment(TaxCategory.OUTSIDE_SCOPE, 0))),
         "BR-O-10"),
        (document(OUTSIDE_SCOPE, (*usage_lines(OUTSIDE_SCOPE), line(FRENCH_VAT, 1, 10**9))), "BR-S-01"),
        (replace(REVERSED, seller=replace(SELLER, phone=None)), "BR-DE-6"),
        (replace(REVERSED, seller=replace(SELLER, contact_name=None)), "BR-DE-5"),
        (replace(REVERSED, buyer=replace(MINISTRY, city=None)), "BR-DE-8"),
    ],
)  # fmt: skip
def test_a_broken_document_fails_by_the_rules_name(content: DocumentContent, rule: str) -> None:
    assert rule in broken_rules(content)


def test_a_category_that_there_is_not_fails() -> None:
    xml = render_xml(SOUND).replace(b"<ram:CategoryCode>S<", b"<ram:CategoryCode>Q<")
    assert {finding.rule for finding in check_xml(xml, guideline=EN_16931)} & {"BR-CL-17", "BR-CL-18", "XSD"}


def test_what_is_no_invoice_fails_by_its_schema() -> None:
    xml = render_xml(SOUND).replace(b"ram:BuyerTradeParty", b"ram:Nobody")
    assert {finding.rule for finding in check_xml(xml, guideline=EN_16931)} == {"XSD"}


def test_a_rule_file_that_is_away_lets_nothing_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, "_EN_16931", ("no_such_package", "rules.xslt"))
    with pytest.raises(Unavailable):
        check(SOUND)


def test_a_leitweg_id_is_known_by_its_check_digits() -> None:
    assert is_leitweg_id(LEITWEG_ID)
    assert not any(is_leitweg_id(text) for text in ("991-12345-74", "", None, "PO 4711", "991", "991-ä-73"))
    assert (guideline_of(REVERSED), guideline_of(SOUND)) == (XRECHNUNG, EN_16931)


# What XML can carry and a person might write. Blanks alone are nothing.
WORDS = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x4F9, blacklist_categories=("Cc", "Cs", "Cn")),
                min_size=1, max_size=30).filter(lambda text: any(each.isalnum() for each in text))  # fmt: skip
TREATMENTS = st.sampled_from([FRENCH_VAT, TaxTreatment(TaxCategory.STANDARD, 2550), REVERSE_CHARGE, OUTSIDE_SCOPE])


@st.composite
def contents(draw: st.DrawFn) -> DocumentContent:
    treatment = draw(TREATMENTS)
    lines = tuple(
        line(
            treatment,
            draw(st.integers(1, 10**12)) * draw(st.sampled_from((1, 1, 1, -1))),
            draw(st.integers(0, 10**10)),
            per=draw(st.sampled_from((1, 1_000_000))),
            description=draw(WORDS),
            project=draw(st.none() | WORDS),
        )
        for _ in range(draw(st.integers(1, 6)))
    )
    total = sum(each.net_minor for each in lines)
    allowances: tuple[DocumentAllowance, ...] = ()
    if total > 1 and draw(st.booleans()):
        allowances = (DocumentAllowance(draw(WORDS), draw(st.integers(1, total)), treatment),)
    buyer = {"S": COMPANY, "AE": MINISTRY, "O": ABROAD}[treatment.category]
    return document(
        treatment,
        lines,
        allowances,
        language=draw(st.sampled_from(LANGUAGES)),
        buyer=replace(buyer, name=draw(WORDS)),
        buyer_reference=draw(st.none() | WORDS | st.just(LEITWEG_ID)) if buyer is MINISTRY else None,
        purchase_order=draw(st.none() | WORDS),
        due_on=draw(st.none() | st.dates(date(2026, 11, 2), date(2027, 11, 2))),
        payment=draw(st.sampled_from((PaymentTerms(), SOUND.payment))),
        note=draw(st.none() | WORDS),
    )


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(contents())
def test_whatever_adds_up_passes_the_rules(content: DocumentContent) -> None:
    assert check(content) == ()


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(contents())
def test_paper_xml_and_content_say_the_same_amounts(content: DocumentContent) -> None:
    root = etree.fromstring(render_xml(content))
    texts, paper = texts_of(content.language), text_of(render_pdf(content))
    for name, amount in (
        ("TaxBasisTotalAmount", content.net_minor),
        ("TaxTotalAmount", content.tax_minor),
        ("GrandTotalAmount", content.gross_minor),
        ("DuePayableAmount", content.due_minor),
    ):
        plain = minor_text(amount, content.minor_digits)
        assert [each.text for each in root.iter(f"{RAM}{name}")] == [plain]
        assert re.sub(r"\s", " ", texts.money(plain, content.currency)) in paper
    assert [each.text for each in root.iter(f"{RAM}LineTotalAmount")][:-1] == [
        minor_text(each.net_minor, content.minor_digits) for each in content.lines
    ]
    for each in content.lines:
        shown = texts.money(minor_text(each.net_minor, content.minor_digits), content.currency)
        assert re.sub(r"\s", " ", shown) in paper
