"""The letter that brings a document, in the reader's language: with the kept bytes, or with the way to them."""

from collections.abc import Mapping
from typing import Final
from uuid import UUID

from babel import Locale

from chappe_billing.documents import mailing
from chappe_billing.documents.content import DocumentKind
from chappe_billing.documents.mailing import MailedDocument
from chappe_billing.documents.models import Paper
from chappe_control.mail.letters import Action, Attachment, Letter
from chappe_control.mail.orders import Order
from chappe_control.mail.service import Writer
from chappe_control.pages import formats
from chappe_control.pages.languages import N_, translate_into
from chappe_control.papers import MEDIA_TYPES, file_name
from chappe_kernel.ids import INVOICE, encode_id
from chappe_store.session import Database

DOCUMENT: Final = "document"
ATTACHED: Final = "attached"
LINKED: Final = "linked"
MOST_ATTACHED_BYTES: Final = 7_000_000
"""Ten million in a letter, and many servers take no larger one."""

_SUBJECTS: Final[Mapping[str, str]] = {
    DocumentKind.INVOICE: N_("Invoice %(number)s for “%(organisation)s”"),
    DocumentKind.ADVANCE: N_("Advance invoice %(number)s for “%(organisation)s”"),
    DocumentKind.CREDIT_NOTE: N_("Credit note %(number)s for “%(organisation)s”"),
}
_TEXTS: Final[Mapping[str, str]] = {
    DocumentKind.INVOICE: N_("Invoice %(number)s of %(issued)s comes to %(gross)s."),
    DocumentKind.ADVANCE: N_("Advance invoice %(number)s of %(issued)s is for your payment of %(gross)s. It is paid."),
    DocumentKind.CREDIT_NOTE: N_("Credit note %(number)s of %(issued)s gives %(gross)s back."),
}
_DUE: Final = N_("%(open)s are to be paid by %(due)s.")
_IS_ATTACHED: Final = N_("It is attached as a PDF, and as XML for programs (EN 16931).")
_IS_LINKED: Final = N_("It is in the portal, as a PDF and as XML for programs (EN 16931).")
_WHY_ATTACHED: Final = N_("You get this letter because the organisation named your address for its invoices.")
_WHY_LINKED: Final = N_("You get this letter as an owner or a billing member. An address that gets the documents "
                        "themselves can be named in the portal, under billing details.")  # fmt: skip


async def write_document(database: Database, order: Order) -> Letter | None:
    """`values` has the document's id, how it goes, the organisation's name and the portal's address. Nothing for a
    document that is not kept any more."""
    invoice_id, language = UUID(order.values["invoice_id"]), order.language
    async with database.operator() as session:
        found = await mailing.find_mailed(session, invoice_id)
        papers = await mailing.read_papers(session, invoice_id) if order.values["how"] == ATTACHED else {}
    if found is None:
        return None
    if sum(map(len, papers.values())) > MOST_ATTACHED_BYTES:
        papers = {}
    shown = {**_shown(Locale.parse(language), found), "organisation": order.values["organisation"]}
    texts = [_TEXTS[found.kind], _IS_ATTACHED if papers else _IS_LINKED]
    if found.kind is DocumentKind.INVOICE and found.due_on is not None and found.open_nano > 0:
        texts.insert(1, _DUE)
    why = _WHY_LINKED if order.values["how"] == LINKED else _WHY_ATTACHED
    place = f"{order.values['portal_url']}/invoices/{encode_id(INVOICE, invoice_id)}"
    return Letter(
        translate_into(language, _SUBJECTS[found.kind], **shown),
        tuple(translate_into(language, text, **shown) for text in texts),
        Action(translate_into(language, N_("See it in the portal")), place),
        (translate_into(language, why),),
        tuple(
            Attachment(file_name(paper, found.number), MEDIA_TYPES[paper], papers[paper])
            for paper in Paper
            if paper in papers
        ),
    )


WRITERS: Final[Mapping[str, Writer]] = {DOCUMENT: write_document}


def _shown(locale: Locale, found: MailedDocument) -> dict[str, str]:
    shown = {
        "number": found.number,
        "issued": formats.day_of_month(locale, found.issued_on),
        "gross": formats.amount(locale, found.gross_nano, found.currency),
        "open": formats.amount(locale, found.open_nano, found.currency),
    }
    if found.due_on is not None:
        shown["due"] = formats.day_of_month(locale, found.due_on)
    return shown
