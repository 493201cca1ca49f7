"""Everybody's invoices, for the operator: what is open, overdue and unbilled, issuing, payments, credit notes."""

from collections.abc import Awaitable, Callable
from datetime import datetime
from http import HTTPStatus
from typing import Annotated
from uuid import UUID

from litestar import Response, get, post, put
from litestar.params import JSONBody, QueryParameter
from msgspec import UNSET, Meta, Struct, UnsetType
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_billing.billing_profiles.service import TermsChange, change_terms, lock_profile, read_profile
from chappe_billing.credit_notes.service import credit
from chappe_billing.invoices import queries
from chappe_billing.invoices.queries import ListedDocument
from chappe_billing.invoices.service import Settled, settle_invoice, write_off_invoice
from chappe_billing.invoicing.queries import read_today
from chappe_billing.invoicing.service import issue
from chappe_billing.ledger.postings import Rail
from chappe_control.authentication import OperatorRequest
from chappe_control.cursors import cut_page, decode_cursor
from chappe_control.etags import ETAG_HEADER, IfMatch, check_match, with_etag
from chappe_control.operator_api.funds import PositiveAmount, Reason, Reference
from chappe_control.operator_api.performing import perform
from chappe_control.operator_api.references import parse_tenant_id
from chappe_control.operator_api.tenants import TenantPath
from chappe_control.origins import origin_of
from chappe_control.permissions import Permission
from chappe_control.public import answers
from chappe_control.public.invoices import (
    InvoiceDetail,
    InvoiceId,
    InvoicePath,
    InvoiceView,
    ProfileView,
    named,
    show_content,
    show_invoice,
    show_profile,
)
from chappe_control.public.parameters import DEFAULT_LIMIT, Amount, Cursor, IdempotencyKey, Limit
from chappe_control.public.references import id_in_body, id_in_path
from chappe_control.public.transactions import TransactionId
from chappe_control.state import Given
from chappe_kernel.errors import NotFound
from chappe_kernel.ids import INVOICE, LEDGER_TRANSACTION, LEGAL_ENTITY, TENANT, encode_id
from chappe_kernel.money import format_nano, parse_nano
from chappe_store.session import TenantScope
from chappe_tenants.organisations.service import get_organisation

_TAG = "Invoices"
TenantId = Annotated[str, Meta(pattern="^ten_", max_length=40)]
TenantFilter = Annotated[str | None, QueryParameter(max_length=40, description="Only this organisation's, `ten_…`.")]
Overdue = Annotated[bool, QueryParameter(description="Only those whose day has passed.")]
LineNumbers = Annotated[
    list[Annotated[int, Meta(ge=1, le=100_000)]],
    Meta(min_length=1, max_length=1000, description="Lines of the invoice, from 1; left out: all that is left of it."),
]


class TenantsInvoice(Struct, frozen=True):
    tenant_id: TenantId
    legal_entity_id: Annotated[str, Meta(pattern="^ent_")]
    invoice: InvoiceView


class TenantsInvoices(Struct, frozen=True):
    items: list[TenantsInvoice]
    next_cursor: str | None


class OpenView(Struct, frozen=True, kw_only=True):
    id: InvoiceId
    number: str
    tenant_id: TenantId
    due_on: str | None
    gross: Amount
    open: Amount
    currency: str


class OpenList(Struct, frozen=True):
    items: list[OpenView]
    next_cursor: str | None


class UnbilledView(Struct, frozen=True, kw_only=True):
    """What was charged, without tax, and is on no invoice yet."""

    tenant_id: TenantId
    name: str
    legal_entity_id: Annotated[str, Meta(pattern="^ent_")]
    amount: Amount
    currency: str
    since: datetime


class UnbilledList(Struct, frozen=True):
    items: list[UnbilledView]
    next_cursor: str | None


class IssueNow(Struct, frozen=True, forbid_unknown_fields=True):
    tenant_id: TenantId


