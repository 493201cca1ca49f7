"""The letter as PDF/A-3 with the XML inside: Factur-X, or ZUGFeRD's profile XRECHNUNG where the buyer has a Leitweg-ID.

A pure function of the content, byte for byte: Typst takes no clock, no font and no package from the machine, and the
file's dates and identifiers follow from the content. Typst embeds the XML as PDF/A-3 wants it; what it cannot do is to
say in the metadata what the attachment is, so that is added here (Factur-X 1.09, section 6.3.1). `factur-x` could, but
it asks the clock.
"""

import hashlib
from datetime import UTC, datetime, time
from functools import lru_cache
from importlib.metadata import version
from importlib.resources import files
from io import BytesIO

import msgspec
import typst
from pypdf import PdfReader, PdfWriter
from pypdf.generic import ArrayObject, ByteStringObject, DecodedStreamObject, NameObject, StreamObject

from chappe_billing.documents.cii import XRECHNUNG, guideline_of, render_xml
from chappe_billing.documents.content import DocumentContent
from chappe_billing.documents.glyphs import printable
from chappe_billing.documents.letter import lay_out
from chappe_kernel.errors import Unavailable

_REVISION = 1
"""Of this module, the letter and the XML: one more whenever their output changes."""
RENDERER = f"{_REVISION} typst {version('typst')} pypdf {version('pypdf')} babel {version('babel')}"
"""Equal contents under equal renderers are equal bytes."""


class NotRendered(Unavailable):
    """The letter cannot be set."""


_PACKET_END = b"</rdf:RDF>"
_ATTACHMENTS = {True: ("xrechnung.xml", "XRECHNUNG"), False: ("factur-x.xml", "EN 16931")}
_ID_BYTES = 16


def render_pdf(content: DocumentContent) -> bytes:
    """Raises `NotRendered`."""
    xml = render_xml(content)
    name, level = _ATTACHMENTS[guideline_of(content) == XRECHNUNG]
    said = lay_out(content) | {"attachment": name, "attachment_description": level}
    midnight = datetime.combine(content.issued_on, time(), UTC)
    try:
        letter = typst.compile(
            _template(),
            format="pdf",
            ignore_system_fonts=True,
            sys_inputs={"content": printable(msgspec.json.encode(said).decode()), "xml": xml.decode()},
            pdf_standards=["a-3b"],
            timestamp=int(midnight.timestamp()),
        )
    except typst.TypstError as error:
        raise NotRendered(f"the letter cannot be set: {error}", code="document_not_rendered") from error
    assert isinstance(letter, bytes)  # noqa: S101 -- one file, as PDF, is never a list
    return _name_attachment(letter, name, level, hashlib.sha256(xml).digest()[:_ID_BYTES])


def _name_attachment(letter: bytes, name: str, level: str, identifier: bytes) -> bytes:
    writer = PdfWriter(clone_from=PdfReader(BytesIO(letter)))
    catalogue = writer.root_object
    metadata = catalogue["/Metadata"].get_object()
    assert isinstance(metadata, StreamObject)  # noqa: S101 -- PDF/A has one, and Typst has just made it
    packet = metadata.get_data()
    start = packet.rindex(_PACKET_END)
    said = _extension().replace(b"{name}", name.encode()).replace(b"{level}", level.encode())
    named = DecodedStreamObject()
    named.set_data(packet[:start] + said + packet[start:])
    named[NameObject("/Type")] = NameObject("/Metadata")
    named[NameObject("/Subtype")] = NameObject("/XML")
    catalogue[NameObject("/Metadata")] = writer._add_object(named)  # noqa: SLF001 -- its documented way to add one
    writer._ID = ArrayObject([ByteStringObject(identifier), ByteStringObject(identifier)])  # noqa: SLF001 -- PDF/A wants it
    out = BytesIO()
    writer.write(out)
    return out.getvalue()


@lru_cache
def _template() -> bytes:
    return files("chappe_billing.documents").joinpath("letter.typ").read_bytes()


@lru_cache
def _extension() -> bytes:
    return files("chappe_billing.documents").joinpath("facturx.xmp").read_bytes()
