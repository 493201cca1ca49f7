"""Tax, as the operator sees to it: rates, checks of VAT numbers, rulings; and every invoice's documents."""

from datetime import datetime
from http import HTTPStatus
from typing import Annotated

from litestar import Response, delete, get, post, put
from litestar.params import JSONBody, PathParameter
from msgspec import Meta, Struct
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_billing.documents.models import Paper
from chappe_billing.documents.queries import list_refusals
from chappe_billing.documents.service import get_document
from chappe_billing.tax import queries, service
from chappe_billing.tax.deciding import NumberState
from chappe_billing.tax.schemas import (
    EntityTaxView,
    PutEntityTax,
    RateList,
    RateView,
    RecordVatAnswer,
    Rule,
    RulingView,
    ScheduleRate,
    TaxView,
    VatAnswerView,
    VatCheckList,
    day_of_rate,
    read_percent,
    show_answer,
    show_check,
    show_rate,
    show_ruling,
    show_standing,
)
from chappe_control.authentication import OperatorRequest
from chappe_control.etags import ETAG_HEADER, IfMatch, check_match, with_etag
from chappe_control.operator_api.performing import perform
from chappe_control.operator_api.references import parse_tenant_id
from chappe_control.origins import origin_of
from chappe_control.papers import InvoicePath, as_paper, documented
from chappe_control.permissions import Permission
from chappe_control.public import answers
from chappe_control.public.parameters import IdempotencyKey
from chappe_control.public.references import id_in_path
from chappe_control.state import Given, Services
from chappe_kernel.ids import INVOICE, LEGAL_ENTITY, TENANT, encode_id
from chappe_store.queries import read_now
from chappe_store.session import TenantScope
from chappe_tenants.legal_entities.service import get_entity
from chappe_tenants.organisations.service import get_organisation

_TAG = "Tax"
_MAX_LISTED = 500
TenantPath = Annotated[str, PathParameter(max_length=100, description="The tenant's id, `ten_…`.")]
CountryPath = Annotated[str, PathParameter(max_length=2, description="ISO 3166-1.")]
StartsOnPath = Annotated[str, PathParameter(max_length=10, description="The day on which it begins, `YYYY-MM-DD`.")]
EntityPath = Annotated[str, PathParameter(max_length=100, description="The legal entity's id, `ent_…`.")]


class RefusalView(Struct, frozen=True):
    """An issued invoice that broke rules of EN 16931, and has no document."""

    invoice_id: Annotated[str, Meta(pattern="^ivc_")]
    tenant_id: Annotated[str, Meta(pattern="^ten_")]
    number: str
    findings: Annotated[list[str], Meta(description="Each begins with the rule's name.")]
    refused_at: datetime


class RefusalList(Struct, frozen=True):
    items: list[RefusalView]


@get(
    "/vat-rates",
    permission=Permission.SEE_LEGAL_ENTITIES,
    tags=[_TAG],
    summary="List VAT rates",
    operation_id="operator_list_vat_rates",
    responses=answers.LIST,
)
async def list_rates(services: Given) -> RateList:
    """Standard rates by country, from the newest, those included that are scheduled."""
    async with services.database.audit() as session:
        return RateList([show_rate(rate) for rate in await queries.list_rates(session)])


@post(
    "/vat-rates",
    permission=Permission.MANAGE_TAX,
    tags=[_TAG],
    summary="Schedule a VAT rate",
    operation_id="operator_schedule_vat_rate",
    responses=answers.CREATE,
    status_code=HTTPStatus.CREATED,
)
async def schedule_rate(
    request: OperatorRequest, services: Given, data: JSONBody[ScheduleRate], idempotency_key: IdempotencyKey = None
) -> RateView:
    """From a day in the future on. Said again for the same day, the later word counts."""

    async def work(session: AsyncSession) -> RateView:
        rate_bp = read_percent(data.rate_percent)
        rate = await service.schedule_rate(
            session, country=data.country, starts_on=data.starts_on, rate_bp=rate_bp, source=data.source
        )
        return show_rate(rate)

    return await perform(request, services, RateView, work)


