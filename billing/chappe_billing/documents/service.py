"""Making invoices' documents once, keeping them for the law's time, and making them again to compare."""

import asyncio
import hashlib
from datetime import date
from uuid import UUID

import msgspec
import structlog
from msgspec import Struct
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_billing.documents import queries
from chappe_billing.documents.cii import render_xml
from chappe_billing.documents.content import DocumentContent
from chappe_billing.documents.models import Paper
from chappe_billing.documents.pdf import RENDERER, NotRendered, render_pdf
from chappe_billing.documents.queries import Kept, Unrendered
from chappe_billing.documents.rules import check
from chappe_kernel.errors import Conflict, NotFound
from chappe_store.audit_log.origin import Origin
from chappe_store.session import Database

_log = structlog.get_logger()
KEPT_FOR_YEARS = 10
_AT_ONCE = 20


class Rendering(Struct, frozen=True):
    """What one invoice came to: papers, or the rules that it breaks."""

    papers: dict[Paper, bytes]
    broken: tuple[str, ...] = ()


class Verified(Struct, frozen=True):
    """`same` were made again to the byte, `older` are intact and were made by another renderer. `different` is the
    first that is neither: its invoice's number and kind."""

    same: int
    older: int
    different: str | None = None


def render(content: DocumentContent) -> Rendering:
    """Pure. No papers for what breaks a rule: nobody is sent an invoice that the standard refuses. Takes 0.1 s."""
    broken = check(content)
    if broken:
        return Rendering({}, tuple(f"{finding.rule}: {finding.text}" for finding in broken))
    try:
        return Rendering({Paper.XML: render_xml(content), Paper.PDF: render_pdf(content)})
    except NotRendered as error:
        # Of this one invoice alone: it must not keep those behind it waiting.
        return Rendering({}, (f"letter: {error.message}",))


def keep_until(issued_on: date) -> date:
    """The first day on which it need not be kept: ten years count from the end of the year of issue (Germany's UStG
    § 14b and France's code de commerce, article L123-22, ask for no more)."""
    return date(issued_on.year + KEPT_FOR_YEARS + 1, 1, 1)


async def render_all(database: Database, origin: Origin | None = None) -> int:
    """Documents for every issued invoice that has none, and the end of those whose time is over; how many were made or
    deleted. Safe to repeat, to kill and to run twice at once: the first to keep one counts."""
    done = 0
    while True:
        async with database.operator(origin) as session:
            waiting = await queries.list_unrendered(session, RENDERER, limit=_AT_ONCE)
        for unrendered in waiting:
            done += await _render_one(database, unrendered, origin)
        if len(waiting) < _AT_ONCE:
            break
    async with database.operator(origin) as session:
        return done + await queries.delete_over(session)


async def _render_one(database: Database, unrendered: Unrendered, origin: Origin | None) -> int:
    try:
        content = msgspec.convert(unrendered.content, DocumentContent)
    except msgspec.ValidationError as error:
        rendering = Rendering({}, (f"content: {error}",))
        issued_on = date.min
    else:
        rendering, issued_on = await asyncio.to_thread(render, content), content.issued_on
    async with database.operator(origin) as session:
        if rendering.broken:
            await queries.put_refusal(session, unrendered.invoice_id, RENDERER, rendering.broken)
            _log.error("invoice_refused", invoice=str(unrendered.invoice_id), rules=rendering.broken[:5])
            return 0
        return await queries.insert_documents(
            session, unrendered, rendering.papers, renderer=RENDERER, keep_until=keep_until(issued_on)
        )


async def get_document(
    session: AsyncSession, invoice_id: UUID, kind: Paper, *, tenant_id: UUID | None = None
) -> tuple[str, bytes]:
    """The invoice's number and the document. Raises `NotFound`, for another tenant's too, and `Conflict` with the code
    `document_pending` while it is not made."""
    number = await queries.read_number(session, invoice_id, tenant_id=tenant_id)
    if number is None:
        raise NotFound("no such invoice")
    content = await queries.read_document(session, invoice_id, kind, tenant_id=tenant_id)
    if content is None:
        raise Conflict("its document is not made yet; ask again in a minute", code="document_pending")
    return number, content


async def verify_documents(database: Database) -> Verified:
    """Make every kept document again and compare; stops at the first that differs. As the operator, reading only."""
    same = older = 0
    after: tuple[UUID, str] | None = None
    while True:
        async with database.audit() as session:
            page = await queries.list_kept(session, after=after, limit=_AT_ONCE)
        for kept in page:
            if not kept.is_intact or not _is_same(kept):
                return Verified(same, older, f"{kept.number}, {kept.kind}")
            same, older = (same + 1, older) if kept.renderer == RENDERER else (same, older + 1)
        if len(page) < _AT_ONCE:
            return Verified(same, older)
        after = (page[-1].invoice_id, page[-1].kind)


def _is_same(kept: Kept) -> bool:
    if kept.renderer != RENDERER:
        return True
    content = msgspec.convert(kept.content, DocumentContent)
    again = render_pdf(content) if kept.kind == Paper.PDF else render_xml(content)
    return hashlib.sha256(again).digest() == kept.sha256
