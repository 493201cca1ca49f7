"""`/invoices`: what the next one comes to so far, all that were issued, and each as it was issued."""

from collections.abc import Mapping
from typing import Any

from litestar import Request, Response, get
from litestar.datastructures import State
from litestar.params import FromPath

from chappe_billing.documents.content import DocumentContent
from chappe_billing.invoices.queries import list_documents
from chappe_billing.invoicing.queries import read_today
from chappe_billing.invoicing.service import preview
from chappe_control.cursors import cut_page, decode_cursor
from chappe_control.pages.invoices import TEXTS, read_invoice_page
from chappe_control.pages.languages import N_, translate
from chappe_control.pages.render import page
from chappe_control.permissions import Permission
from chappe_control.state import Given, Services
from chappe_kernel.errors import Conflict
from chappe_tenants.sessions.service import MemberVisitor

MemberRequest = Request[Any, MemberVisitor, State]

_SHOWN = 25
_PROBLEMS: Mapping[str, str] = {
    "tax_undecided": N_(
        "How you are taxed is not decided yet. Complete your legal details, or wait until your VAT number is checked."
    ),
    "billed_externally": N_("Your provider's own billing system makes your invoices."),
    "billed_to_parent": N_("What you use is on the invoice of the organisation that you belong to."),
    "buyer_incomplete": N_("Your country is not known yet. Complete your legal details."),
}
_LATER = N_("It cannot be said yet what the next invoice comes to. Nothing is lost: what you use is still counted.")


@get("/invoices", include_in_schema=False, permission=Permission.READ_INVOICES)
async def list_invoices(request: MemberRequest, services: Given) -> Response[bytes]:
    scope = request.auth.scope
    before = decode_cursor(request.query_params.get("cursor"))
    async with services.database.tenant_snapshot(scope) as session:
        today = await read_today(session)
        rows = await list_documents(session, tenant_id=scope.tenant_id, limit=_SHOWN + 1, before=before)
    documents, next_cursor = cut_page(rows, _SHOWN, lambda row: row.id)
    drafts, problem = await _preview(services, request)
    return page(
        request,
        "portal/invoices.html",
        drafts=drafts,
        problem=problem,
        documents=documents,
        next_cursor=next_cursor,
        today=today,
        **TEXTS,
    )


@get("/invoices/{invoice_id:str}", include_in_schema=False, permission=Permission.READ_INVOICES)
async def show_invoice(request: MemberRequest, services: Given, invoice_id: FromPath[str]) -> Response[bytes]:
    async with services.database.tenant_snapshot(request.auth.scope) as session:
        shown = await read_invoice_page(session, invoice_id, tenant_id=request.auth.scope.tenant_id)
    return page(request, "portal/invoice.html", **shown)


async def _preview(services: Services, request: MemberRequest) -> tuple[list[DocumentContent], str | None]:
    """What would be issued now, or why that cannot be said."""
    try:
        # A group's has its subsidiaries' lines, which the tenant's own role does not see.
        async with services.database.audit() as session:
            return (await preview(session, request.auth.scope.tenant_id)).contents(), None
    except Conflict as error:
        return [], translate(request, _PROBLEMS.get(error.code, _LATER))
