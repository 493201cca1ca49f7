"""The calling tenant's invoices, what the next one would be, and what has to stand on them."""

from datetime import date
from typing import Annotated
from uuid import UUID

from litestar import Response, get, patch
from litestar.params import JSONBody, PathParameter
from msgspec import Meta, Struct

from chappe_billing.billing_profiles.service import ProfileChange, change_profile, lock_profile, read_profile
from chappe_billing.documents.content import DocumentContent, DocumentKind
from chappe_billing.invoices.queries import ListedDocument, find_document, list_documents
from chappe_billing.invoicing.queries import Profile
from chappe_billing.invoicing.service import preview
from chappe_control.authentication import TenantRequest
from chappe_control.cursors import cut_page, decode_cursor
from chappe_control.etags import ETAG_HEADER, IfMatch, check_match, with_etag
from chappe_control.origins import origin_of
from chappe_control.permissions import Permission
from chappe_control.public import answers
from chappe_control.public.parameters import DEFAULT_LIMIT, Amount, Cursor, Limit
from chappe_control.public.references import MAX_ID_LENGTH
from chappe_control.state import Given
from chappe_kernel.errors import Invalid, NotFound
from chappe_kernel.ids import INVOICE, TENANT, decode_id, encode_id
from chappe_kernel.money import format_nano

_TAG = "Invoices"
_NANO_DIGITS = 9

InvoicePath = Annotated[
    str, PathParameter(max_length=MAX_ID_LENGTH, description="The document's id, `ivc_…`, or its number.")
]
InvoiceId = Annotated[str, Meta(pattern="^ivc_", max_length=40)]


class InvoiceView(Struct, frozen=True, kw_only=True):
    """An invoice, an advance invoice for a payment on account, or a credit note, whose amounts are positive too."""

    id: InvoiceId
    kind: DocumentKind
    number: str
    issued_on: date
    due_on: date | None
    period_from: date | None
    period_to: date | None
    currency: str
    net: Amount
    tax: Amount
    gross: Amount
    open: Annotated[Amount, Meta(description="What of an invoice is not settled yet.")]
    written_off: Annotated[Amount, Meta(description="What of an invoice the seller has given up: nobody asks for it.")]
    takes_back: Annotated[InvoiceId | None, Meta(description="Of a credit note: the document that it takes back.")]
    reason: str | None


class InvoiceList(Struct, frozen=True):
    items: list[InvoiceView]
    next_cursor: str | None


class InvoiceLineView(Struct, frozen=True, kw_only=True):
    """`quantity` times `unit_price` is `exact`, which is rounded to `net`."""

    description: str
    section: Annotated[str | None, Meta(description="On a group's invoice: whose line it is.")]
    project: str | None
    model: str | None
    region: str | None
    component: str | None
    quantity: int
    unit_price: Annotated[Amount, Meta(description="Of so many as `price_per` says.")]
    price_per: int
    net: Amount


class TaxView(Struct, frozen=True, kw_only=True):
    category: Annotated[str, Meta(description="UNCL 5305: `S`, `AE` or `O`.")]
    rate_basis_points: int
    base: Amount
    tax: Amount
    reason: str | None


class AllowanceView(Struct, frozen=True):
    reason: str
    net: Amount


class InvoiceContent(Struct, frozen=True, kw_only=True):
    """What the document says."""

    lines: list[InvoiceLineView]
    allowances: list[AllowanceView]
    taxes: list[TaxView]
    currency: str
    net: Amount
    tax: Amount
    gross: Amount
    paid: Annotated[Amount, Meta(description="Before it was issued.")]
    due: Amount
    due_on: date | None
    period_from: date | None
    period_to: date | None
    purchase_order: str | None
    buyer_reference: str | None
    note: str | None


class InvoiceDetail(Struct, frozen=True):
    invoice: InvoiceView
    content: InvoiceContent


class InvoicePreview(Struct, frozen=True):
    """What would be invoiced now: several for a tenant that wants one for each project, none when nothing is due."""

    items: list[InvoiceContent]


class ProfileView(Struct, frozen=True, kw_only=True):
    purchase_order: str | None
    buyer_reference: Annotated[
        str | None, Meta(description="A German authority's Leitweg-ID, or what else your books route by.")
    ]
    invoice_email: str | None
    language: str
    split_by_project: bool
    payment_terms_days: int
    billed_to: Annotated[str | None, Meta(description="The parent on whose invoice you stand.")]


@get(
    "/invoices",
    permission=Permission.READ_INVOICES,
    tags=[_TAG],
    summary="List invoices",
    operation_id="list_invoices",
    responses=answers.LIST,
)
async def list_own(
    request: TenantRequest, services: Given, limit: Limit = DEFAULT_LIMIT, cursor: Cursor = None
) -> InvoiceList:
    """Invoices, advance invoices and credit notes, newest first."""
    scope = request.auth.scope
    async with services.database.tenant(scope) as session:
        rows = await list_documents(session, tenant_id=scope.tenant_id, limit=limit + 1, before=decode_cursor(cursor))
    page, next_cursor = cut_page(rows, limit, lambda row: row.id)
    return InvoiceList([show_invoice(row) for row in page], next_cursor)


