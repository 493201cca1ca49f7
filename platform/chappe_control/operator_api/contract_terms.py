"""What a tenant's contract says of whole months, and what that came to at their ends."""

from functools import partial
from http import HTTPStatus
from typing import Annotated

from litestar import get, post
from litestar.params import JSONBody, PathParameter
from msgspec import Struct
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_billing.contract_terms import queries, service
from chappe_billing.contract_terms.schemas import (
    AgreeTerm,
    CutOffEntryView,
    TermView,
    read_month,
    read_tiers,
    show_entry,
    show_term,
)
from chappe_billing.cut_off.queries import list_entries
from chappe_control.authentication import OperatorRequest
from chappe_control.cursors import cut_page, decode_cursor
from chappe_control.idempotency import service as idempotency
from chappe_control.operator_api.references import parse_tenant_id
from chappe_control.origins import origin_of
from chappe_control.permissions import Permission
from chappe_control.public import answers
from chappe_control.public.parameters import DEFAULT_LIMIT, Cursor, IdempotencyKey, Limit
from chappe_control.state import Given
from chappe_kernel.errors import Invalid, NotFound
from chappe_kernel.ids import CONTRACT_TERM, ContractTermId, decode_id
from chappe_kernel.money import parse_nano
from chappe_store.session import TenantScope
from chappe_tenants.organisations.service import get_organisation

_TAG = "Contract terms"

TenantPath = Annotated[str, PathParameter(max_length=100, description="The tenant's id, `ten_…`.")]
TermPath = Annotated[str, PathParameter(max_length=100, description="The term's id, `ctm_…`.")]


class TermList(Struct, frozen=True):
    items: list[TermView]
    next_cursor: str | None


class CutOffEntries(Struct, frozen=True):
    items: list[CutOffEntryView]


@get(
    "/tenants/{tenant_id:str}/contract-terms",
    permission=Permission.SEE_PRICES,
    tags=[_TAG],
    summary="List a contract's terms",
    operation_id="operator_list_contract_terms",
    responses=answers.problems(HTTPStatus.BAD_REQUEST, HTTPStatus.NOT_FOUND),
)
async def list_terms(
    services: Given, tenant_id: TenantPath, limit: Limit = DEFAULT_LIMIT, cursor: Cursor = None
) -> TermList:
    """Newest first, those included that are over."""
    scope = TenantScope(parse_tenant_id(tenant_id))
    async with services.database.audit() as session:
        await get_organisation(session, scope)
        rows = await queries.list_terms(session, scope, limit=limit + 1, before=decode_cursor(cursor))
    page, next_cursor = cut_page(rows, limit, lambda term: term.id)
    return TermList([show_term(term) for term in page], next_cursor)


@post(
    "/tenants/{tenant_id:str}/contract-terms",
    permission=Permission.MANAGE_PRICES,
    tags=[_TAG],
    summary="Agree a term with a tenant",
    operation_id="operator_agree_contract_term",
    responses=answers.CREATE,
    status_code=HTTPStatus.CREATED,
)
async def agree_term(
    request: OperatorRequest,
    services: Given,
    tenant_id: TenantPath,
    data: JSONBody[AgreeTerm],
    idempotency_key: IdempotencyKey = None,
) -> TermView:
    """Of whole months: what it asks for is posted an hour after each month's end. A repeat with the same
    `Idempotency-Key` and body gets the same answer."""
    scope = TenantScope(parse_tenant_id(tenant_id))
    call = await idempotency.call_of(request)
    async with services.database.operator(origin_of(request)) as session:
        work = partial(_agree, session, scope, data)
        return await idempotency.once(session, request.auth.user_id, call, TermView, work)


@post(
    "/tenants/{tenant_id:str}/contract-terms/{term_id:str}/end",
    permission=Permission.MANAGE_PRICES,
    tags=[_TAG],
    summary="End a contract's term",
    operation_id="operator_end_contract_term",
    responses=answers.CREATE,
    status_code=HTTPStatus.OK,
)
async def end_term(
    request: OperatorRequest,
    services: Given,
    tenant_id: TenantPath,
    term_id: TermPath,
    idempotency_key: IdempotencyKey = None,
) -> TermView:
    """With this month; a commitment is reckoned at its end. A repeat with the same `Idempotency-Key` gets the same
    answer."""
    scope = TenantScope(parse_tenant_id(tenant_id))
    call = await idempotency.call_of(request)
    async with services.database.operator(origin_of(request)) as session:
        work = partial(_end, session, scope, term_id)
        return await idempotency.once(session, request.auth.user_id, call, TermView, work)


@get(
    "/tenants/{tenant_id:str}/cut-offs",
    permission=Permission.SEE_PRICES,
    tags=[_TAG],
    summary="List what terms came to",
    operation_id="operator_list_cut_offs",
    responses=answers.READ_ONE,
)
async def list_cut_offs(services: Given, tenant_id: TenantPath) -> CutOffEntries:
    """Each term's entry at each month's end, the newest month first."""
    scope = TenantScope(parse_tenant_id(tenant_id))
    async with services.database.audit() as session:
        await get_organisation(session, scope)
        return CutOffEntries([show_entry(entry) for entry in await list_entries(session, scope)])


async def _agree(session: AsyncSession, scope: TenantScope, asked: AgreeTerm) -> TermView:
    await get_organisation(session, scope)
    term = await service.agree_term(
        session,
        scope,
        kind=asked.kind,
        first_month=read_month(asked.first_month),
        last_month=None if asked.last_month is None else read_month(asked.last_month),
        amount_nano=None if asked.amount is None else parse_nano(asked.amount),
        tiers=read_tiers(asked.tiers),
    )
    return show_term(term)


async def _end(session: AsyncSession, scope: TenantScope, text: str) -> TermView:
    try:
        term_id = ContractTermId(decode_id(CONTRACT_TERM, text))
    except Invalid:
        raise NotFound("no such term") from None
    return show_term(await service.end_term(session, scope, term_id))
