"""How the calling tenant is taxed, and its invoices' documents."""

from http import HTTPStatus

from litestar import Response, get

from chappe_billing.documents.models import Paper
from chappe_billing.documents.service import get_document
from chappe_billing.tax.schemas import TaxView, show_standing
from chappe_billing.tax.service import standing_of
from chappe_control.authentication import TenantRequest
from chappe_control.papers import InvoicePath, as_paper, documented
from chappe_control.permissions import Permission
from chappe_control.public import answers
from chappe_control.public.references import id_in_path
from chappe_control.state import Given, Services
from chappe_kernel.ids import INVOICE
from chappe_store.queries import read_now
from chappe_store.session import TenantScope


@get(
    "/tax",
    permission=Permission.READ_ORGANISATION,
    tags=["Money"],
    summary="Read how you are taxed",
    operation_id="get_tax",
    responses=answers.problems(HTTPStatus.BAD_REQUEST),
)
async def read_own(request: TenantRequest, services: Given) -> TaxView:
    """By today's rates, by your address, and by what the register says of your VAT number."""
    scope = request.auth.scope
    async with services.database.tenant(scope) as session:
        return show_standing(await standing_of(session, scope, (await read_now(session)).date()))


@get(
    "/invoices/{invoice_id:str}/document.pdf",
    permission=Permission.READ_BALANCE,
    tags=["Money"],
    summary="Read an invoice as PDF",
    operation_id="get_invoice_pdf",
    responses=documented(Paper.PDF),
)
async def read_pdf(request: TenantRequest, services: Given, invoice_id: InvoicePath) -> Response[bytes]:
    """PDF/A-3 with the structured invoice inside (Factur-X, EN 16931). 409 `document_pending` until it is made."""
    return await _read(services, request.auth.scope, invoice_id, Paper.PDF)


@get(
    "/invoices/{invoice_id:str}/document.xml",
    permission=Permission.READ_BALANCE,
    tags=["Money"],
    summary="Read an invoice as XML",
    operation_id="get_invoice_xml",
    responses=documented(Paper.XML),
)
async def read_xml(request: TenantRequest, services: Given, invoice_id: InvoicePath) -> Response[bytes]:
    """The structured invoice alone: UN/CEFACT CII, EN 16931. 409 `document_pending` until it is made."""
    return await _read(services, request.auth.scope, invoice_id, Paper.XML)


async def _read(services: Services, scope: TenantScope, invoice_id: str, paper: Paper) -> Response[bytes]:
    found = id_in_path(INVOICE, invoice_id, "invoice")
    async with services.database.tenant(scope) as session:
        number, content = await get_document(session, found, paper, tenant_id=scope.tenant_id)
    return as_paper(paper, number, content)