@delete(
    "/vat-rates/{country:str}/{starts_on:str}",
    permission=Permission.MANAGE_TAX,
    tags=[_TAG],
    summary="Take back a VAT rate",
    operation_id="operator_withdraw_vat_rate",
    responses=answers.CHANGE,
)
async def withdraw_rate(
    request: OperatorRequest, services: Given, country: CountryPath, starts_on: StartsOnPath
) -> None:
    """Before its day: the rate before it holds on. One that has begun stays: schedule the next."""
    async with services.database.operator(origin_of(request)) as session:
        await service.withdraw_rate(session, country=country, starts_on=day_of_rate(starts_on))


@get(
    "/legal-entities/{entity_id:str}/tax",
    permission=Permission.SEE_LEGAL_ENTITIES,
    tags=[_TAG],
    summary="Read a legal entity's choices of tax",
    operation_id="operator_get_entity_tax",
    responses=answers.READ_ONE,
    response_headers=[ETAG_HEADER],
)
async def read_entity_tax(services: Given, entity_id: EntityPath) -> Response[EntityTaxView]:
    """What it chose where the law lets it choose."""
    found = id_in_path(LEGAL_ENTITY, entity_id, "legal entity")
    async with services.database.audit() as session:
        await get_entity(session, found)
        return with_etag(EntityTaxView(await queries.read_one_stop_shop(session, found)))


@put(
    "/legal-entities/{entity_id:str}/tax",
    permission=Permission.MANAGE_TAX,
    tags=[_TAG],
    summary="Choose how a legal entity taxes consumers abroad",
    operation_id="operator_put_entity_tax",
    responses=answers.CHANGE,
    response_headers=[ETAG_HEADER],
)
async def put_entity_tax(
    request: OperatorRequest,
    services: Given,
    entity_id: EntityPath,
    data: JSONBody[PutEntityTax],
    if_match: IfMatch = None,
) -> Response[EntityTaxView]:
    """In force for what is taxed from now on."""
    found = id_in_path(LEGAL_ENTITY, entity_id, "legal entity")
    async with services.database.operator(origin_of(request)) as session:
        await get_entity(session, found, lock=True)
        check_match(request, EntityTaxView(await queries.read_one_stop_shop(session, found)))
        await queries.put_one_stop_shop(session, found, uses=data.one_stop_shop)
    return with_etag(EntityTaxView(data.one_stop_shop))


@get(
    "/vat-checks",
    permission=Permission.SEE_TENANTS,
    tags=[_TAG],
    summary="List VAT numbers that are not confirmed",
    operation_id="operator_list_vat_checks",
    responses=answers.LIST,
)
async def list_checks(services: Given) -> VatCheckList:
    """Those that wait for an answer, those that are not valid, and those whose next check is in vain so far."""
    async with services.database.audit() as session:
        rows = await queries.list_checks(session, limit=_MAX_LISTED)
    return VatCheckList([show_check(check, tenant, answer) for check, tenant, answer in rows])


@get(
    "/tenants/{tenant_id:str}/tax",
    permission=Permission.SEE_TENANTS,
    tags=[_TAG],
    summary="Read how a tenant is taxed",
    operation_id="operator_get_tax",
    responses=answers.READ_ONE,
)
async def read_tax(services: Given, tenant_id: TenantPath) -> TaxView:
    """What it buys today, and why so."""
    scope = TenantScope(parse_tenant_id(tenant_id))
    async with services.database.audit() as session:
        return await _show(session, scope)


@post(
    "/tenants/{tenant_id:str}/vat-check",
    permission=Permission.MANAGE_TAX,
    tags=[_TAG],
    summary="Check a tenant's VAT number again",
    operation_id="operator_check_vat_number",
    responses=answers.CREATE,
    status_code=HTTPStatus.OK,
)
async def check_again(
    request: OperatorRequest, services: Given, tenant_id: TenantPath, idempotency_key: IdempotencyKey = None
) -> TaxView:
    """VIES is asked within seconds, if the operator has set it up. Until then what was known stays."""
    scope = TenantScope(parse_tenant_id(tenant_id))

    async def work(session: AsyncSession) -> TaxView:
        await get_organisation(session, scope)
        await service.check_again(session, scope)
        return await _show(session, scope)

    return await perform(request, services, TaxView, work)


