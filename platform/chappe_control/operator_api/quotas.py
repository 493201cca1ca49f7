"""A tenant's quotas, for the operator: what its contract says, and what is raised for a time."""

from functools import partial
from http import HTTPStatus
from typing import Annotated

from litestar import Response, delete, get, patch, post
from litestar.params import JSONBody, PathParameter
from msgspec import Struct
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_control.authentication import OperatorRequest
from chappe_control.cursors import cut_page, decode_cursor
from chappe_control.etags import ETAG_HEADER, IfMatch, check_match, with_etag
from chappe_control.idempotency import service as idempotency
from chappe_control.origins import origin_of
from chappe_control.permissions import Permission
from chappe_control.public import answers
from chappe_control.public.parameters import DEFAULT_LIMIT, Cursor, IdempotencyKey, Limit
from chappe_control.public.quotas import (
    EffectiveQuotas,
    QuotaList,
    QuotaPath,
    check_model,
    parse_quota_id,
    view_effective,
)
from chappe_control.state import Given
from chappe_kernel.errors import Invalid, NotFound
from chappe_kernel.ids import QUOTA_RAISE, TENANT, QuotaId, QuotaRaiseId, TenantId, decode_id
from chappe_store.session import TenantScope
from chappe_tenants.organisations.service import get_organisation
from chappe_tenants.quotas import queries, service
from chappe_tenants.quotas.effective import Level, Rule
from chappe_tenants.quotas.schemas import (
    ChangeQuota,
    CreateContractQuota,
    CreateRaise,
    QuotaView,
    RaiseView,
    changed_values,
    show_quota,
    show_raise,
    values_of,
)

_TAG = "Tenants' quotas"

TenantPath = Annotated[str, PathParameter(max_length=100, description="The tenant's id, `ten_…`.")]
RaisePath = Annotated[str, PathParameter(max_length=100, description="The raise's id, `rse_…`.")]


class RaiseList(Struct, frozen=True):
    items: list[RaiseView]
    next_cursor: str | None


@get(
    "/tenants/{tenant_id:str}/quotas",
    permission=Permission.SEE_TENANT_QUOTAS,
    tags=[_TAG],
    summary="List a tenant's quotas",
    operation_id="operator_list_quotas",
    responses=answers.problems(HTTPStatus.BAD_REQUEST, HTTPStatus.NOT_FOUND),
)
async def list_quotas(
    services: Given, tenant_id: TenantPath, limit: Limit = DEFAULT_LIMIT, cursor: Cursor = None
) -> QuotaList:
    """What its contract says, and what it has set itself, newest first."""
    scope = _scope(tenant_id)
    async with services.database.audit() as session:
        await get_organisation(session, scope)
        rows = await queries.list_quotas(session, scope, limit=limit + 1, before=decode_cursor(cursor))
    page, next_cursor = cut_page(rows, limit, lambda rule: rule.id)
    return QuotaList([show_quota(rule) for rule in page], next_cursor)


@get(
    "/tenants/{tenant_id:str}/quotas/effective",
    permission=Permission.SEE_TENANT_QUOTAS,
    tags=[_TAG],
    summary="Read the quotas that hold for a tenant",
    operation_id="operator_get_effective_quotas",
    responses=answers.READ_ONE,
)
async def read_effective(services: Given, tenant_id: TenantPath) -> EffectiveQuotas:
    """The organisation's, with where each comes from and what was spent this month."""
    async with services.database.audit() as session:
        return await view_effective(session, _scope(tenant_id))


@post(
    "/tenants/{tenant_id:str}/quotas",
    permission=Permission.MANAGE_TENANT_QUOTAS,
    tags=[_TAG],
    summary="Set a quota in a tenant's contract",
    operation_id="operator_create_quota",
    responses=answers.CREATE,
    response_headers=[ETAG_HEADER],
    status_code=HTTPStatus.CREATED,
)
async def create_quota(
    request: OperatorRequest,
    services: Given,
    tenant_id: TenantPath,
    data: JSONBody[CreateContractQuota],
    idempotency_key: IdempotencyKey = None,
) -> Response[QuotaView]:
    """Within what its plan allows; to go beyond that, raise it for a time or give it another plan. A repeat with the
    same `Idempotency-Key` and body gets the same answer."""
    scope = _scope(tenant_id)
    call = await idempotency.call_of(request)
    async with services.database.operator(origin_of(request)) as session:
        work = partial(_create, session, scope, data)
        return with_etag(await idempotency.once(session, request.auth.user_id, call, QuotaView, work))


@get(
    "/tenants/{tenant_id:str}/quotas/{quota_id:str}",
    permission=Permission.SEE_TENANT_QUOTAS,
    tags=[_TAG],
    summary="Read a quota of a tenant's",
    operation_id="operator_get_quota",
    responses=answers.READ_ONE,
    response_headers=[ETAG_HEADER],
)
async def read_quota(services: Given, tenant_id: TenantPath, quota_id: QuotaPath) -> Response[QuotaView]:
    """With the tag that changes of it take."""
    async with services.database.audit() as session:
        return with_etag(show_quota(await service.get_quota(session, _scope(tenant_id), parse_quota_id(quota_id))))