class IssuedView(Struct, frozen=True):
    """Several for a tenant that wants one for each project, none when nothing is due."""

    items: list[InvoiceView]


class RecordPayment(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`reference` is the bank's name for it: once for each."""

    amount: PositiveAmount
    reference: Reference
    rail: Rail = Rail.BANK_TRANSFER


class GiveUp(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    amount: Annotated[PositiveAmount | None, Meta(description="Left out: all that is open.")] = None
    reference: Reference
    reason: Reason
    reclaims_tax: Annotated[
        bool,
        Meta(
            description="The tax in it leaves what you owe to the tax office: only where the seller's law allows that, "
            "and with the papers that it asks for."
        ),
    ] = False


class CreditInvoice(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    reference: Reference
    reason: Reason
    lines: LineNumbers | None = None


class SettledView(Struct, frozen=True, kw_only=True):
    """`over` went to the payer's funds; `open` is left of the invoice."""

    transactions: list[TransactionId]
    settled: Amount
    over: Amount
    open: Amount
    repeated: bool


class AgreeOnTerms(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is left out stays."""

    payment_terms_days: Annotated[int, Meta(ge=0, le=365)] | UnsetType = UNSET
    billed_to: (
        Annotated[TenantId | None, Meta(description="The parent on whose invoice it stands; null: its own.")]
        | UnsetType
    ) = UNSET


@get(
    "/invoices",
    permission=Permission.SEE_INVOICES,
    tags=[_TAG],
    summary="List invoices",
    operation_id="operator_list_invoices",
    responses=answers.LIST,
)
async def list_all(
    services: Given, limit: Limit = DEFAULT_LIMIT, cursor: Cursor = None, tenant_id: TenantFilter = None
) -> TenantsInvoices:
    """Invoices, advance invoices and credit notes, newest first."""
    of = None if tenant_id is None else id_in_body(TENANT, tenant_id, "tenant_id")
    async with services.database.audit() as session:
        rows = await queries.list_documents(session, tenant_id=of, limit=limit + 1, before=decode_cursor(cursor))
    page, next_cursor = cut_page(rows, limit, lambda row: row.id)
    return TenantsInvoices([_show(row) for row in page], next_cursor)


@post(
    "/invoices",
    permission=Permission.MANAGE_INVOICES,
    tags=[_TAG],
    summary="Issue an organisation's invoice now",
    operation_id="operator_issue_invoice",
    responses=answers.CREATE,
    status_code=HTTPStatus.CREATED,
)
async def issue_now(
    request: OperatorRequest, services: Given, data: JSONBody[IssueNow], idempotency_key: IdempotencyKey = None
) -> IssuedView:
    """Of all that was charged and is on none yet."""
    tenant_id = parse_tenant_id(data.tenant_id)

    async def work(session: AsyncSession) -> IssuedView:
        found = [
            await queries.find_document(session, tenant_id=tenant_id, name=issued.id)
            for issued in await issue(session, tenant_id)
        ]
        return IssuedView([show_invoice(one[0]) for one in found if one is not None])

    return await perform(request, services, IssuedView, work)


@get(
    "/invoices/open",
    permission=Permission.SEE_INVOICES,
    tags=[_TAG],
    summary="List unpaid invoices",
    operation_id="operator_list_open_invoices",
    responses=answers.LIST,
)
async def list_open(
    services: Given,
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
    overdue: Overdue = False,  # noqa: FBT002 -- a parameter of the query
) -> OpenList:
    """The oldest first."""
    after = decode_cursor(cursor)
    async with services.database.audit() as session:
        if overdue:
            today = await read_today(session)
            rows = await queries.overdue_invoices(session, today, limit=limit + 1, after=after)
        else:
            rows = await queries.open_invoices(session, limit=limit + 1, after=after)
    page, next_cursor = cut_page(rows, limit, lambda row: row.id)
    items = [
        OpenView(
            id=encode_id(INVOICE, row.id),
            number=row.number,
            tenant_id=encode_id(TENANT, row.tenant_id),
            due_on=None if row.due_on is None else row.due_on.isoformat(),
            gross=format_nano(row.gross_nano),
            open=format_nano(row.open_nano),
            currency=row.currency,
        )
        for row in page
    ]
    return OpenList(items, next_cursor)


@get(
    "/unbilled",
    permission=Permission.SEE_INVOICES,
    tags=[_TAG],
    summary="List what is charged and not invoiced",
    operation_id="operator_list_unbilled",
    responses=answers.LIST,
)
async def list_unbilled(services: Given, limit: Limit = DEFAULT_LIMIT, cursor: Cursor = None) -> UnbilledList:
    """By organisation, in the order of their ids."""
    async with services.database.audit() as session:
        rows = await queries.list_unbilled(session, limit=limit + 1, after=decode_cursor(cursor))
    page, next_cursor = cut_page(rows, limit, lambda row: row.tenant_id)
    items = [
        UnbilledView(
            tenant_id=encode_id(TENANT, row.tenant_id),
            name=row.name,
            legal_entity_id=encode_id(LEGAL_ENTITY, row.legal_entity_id),
            amount=format_nano(row.amount_nano),
            currency=row.currency,
            since=row.since,
        )
        for row in page
    ]
    return UnbilledList(items, next_cursor)


@get(
    "/invoices/{invoice_id:str}",
    permission=Permission.SEE_INVOICES,
    tags=[_TAG],
    summary="Read an invoice",
    operation_id="operator_get_invoice",
    responses=answers.READ_ONE,
)
async def read(services: Given, invoice_id: InvoicePath) -> InvoiceDetail:
    """With its lines. Numbers are each legal entity's own: where two have the same, name it by its id."""
    async with services.database.audit() as session:
        found = await queries.find_document(session, tenant_id=None, name=named(invoice_id))
    if found is None:
        raise NotFound("no such invoice")
    return InvoiceDetail(show_invoice(found[0]), show_content(found[1]))


@post(
    "/invoices/{invoice_id:str}/payments",
    permission=Permission.MANAGE_INVOICES,
    tags=[_TAG],
    summary="Record a payment of an invoice",
    operation_id="operator_record_payment",
    responses=answers.CREATE,
    status_code=HTTPStatus.CREATED,
)
async def pay(
    request: OperatorRequest,
    services: Given,
    invoice_id: InvoicePath,
    data: JSONBody[RecordPayment],
    idempotency_key: IdempotencyKey = None,
) -> SettledView:
    """Of a part of it, or of more: the rest is the payer's."""
    amount_nano = parse_nano(data.amount)

    async def work(session: AsyncSession, invoice: UUID) -> Settled:
        return await settle_invoice(session, invoice, amount_nano=amount_nano, reference=data.reference, rail=data.rail)

    return await _settle(request, services, invoice_id, work)


@post(
    "/invoices/{invoice_id:str}/write-offs",
    permission=Permission.MANAGE_INVOICES,
    tags=[_TAG],
    summary="Give up what is open of an invoice",
    operation_id="operator_write_off_invoice",
    responses=answers.CREATE,
    status_code=HTTPStatus.CREATED,
)
async def give_up(
    request: OperatorRequest,
    services: Given,
    invoice_id: InvoicePath,
    data: JSONBody[GiveUp],
    idempotency_key: IdempotencyKey = None,
) -> SettledView:
    """The operator's loss, its tax included unless you say that it is taken back. Nobody asks for it any more: no
    letter, no collecting, no suspension. Taken back as any transaction, by its reversal."""
    amount_nano = None if data.amount is None else parse_nano(data.amount)

    async def work(session: AsyncSession, invoice: UUID) -> Settled:
        return await write_off_invoice(
            session,
            invoice,
            amount_nano=amount_nano,
            reference=data.reference,
            reason=data.reason,
            reclaims_tax=data.reclaims_tax,
        )

    return await _settle(request, services, invoice_id, work)


@post(
    "/invoices/{invoice_id:str}/credit-notes",
    permission=Permission.MANAGE_INVOICES,
    tags=[_TAG],
    summary="Take an invoice back",
    operation_id="operator_credit_invoice",
    responses=answers.CREATE,
    status_code=HTTPStatus.CREATED,
)
async def take_back(
    request: OperatorRequest,
    services: Given,
    invoice_id: InvoicePath,
    data: JSONBody[CreditInvoice],
    idempotency_key: IdempotencyKey = None,
) -> InvoiceView:
    """As a whole, or some of its lines. What was paid is the payer's again."""
    invoice = id_in_path(INVOICE, invoice_id, "invoice")

    async def work(session: AsyncSession) -> InvoiceView:
        note = await credit(session, invoice, reference=data.reference, reason=data.reason, lines=data.lines)
        found = await queries.find_document(session, tenant_id=None, name=note.id)
        if found is None:
            raise NotFound("no such invoice")
        return show_invoice(found[0])

    return await perform(request, services, InvoiceView, work)


@get(
    "/tenants/{tenant_id:str}/billing-terms",
    permission=Permission.SEE_INVOICES,
    tags=[_TAG],
    summary="Read an organisation's billing terms",
    operation_id="operator_get_billing_terms",
    responses=answers.READ_ONE,
    response_headers=[ETAG_HEADER],
)
async def read_terms(services: Given, tenant_id: TenantPath) -> Response[ProfileView]:
    """With what it says itself of its invoices."""
    scope = TenantScope(parse_tenant_id(tenant_id))
    async with services.database.audit() as session:
        await get_organisation(session, scope)
        return with_etag(show_profile(await read_profile(session, scope)))


@put(
    "/tenants/{tenant_id:str}/billing-terms",
    permission=Permission.MANAGE_INVOICES,
    tags=[_TAG],
    summary="Agree on an organisation's billing terms",
    operation_id="operator_put_billing_terms",
    responses=answers.CHANGE,
    response_headers=[ETAG_HEADER],
)
async def agree(
    request: OperatorRequest,
    services: Given,
    tenant_id: TenantPath,
    data: JSONBody[AgreeOnTerms],
    if_match: IfMatch = None,
) -> Response[ProfileView]:
    """When it pays, and on whose invoice it stands."""
    scope = TenantScope(parse_tenant_id(tenant_id))
    billed_to = id_in_body(TENANT, data.billed_to, "billed_to") if isinstance(data.billed_to, str) else data.billed_to
    change = TermsChange(payment_terms_days=data.payment_terms_days, billed_to=billed_to)
    async with services.database.operator(origin_of(request)) as session:
        await get_organisation(session, scope)
        check_match(request, show_profile(await lock_profile(session, scope)))
        return with_etag(show_profile(await change_terms(session, scope, change)))


async def _settle(
    request: OperatorRequest,
    services: Given,
    invoice_id: str,
    settle: Callable[[AsyncSession, UUID], Awaitable[Settled]],
) -> SettledView:
    invoice = id_in_path(INVOICE, invoice_id, "invoice")

    async def work(session: AsyncSession) -> SettledView:
        done = await settle(session, invoice)
        return SettledView(
            transactions=[encode_id(LEDGER_TRANSACTION, one) for one in done.transactions],
            settled=format_nano(done.settled_nano),
            over=format_nano(done.over_nano),
            open=format_nano(done.open_nano),
            repeated=done.repeated,
        )

    return await perform(request, services, SettledView, work)


def _show(row: ListedDocument) -> TenantsInvoice:
    return TenantsInvoice(
        encode_id(TENANT, row.tenant_id), encode_id(LEGAL_ENTITY, row.legal_entity_id), show_invoice(row)
    )