@post(
    "/tenants/{tenant_id:str}/vat-answers",
    permission=Permission.MANAGE_TAX,
    tags=[_TAG],
    summary="Record what a register said",
    operation_id="operator_record_vat_answer",
    responses=answers.CREATE,
    status_code=HTTPStatus.CREATED,
)
async def record_answer(
    request: OperatorRequest,
    services: Given,
    tenant_id: TenantPath,
    data: JSONBody[RecordVatAnswer],
    idempotency_key: IdempotencyKey = None,
) -> VatAnswerView:
    """For who checks by hand. It counts as VIES's own answer does, and is kept as the operator's."""
    scope = TenantScope(parse_tenant_id(tenant_id))

    async def work(session: AsyncSession) -> VatAnswerView:
        answer = await service.record_answer(
            session,
            scope,
            vat_number=data.vat_number,
            outcome=NumberState(data.outcome),
            consultation_number=data.consultation_number,
        )
        return show_answer(answer)

    return await perform(request, services, VatAnswerView, work)


@post(
    "/tenants/{tenant_id:str}/tax-rulings",
    permission=Permission.MANAGE_TAX,
    tags=[_TAG],
    summary="Rule how a tenant is taxed",
    operation_id="operator_rule_tax",
    responses=answers.CREATE,
    status_code=HTTPStatus.CREATED,
)
async def rule(
    request: OperatorRequest,
    services: Given,
    tenant_id: TenantPath,
    data: JSONBody[Rule],
    idempotency_key: IdempotencyKey = None,
) -> RulingView:
    """Where no rule decides, or the rules are wrong about somebody. It goes before them from its day on."""
    scope = TenantScope(parse_tenant_id(tenant_id))

    async def work(session: AsyncSession) -> RulingView:
        await get_organisation(session, scope)
        ruling = await service.rule(
            session,
            scope,
            category=data.category,
            rate_bp=read_percent(data.rate_percent),
            reason=data.reason,
            starts_on=data.starts_on,
        )
        return show_ruling(ruling)

    return await perform(request, services, RulingView, work)


@get(
    "/document-refusals",
    permission=Permission.SEE_FUNDS,
    tags=[_TAG],
    summary="List invoices without a document",
    operation_id="operator_list_document_refusals",
    responses=answers.LIST,
)
async def list_refused(services: Given) -> RefusalList:
    """Issued invoices that the rules of EN 16931 refuse, and which rules."""
    async with services.database.audit() as session:
        rows = await list_refusals(session, limit=_MAX_LISTED)
    return RefusalList(
        [
            RefusalView(
                invoice_id=encode_id(INVOICE, refusal.invoice_id),
                tenant_id=encode_id(TENANT, tenant_id),
                number=number,
                findings=list(refusal.findings),
                refused_at=refusal.refused_at,
            )
            for refusal, number, tenant_id in rows
        ]
    )


@get(
    "/invoices/{invoice_id:str}/document.pdf",
    permission=Permission.SEE_FUNDS,
    tags=[_TAG],
    summary="Read any invoice as PDF",
    operation_id="operator_get_invoice_pdf",
    responses=documented(Paper.PDF),
)
async def read_pdf(services: Given, invoice_id: InvoicePath) -> Response[bytes]:
    """The very bytes that the tenant has."""
    return await _read(services, invoice_id, Paper.PDF)


@get(
    "/invoices/{invoice_id:str}/document.xml",
    permission=Permission.SEE_FUNDS,
    tags=[_TAG],
    summary="Read any invoice as XML",
    operation_id="operator_get_invoice_xml",
    responses=documented(Paper.XML),
)
async def read_xml(services: Given, invoice_id: InvoicePath) -> Response[bytes]:
    """The very bytes that the tenant has."""
    return await _read(services, invoice_id, Paper.XML)


async def _show(session: AsyncSession, scope: TenantScope) -> TaxView:
    return show_standing(await service.standing_of(session, scope, (await read_now(session)).date()))


async def _read(services: Services, invoice_id: str, paper: Paper) -> Response[bytes]:
    found = id_in_path(INVOICE, invoice_id, "invoice")
    async with services.database.audit() as session:
        number, content = await get_document(session, found, paper)
    return as_paper(paper, number, content)
