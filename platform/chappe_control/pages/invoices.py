"""What pages show of invoices, in the portal and in the console."""

from collections.abc import Iterable, Mapping
from datetime import date
from types import MappingProxyType
from typing import Any
from uuid import UUID

from msgspec import Struct
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_billing.documents.content import DocumentContent, DocumentKind, DocumentLine
from chappe_billing.documents.mailing import find_mailed_at
from chappe_billing.documents.queries import has_documents
from chappe_billing.invoices.queries import ListedDocument, find_document, list_documents
from chappe_billing.invoicing.queries import read_today
from chappe_control.pages.languages import N_
from chappe_control.public.invoices import named
from chappe_kernel.errors import NotFound

_NANO_DIGITS = 9
_MOST_NOTES = 100

KINDS: Mapping[str, str] = MappingProxyType(
    {
        DocumentKind.INVOICE: N_("Invoice"),
        DocumentKind.ADVANCE: N_("Advance invoice"),
        DocumentKind.CREDIT_NOTE: N_("Credit note"),
    }
)


class LineGroup(Struct, frozen=True):
    """Lines of one project, each with its number on the document, from 1. `section` is whose they are on a group's."""

    section: str | None
    project: str | None
    lines: tuple[tuple[int, DocumentLine], ...]

    @property
    def net_minor(self) -> int:
        return sum(line.net_minor for _, line in self.lines)


def group_lines(lines: Iterable[DocumentLine]) -> list[LineGroup]:
    """In the order in which projects come first on the document."""
    groups: dict[tuple[str | None, str | None], list[tuple[int, DocumentLine]]] = {}
    for number, line in enumerate(lines, start=1):
        groups.setdefault((line.section, line.project), []).append((number, line))
    return [LineGroup(section, project, tuple(found)) for (section, project), found in groups.items()]


def state_of(document: ListedDocument, today: date) -> tuple[str, str]:
    """A badge's text, to be translated, and its colour."""
    if document.kind is DocumentKind.ADVANCE:
        return N_("Paid"), "green"
    if document.kind is DocumentKind.CREDIT_NOTE:
        return N_("Issued"), "secondary"
    if document.open_nano <= 0:
        return (N_("Written off"), "secondary") if document.written_off_nano else (N_("Settled"), "green")
    if document.due_on is not None and document.due_on < today:
        return N_("Overdue"), "red"
    is_whole = document.open_nano == document.gross_minor * minor_nano(document)
    return (N_("Open"), "blue") if is_whole else (N_("Partly settled"), "yellow")


def minor_nano(document: ListedDocument | DocumentContent) -> int:
    """What the document's minor unit is in nano: 10,000,000 for a cent."""
    return int(10 ** (_NANO_DIGITS - document.minor_digits))


TEXTS: Mapping[str, Any] = MappingProxyType(
    {"kinds": KINDS, "state_of": state_of, "group_lines": group_lines, "minor_nano": minor_nano}
)
"""For every template that shows invoices."""


async def read_invoice_page(session: AsyncSession, name: str, *, tenant_id: UUID | None) -> dict[str, Any]:
    """What a document's page shows. `name` is its id or its number. Raises `NotFound`, for another tenant's too."""
    found = await find_document(session, tenant_id=tenant_id, name=named(name))
    if found is None:
        raise NotFound("no such invoice")
    document, content = found
    preceding = None
    if document.preceding_id is not None:
        preceding = await find_document(session, tenant_id=tenant_id, name=document.preceding_id)
    return {
        "document": document,
        "content": content,
        "today": await read_today(session),
        "preceding": None if preceding is None else preceding[0],
        "notes": await list_documents(session, tenant_id=tenant_id, limit=_MOST_NOTES, preceding_id=document.id),
        "is_made": await has_documents(session, document.id),
        "mailed_at": await find_mailed_at(session, document.id),
        **TEXTS,
    }
