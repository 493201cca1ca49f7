"""The letter: PDF/A-3 with the XML inside, the same bytes anywhere, and the content's own amounts on paper."""

# ruff: noqa: RUF001 -- typography is what is tested: minus signs, apostrophes
import hashlib
import os
import re
import subprocess
import sys
import unicodedata
from io import BytesIO
from pathlib import Path
from typing import Any

import msgspec
import pypdfium2
import pytest
from pypdf import PdfReader

from chappe_billing.documents.cii import render_xml
from chappe_billing.documents.content import DocumentContent
from chappe_billing.documents.glyphs import PRINTABLE, printable
from chappe_billing.documents.pdf import render_pdf
from tests.documents.samples import ALL, FRENCH_VAT, SELLER, document, invoice, line

ROOT = Path(__file__).parents[2]
_RENDER = """
import sys, hashlib, msgspec
from chappe_billing.documents.content import DocumentContent
from chappe_billing.documents.pdf import render_pdf
from chappe_billing.documents.cii import render_xml
for content in msgspec.json.decode(sys.stdin.buffer.read(), type=list[DocumentContent]):
    print(hashlib.sha256(render_pdf(content)).hexdigest(), hashlib.sha256(render_xml(content)).hexdigest())
"""


def text_of(pdf: bytes) -> str:
    """All pages' text, in one line, with plain blanks and hyphens."""
    opened = pypdfium2.PdfDocument(pdf)
    try:
        pages = [page.get_textpage().get_text_bounded() for page in opened]
    finally:
        opened.close()
    return re.sub(r"\s+", " ", " ".join(pages).replace("\u202f", " ").replace("\xa0", " "))


def test_another_process_elsewhere_renders_the_same_bytes() -> None:
    mine = [f"{hashlib.sha256(render_pdf(each)).hexdigest()} {hashlib.sha256(render_xml(each)).hexdigest()}"
            for each in ALL.values()]  # fmt: skip
    for zone, locale, seed in (("Pacific/Kiritimati", "fr_FR.UTF-8", "1"), ("America/Adak", "C", "4711")):
        environment = {"TZ": zone, "LC_ALL": locale, "PYTHONHASHSEED": seed, "PATH": os.environ["PATH"]}
        done = subprocess.run(
            [sys.executable, "-c", _RENDER],
            input=msgspec.json.encode(list(ALL.values())),
            capture_output=True,
            check=True,
            cwd="/",
            env=environment,
        )
        assert done.stdout.decode().split("\n")[:-1] == mine


@pytest.mark.parametrize("name", ALL)
def test_the_xml_is_inside_and_the_file_says_so(name: str) -> None:
    content = ALL[name]
    pdf = render_pdf(content)
    found_name = "xrechnung.xml" if name == "reverse_charge" else "factur-x.xml"
    reader = PdfReader(BytesIO(pdf))
    assert dict(reader.attachments) == {found_name: [render_xml(content)]}
    catalogue: Any = reader.root_object
    (attached,) = catalogue["/AF"]
    assert attached.get_object()["/AFRelationship"] == "/Alternative"
    packet = catalogue["/Metadata"].get_object().get_data().decode()
    for said in ("<pdfaid:part>3</pdfaid:part>", "<pdfaid:conformance>B</pdfaid:conformance>", found_name):
        assert said in packet
    assert catalogue["/OutputIntents"]
    assert "/ID" in reader.trailer


def test_every_font_is_embedded() -> None:
    reader = PdfReader(BytesIO(render_pdf(invoice())))
    pages: list[Any] = list(reader.pages)
    fonts = [font.get_object() for page in pages for font in page["/Resources"]["/Font"].values()]
    assert fonts
    for font in fonts:
        descriptor = font["/DescendantFonts"][0].get_object()["/FontDescriptor"].get_object()
        assert any(name in descriptor for name in ("/FontFile", "/FontFile2", "/FontFile3"))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("invoice", ("Facture", "FR-2026-000042", "Échéance", "02/12/2026", "BC-2026-0815", "184 467 440", "0,06 EUR",
                     "par 1 000 000", "Crédit de bienvenue", "−10,00 EUR", "Total HT", "78,17 EUR", "20 %", "15,63 EUR",
                     "Net à payer", "93,80 EUR", "FR76 3000 6000 0112 3456 7890 189", "Référence à rappeler",
                     "N° de TVA FR40303265045", "N° de TVA FR83404833048", "Projet Recherche & développement")),
        ("reverse_charge", ("Rechnung", "02.12.2026", "991-12345-73", "RV-2026-17", "4500012345", "184.467.440",
                            "88,17 EUR", "0,00 EUR", "Steuerschuldnerschaft des Leistungsempfängers",
                            "USt-IdNr. DE123456789", "Deutschland")),
        ("outside", ("Invoice", "Outside the scope of VAT", "184,467,440", "88.17 EUR", "Switzerland")),
        ("advance", ("Facture d’acompte", "Déjà payé", "−120,00 EUR", "Acquittée. Rien ne reste à payer.")),
        ("credit_note", ("Avoir", "FR-2026-000041 du 02/10/2026", "Montant de l’avoir", "30,00 EUR")),
        ("after_advances", ("Advance invoice FR-2026-A00007", "−20,00 EUR", "FR-2026-A00009 du 09/10/2026")),
    ],
)  # fmt: skip
def test_the_letter_says_what_an_accounts_department_looks_for(name: str, said: tuple[str, ...]) -> None:
    text = text_of(render_pdf(ALL[name]))
    assert [each for each in said if each not in text] == []


def test_a_name_in_another_script_is_no_reason_to_fail_and_whole_in_the_xml() -> None:
    name = "東京 Söhne 🚀 Łódź Ξένος"
    content = invoice(buyer=msgspec.structs.replace(SELLER, name=name, country="JP"))
    assert "?? Söhne ? Łódź Ξένος" in text_of(render_pdf(content))
    assert name in render_xml(content).decode()


def test_every_character_that_counts_as_printable_has_a_glyph() -> None:
    bounds = re.findall(r"(.)(?:-(.))?", PRINTABLE)
    every = "".join(chr(code) for first, last in bounds for code in range(ord(first), ord(last or first) + 1))
    letters = "".join(each for each in every if unicodedata.category(each) != "Cn")
    assert printable(letters).count("?") <= unicodedata.normalize("NFC", letters).count("?")
    # A name is set in bold.
    render_pdf(invoice(note=letters, buyer=msgspec.structs.replace(SELLER, name=letters)))


def test_markup_in_a_name_is_text() -> None:
    evil = '#panic("x") $x$ *b* <a> @ref // \\ "]'
    assert '#panic("x") $x$ *b* <a> @ref // \\ "]' in text_of(render_pdf(invoice(purchase_order=evil)))


def test_a_long_invoice_runs_over_pages_and_keeps_its_totals_together() -> None:
    lines = tuple(line(FRENCH_VAT, number, 10_000_000, project=f"project {number // 40}") for number in range(1, 200))
    pdf = render_pdf(document(FRENCH_VAT, lines))
    pages = len(PdfReader(BytesIO(pdf)).pages)
    assert pages > 5
    assert f"Page {pages} sur {pages}" in text_of(pdf)
    assert isinstance(document(FRENCH_VAT, lines), DocumentContent)
