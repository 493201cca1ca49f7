"""Tenants, for the operator: who they are, in which state, and what they may owe."""

from functools import partial
from http import HTTPStatus
from typing import Annotated
from uuid import UUID

from litestar import Response, get, patch, post, put
from litestar.params import JSONBody, PathParameter, QueryParameter
from msgspec import Struct
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_billing.budgets.queries import read_credit_limits
from chappe_billing.credit.service import set_credit_limit
from chappe_catalogue.regions.queries import read_jurisdictions
from chappe_control.authentication import OperatorRequest
from chappe_control.cursors import cut_page, decode_cursor
from chappe_control.etags import ETAG_HEADER, IfMatch, check_match, with_etag
from chappe_control.idempotency import service as idempotency
from chappe_control.joining.delivery import send_once
from chappe_control.onboarding.tenants import Defaults, create_tenant, view_tenant
from chappe_control.origins import origin_of
from chappe_control.permissions import Permission
from chappe_control.public import answers
from chappe_control.public.parameters import DEFAULT_LIMIT, Cursor, IdempotencyKey, Limit
from chappe_control.state import Given, Services
from chappe_kernel.errors import Invalid, NotFound
from chappe_kernel.ids import TENANT, TenantId, decode_id
from chappe_kernel.money import format_nano, parse_nano
from chappe_store.session import TenantScope
from chappe_tenants.invitations.schemas import InviteOwner, SentInvitation
from chappe_tenants.invitations.service import invite_owner
from chappe_tenants.organisations import queries
from chappe_tenants.organisations.changes import change_tenant
from chappe_tenants.organisations.lifecycle import Authority, TenantState
from chappe_tenants.organisations.models import Tenant
from chappe_tenants.organisations.queries import MAX_SEARCH_LENGTH, Filter
from chappe_tenants.organisations.schemas import (
    ChangeTenant,
    CreateTenant,
    CreditLimitView,
    SetCreditLimit,
    TakeStep,
    TenantView,
    show_tenant,
)
from chappe_tenants.organisations.service import change_state, get_organisation, lock_organisation

TenantPath = Annotated[str, PathParameter(max_length=100, description="The tenant's id, `ten_…`.")]
Search = Annotated[
    str,
    QueryParameter(
        max_length=MAX_SEARCH_LENGTH,
        description="A part of the name or of the legal name; or a whole id, reference or VAT number.",
    ),
]
# `state` itself is a name of the framework's own.
InState = Annotated[TenantState | None, QueryParameter(name="state", description="Only those in this state.")]
ParentFilter = Annotated[
    str | None, QueryParameter(max_length=100, description="Only subsidiaries and customers of this tenant.")
]

_TAG = "Tenants"


class TenantList(Struct, frozen=True):
    items: list[TenantView]
    next_cursor: str | None


@get(
    "/tenants",
    permission=Permission.SEE_TENANTS,
    tags=[_TAG],
    summary="List tenants",
    operation_id="operator_list_tenants",
    responses=answers.LIST,
)
async def list_tenants(  # noqa: PLR0917 -- the framework passes them by name
    services: Given,
    search: Search = "",
    in_state: InState = None,
    parent_id: ParentFilter = None,
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
) -> TenantList:
    """All tenants, newest first, those included that are closed."""
    if "\0" in search:
        raise Invalid("search holds a character that no name has", param="search")
    wanted = Filter(search.strip(), in_state, _parent_id(parent_id))
    async with services.database.audit() as session:
        rows = await queries.list_tenants(session, wanted, limit=limit + 1, before=decode_cursor(cursor))
        page, next_cursor = cut_page(rows, limit, lambda tenant: tenant.id)
        limits = await read_credit_limits(session, [tenant.id for tenant in page])
    return TenantList([show_tenant(tenant, limits.get(tenant.id, 0)) for tenant in page], next_cursor)


@post(
    "/tenants",
    permission=Permission.MANAGE_TENANTS,
    tags=[_TAG],
    summary="Create a tenant",
    operation_id="operator_create_tenant",
    responses=answers.CREATE,
    response_headers=[ETAG_HEADER],
    status_code=HTTPStatus.CREATED,
)
async def create(
    request: OperatorRequest, services: Given, data: JSONBody[CreateTenant], idempotency_key: IdempotencyKey = None
) -> Response[TenantView]:
    """A new tenant with a first project and an empty budget. A repeat with the same `Idempotency-Key` and body gets
    the same answer."""
    call = await idempotency.call_of(request)
    async with services.database.operator(origin_of(request)) as session:
        work = partial(_create, session, data, _defaults(services))
        view = await idempotency.once(session, request.auth.user_id, call, TenantView, work)
    return with_etag(view)


@get(
    "/tenants/{tenant_id:str}",
    permission=Permission.SEE_TENANTS,
    tags=[_TAG],
    summary="Read a tenant",
    operation_id="operator_get_tenant",
    responses=answers.READ_ONE,
    response_headers=[ETAG_HEADER],
)
async def read(services: Given, tenant_id: TenantPath) -> Response[TenantView]:
    """With its state, what can follow it, and the tag that changes of it take."""
    async with services.database.audit() as session:
        return with_etag(await view_tenant(session, await get_organisation(session, scope_of(tenant_id))))