@patch(
    "/tenants/{tenant_id:str}/quotas/{quota_id:str}",
    permission=Permission.MANAGE_TENANT_QUOTAS,
    tags=[_TAG],
    summary="Change a quota in a tenant's contract",
    operation_id="operator_change_quota",
    responses=answers.CHANGE,
    response_headers=[ETAG_HEADER],
)
async def change_quota(
    request: OperatorRequest,
    services: Given,
    tenant_id: TenantPath,
    quota_id: QuotaPath,
    *,
    data: JSONBody[ChangeQuota],
    if_match: IfMatch = None,
) -> Response[QuotaView]:
    """What is left out stays. What the tenant has set itself is the tenant's to change."""
    scope = _scope(tenant_id)
    async with services.database.operator(origin_of(request)) as session:
        rule = await _of_contract(session, scope, quota_id)
        check_match(request, show_quota(rule))
        return with_etag(show_quota(await service.change_quota(session, scope, rule, changed_values(rule, data))))


@delete(
    "/tenants/{tenant_id:str}/quotas/{quota_id:str}",
    permission=Permission.MANAGE_TENANT_QUOTAS,
    tags=[_TAG],
    summary="Remove a quota from a tenant's contract",
    operation_id="operator_remove_quota",
    responses=answers.CHANGE,
)
async def remove_quota(
    request: OperatorRequest, services: Given, tenant_id: TenantPath, quota_id: QuotaPath, if_match: IfMatch = None
) -> None:
    """What the plan allows holds from now on."""
    scope = _scope(tenant_id)
    async with services.database.operator(origin_of(request)) as session:
        rule = await _of_contract(session, scope, quota_id)
        check_match(request, show_quota(rule))
        await queries.delete_quota(session, scope, QuotaId(rule.id))


@get(
    "/tenants/{tenant_id:str}/quota-raises",
    permission=Permission.SEE_TENANT_QUOTAS,
    tags=[_TAG],
    summary="List what was raised for a tenant",
    operation_id="operator_list_quota_raises",
    responses=answers.problems(HTTPStatus.BAD_REQUEST, HTTPStatus.NOT_FOUND),
)
async def list_raises(
    services: Given, tenant_id: TenantPath, limit: Limit = DEFAULT_LIMIT, cursor: Cursor = None
) -> RaiseList:
    """Newest first, those included that have ended."""
    scope = _scope(tenant_id)
    async with services.database.audit() as session:
        await get_organisation(session, scope)
        rows = await queries.list_raises(session, scope, limit=limit + 1, before=decode_cursor(cursor))
    page, next_cursor = cut_page(rows, limit, lambda found: found.id)
    return RaiseList([show_raise(found) for found in page], next_cursor)


@post(
    "/tenants/{tenant_id:str}/quota-raises",
    permission=Permission.MANAGE_TENANT_QUOTAS,
    tags=[_TAG],
    summary="Raise a tenant's quota for a time",
    operation_id="operator_raise_quota",
    responses=answers.CREATE,
    status_code=HTTPStatus.CREATED,
)
async def raise_quota(
    request: OperatorRequest,
    services: Given,
    tenant_id: TenantPath,
    data: JSONBody[CreateRaise],
    idempotency_key: IdempotencyKey = None,
) -> RaiseView:
    """Lifts what plan and contract say, for a reason and until an end that comes by itself. What the tenant has set
    itself stays as narrow as it is. A repeat with the same `Idempotency-Key` and body gets the same answer."""
    scope = _scope(tenant_id)
    call = await idempotency.call_of(request)
    async with services.database.operator(origin_of(request)) as session:
        work = partial(_raise, session, scope, data)
        return await idempotency.once(session, request.auth.user_id, call, RaiseView, work)


@delete(
    "/tenants/{tenant_id:str}/quota-raises/{raise_id:str}",
    permission=Permission.MANAGE_TENANT_QUOTAS,
    tags=[_TAG],
    summary="End a raise now",
    operation_id="operator_end_quota_raise",
    responses=answers.REVOKE,
)
async def end_raise(request: OperatorRequest, services: Given, tenant_id: TenantPath, raise_id: RaisePath) -> None:
    """Plan and contract hold again. One that has ended stays as it was: a repeat changes nothing."""
    try:
        found = QuotaRaiseId(decode_id(QUOTA_RAISE, raise_id))
    except Invalid:
        raise NotFound("no such raise") from None
    async with services.database.operator(origin_of(request)) as session:
        await service.end_raise(session, _scope(tenant_id), found)


async def _create(session: AsyncSession, scope: TenantScope, asked: CreateContractQuota) -> QuotaView:
    await get_organisation(session, scope)
    model = await check_model(session, asked.model)
    return show_quota(await service.create_quota(session, scope, service.OF_CONTRACT, model, values_of(asked)))


async def _raise(session: AsyncSession, scope: TenantScope, asked: CreateRaise) -> RaiseView:
    await get_organisation(session, scope)
    if asked.ends_at.tzinfo is None:
        raise Invalid("ends_at must say its zone", param="ends_at")
    return show_raise(
        await service.raise_quota(
            session,
            scope,
            model=await check_model(session, asked.model),
            values=values_of(asked),
            reason=asked.reason,
            ends_at=asked.ends_at,
        )
    )


async def _of_contract(session: AsyncSession, scope: TenantScope, text: str) -> Rule:
    rule = await service.get_quota(session, scope, parse_quota_id(text), lock=True)
    if rule.level is not Level.CONTRACT:
        raise NotFound("no such quota in the contract")
    return rule


def _scope(text: str) -> TenantScope:
    # The operator's role sees every tenant, and the guard has let this caller in: here the id itself is the scope.
    try:
        return TenantScope(TenantId(decode_id(TENANT, text)))
    except Invalid:
        raise NotFound("no such organisation") from None