@get(
    "/invoices/preview",
    permission=Permission.READ_INVOICES,
    tags=[_TAG],
    summary="Preview the next invoice",
    operation_id="preview_invoice",
    responses=answers.LIST,
)
async def read_preview(request: TenantRequest, services: Given) -> InvoicePreview:
    """Of all that was charged and is on no invoice yet, as it would be issued at this moment. 409 `tax_undecided` while
    it is not known how you are taxed."""
    # A group's has its subsidiaries' lines, which the tenant's own role does not see.
    async with services.database.audit() as session:
        draft = await preview(session, request.auth.scope.tenant_id)
        return InvoicePreview([show_content(content) for content in draft.contents()])


@get(
    "/invoices/{invoice_id:str}",
    permission=Permission.READ_INVOICES,
    tags=[_TAG],
    summary="Read an invoice",
    operation_id="get_invoice",
    responses=answers.READ_ONE,
)
async def read_one(request: TenantRequest, services: Given, invoice_id: InvoicePath) -> InvoiceDetail:
    """With its lines, as it was issued."""
    scope = request.auth.scope
    async with services.database.tenant(scope) as session:
        found = await find_document(session, tenant_id=scope.tenant_id, name=named(invoice_id))
    if found is None:
        raise NotFound("no such invoice")
    return InvoiceDetail(show_invoice(found[0]), show_content(found[1]))


@get(
    "/billing-profile",
    permission=Permission.READ_INVOICES,
    tags=[_TAG],
    summary="Read the billing profile",
    operation_id="get_billing_profile",
    responses=answers.LIST,
    response_headers=[ETAG_HEADER],
)
async def read_own_profile(request: TenantRequest, services: Given) -> Response[ProfileView]:
    """What stands on your invoices and where they go."""
    scope = request.auth.scope
    async with services.database.tenant(scope) as session:
        return with_etag(show_profile(await read_profile(session, scope)))


@patch(
    "/billing-profile",
    permission=Permission.MANAGE_BILLING,
    tags=[_TAG],
    summary="Change the billing profile",
    operation_id="change_billing_profile",
    responses=answers.CHANGE,
    response_headers=[ETAG_HEADER],
)
async def change_own_profile(
    request: TenantRequest, services: Given, data: JSONBody[ProfileChange], if_match: IfMatch = None
) -> Response[ProfileView]:
    """From the next invoice on. What is left out stays."""
    scope = request.auth.scope
    async with services.database.tenant(scope, origin_of(request)) as session:
        check_match(request, show_profile(await lock_profile(session, scope)))
        return with_etag(show_profile(await change_profile(session, scope, data)))


def named(invoice_id: str) -> UUID | str:
    """An id, or else a number."""
    try:
        return decode_id(INVOICE, invoice_id)
    except Invalid:
        return invoice_id


def show_invoice(row: ListedDocument) -> InvoiceView:
    nano = 10 ** (_NANO_DIGITS - row.minor_digits)
    return InvoiceView(
        id=encode_id(INVOICE, row.id),
        kind=row.kind,
        number=row.number,
        issued_on=row.issued_on,
        due_on=row.due_on,
        period_from=row.period_from,
        period_to=row.period_to,
        currency=row.currency,
        net=format_nano(row.net_minor * nano),
        tax=format_nano(row.tax_minor * nano),
        gross=format_nano(row.gross_minor * nano),
        open=format_nano(row.open_nano),
        written_off=format_nano(row.written_off_nano),
        takes_back=None if row.preceding_id is None else encode_id(INVOICE, row.preceding_id),
        reason=row.reason,
    )


def show_content(content: DocumentContent) -> InvoiceContent:
    nano = 10 ** (_NANO_DIGITS - content.minor_digits)
    lines = [
        InvoiceLineView(
            description=line.description,
            section=line.section,
            project=line.project,
            model=line.listing,
            region=line.region,
            component=line.component,
            quantity=line.quantity,
            unit_price=format_nano(line.unit_price_nano),
            price_per=line.price_per,
            net=format_nano(line.net_minor * nano),
        )
        for line in content.lines
    ]
    taxes = [
        TaxView(
            category=one.category,
            rate_basis_points=one.treatment.rate_bp,
            base=format_nano(one.base_minor * nano),
            tax=format_nano(one.tax_minor * nano),
            reason=one.treatment.exemption_reason,
        )
        for one in content.taxes
    ]
    return InvoiceContent(
        lines=lines,
        allowances=[AllowanceView(one.reason, format_nano(one.net_minor * nano)) for one in content.allowances],
        taxes=taxes,
        currency=content.currency,
        net=format_nano(content.net_minor * nano),
        tax=format_nano(content.tax_minor * nano),
        gross=format_nano(content.gross_minor * nano),
        paid=format_nano(content.paid_minor * nano),
        due=format_nano(content.due_minor * nano),
        due_on=content.due_on,
        period_from=content.period_from,
        period_to=content.period_to,
        purchase_order=content.purchase_order,
        buyer_reference=content.buyer_reference,
        note=content.note,
    )


def show_profile(profile: Profile) -> ProfileView:
    return ProfileView(
        purchase_order=profile.purchase_order,
        buyer_reference=profile.buyer_reference,
        invoice_email=profile.invoice_email,
        language=profile.language,
        split_by_project=profile.split_by_project,
        payment_terms_days=profile.payment_terms_days,
        billed_to=None if profile.billed_to is None else encode_id(TENANT, profile.billed_to),
    )