@patch(
    "/tenants/{tenant_id:str}",
    permission=Permission.MANAGE_TENANTS,
    tags=[_TAG],
    summary="Change a tenant",
    operation_id="operator_change_tenant",
    responses=answers.CHANGE,
    response_headers=[ETAG_HEADER],
)
async def change(
    request: OperatorRequest,
    services: Given,
    tenant_id: TenantPath,
    data: JSONBody[ChangeTenant],
    if_match: IfMatch = None,
) -> Response[TenantView]:
    """Its details, regions, plan, contract and parent. What is left out stays; gateways hear of narrowed regions
    within a second."""
    scope = scope_of(tenant_id)
    async with services.database.operator(origin_of(request)) as session:
        check_match(request, await view_tenant(session, await lock_organisation(session, scope)))
        tenant = await change_tenant(session, scope, data, jurisdiction_of=await read_jurisdictions(session))
        return with_etag(await view_tenant(session, tenant))


@post(
    "/tenants/{tenant_id:str}/transitions",
    permission=Permission.MANAGE_TENANTS,
    tags=[_TAG],
    summary="Change a tenant's state",
    operation_id="operator_change_tenant_state",
    responses=answers.CREATE,
    response_headers=[ETAG_HEADER],
    status_code=HTTPStatus.OK,
)
async def take_step(
    request: OperatorRequest,
    services: Given,
    tenant_id: TenantPath,
    data: JSONBody[TakeStep],
    idempotency_key: IdempotencyKey = None,
) -> Response[TenantView]:
    """Takes it to another state, for a reason that its people are told. A suspended tenant's keys and browser tokens
    open nothing and its streams end within seconds; its members still see everything. A closed one's keys are revoked,
    and nothing follows."""
    scope = scope_of(tenant_id)
    call = await idempotency.call_of(request)
    async with services.database.operator(origin_of(request)) as session:
        work = partial(_take_step, session, scope, data)
        view = await idempotency.once(session, request.auth.user_id, call, TenantView, work)
    return with_etag(view)


@post(
    "/tenants/{tenant_id:str}/owner-invitations",
    permission=Permission.MANAGE_TENANTS,
    tags=[_TAG],
    summary="Invite an owner",
    operation_id="operator_invite_owner",
    responses=answers.CREATE,
    status_code=HTTPStatus.CREATED,
)
async def invite_an_owner(
    request: OperatorRequest,
    services: Given,
    tenant_id: TenantPath,
    data: JSONBody[InviteOwner],
    idempotency_key: IdempotencyKey = None,
) -> SentInvitation:
    """Asks whoever reads mail at the address to own the tenant: its first owner, or one more where the others are gone.
    An address that was asked before is asked again, with a new link."""
    scope = scope_of(tenant_id)
    async with services.database.operator(origin_of(request)) as session:
        work = partial(invite_owner, session, scope, data.email, Authority.OPERATOR)
        return await send_once(request, session, request.auth.user_id, work)


@get(
    "/tenants/{tenant_id:str}/credit-limit",
    permission=Permission.SEE_TENANTS,
    tags=[_TAG],
    summary="Read a tenant's credit limit",
    operation_id="operator_get_credit_limit",
    responses=answers.READ_ONE,
    response_headers=[ETAG_HEADER],
)
async def read_credit_limit(services: Given, tenant_id: TenantPath) -> Response[CreditLimitView]:
    """With the tag that setting it takes."""
    async with services.database.audit() as session:
        return with_etag(await _view_limit(session, await get_organisation(session, scope_of(tenant_id))))


@put(
    "/tenants/{tenant_id:str}/credit-limit",
    permission=Permission.SET_CREDIT_LIMITS,
    tags=[_TAG],
    summary="Set a tenant's credit limit",
    operation_id="operator_set_credit_limit",
    responses=answers.CHANGE,
    response_headers=[ETAG_HEADER],
)
async def put_credit_limit(
    request: OperatorRequest,
    services: Given,
    tenant_id: TenantPath,
    data: JSONBody[SetCreditLimit],
    if_match: IfMatch = None,
) -> Response[CreditLimitView]:
    """How far its funds may fall below zero. A limit below what it owes already takes nothing back, and admits nothing
    more."""
    scope = scope_of(tenant_id)
    async with services.database.operator(origin_of(request)) as session:
        tenant = await lock_organisation(session, scope)
        check_match(request, await _view_limit(session, tenant))
        await set_credit_limit(session, scope.tenant_id, parse_nano(data.credit_limit), tenant.currency)
        return with_etag(await _view_limit(session, tenant))


def scope_of(text: str) -> TenantScope:
    """The operator's role sees every tenant, and the guard has let this caller in: here the id itself is the scope.
    Raises `NotFound` for what is no id."""
    try:
        return TenantScope(TenantId(decode_id(TENANT, text)))
    except Invalid:
        raise NotFound("no such organisation") from None


async def _view_limit(session: AsyncSession, tenant: Tenant) -> CreditLimitView:
    limits = await read_credit_limits(session, [tenant.id])
    return CreditLimitView(format_nano(limits.get(tenant.id, 0)), tenant.currency)


async def _create(session: AsyncSession, asked: CreateTenant, defaults: Defaults) -> TenantView:
    return await view_tenant(session, await create_tenant(session, asked, defaults))


async def _take_step(session: AsyncSession, scope: TenantScope, asked: TakeStep) -> TenantView:
    tenant = await change_state(session, scope, asked.state, asked.reason, Authority.OPERATOR)
    return await view_tenant(session, tenant)


def _defaults(services: Services) -> Defaults:
    return Defaults(services.settings.sign_up_requests_per_minute)


def _parent_id(text: str | None) -> UUID | None:
    try:
        return None if text is None else decode_id(TENANT, text)
    except Invalid as error:
        raise Invalid(error.message, code=error.code, param="parent_id") from None
