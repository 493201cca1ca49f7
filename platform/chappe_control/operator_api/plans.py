"""Plans: what the operator sells, as limits for every tenant that has one."""

from collections.abc import Sequence
from functools import partial
from http import HTTPStatus
from typing import Annotated

from litestar import Response, delete, get, post, put
from litestar.params import JSONBody, PathParameter
from msgspec import Struct
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_catalogue.listings.queries import unknown_listings
from chappe_control.authentication import OperatorRequest
from chappe_control.cursors import cut_page, decode_cursor
from chappe_control.etags import ETAG_HEADER, IfMatch, check_match, with_etag
from chappe_control.idempotency import service as idempotency
from chappe_control.origins import origin_of
from chappe_control.permissions import Permission
from chappe_control.public import answers
from chappe_control.public.parameters import DEFAULT_LIMIT, Cursor, IdempotencyKey, Limit
from chappe_control.state import Given
from chappe_kernel.errors import Invalid
from chappe_tenants.naming import MAX_NAME_LENGTH, clean_name
from chappe_tenants.quotas import queries, service
from chappe_tenants.quotas.queries import Values
from chappe_tenants.quotas.schemas import ChangePlan, CreatePlan, PlanQuotaTerms, PlanView, show_plan, values_of
from chappe_tenants.quotas.service import PlanTerms

_TAG = "Plans"

PlanPath = Annotated[str, PathParameter(max_length=MAX_NAME_LENGTH, description="The plan's name.")]


class PlanList(Struct, frozen=True):
    items: list[PlanView]
    next_cursor: str | None


@get(
    "/plans",
    permission=Permission.SEE_TENANT_QUOTAS,
    tags=[_TAG],
    summary="List plans",
    operation_id="operator_list_plans",
    responses=answers.LIST,
)
async def list_plans(services: Given, limit: Limit = DEFAULT_LIMIT, cursor: Cursor = None) -> PlanList:
    """Newest first."""
    async with services.database.audit() as session:
        plans = await queries.list_plans(session, limit=limit + 1, before=decode_cursor(cursor))
        page, next_cursor = cut_page(plans, limit, lambda plan: plan.id)
        quotas = await queries.read_plan_quotas(session, [plan.name for plan in page])
    return PlanList([show_plan(PlanTerms(plan, quotas[plan.name])) for plan in page], next_cursor)


@post(
    "/plans",
    permission=Permission.MANAGE_PLANS,
    tags=[_TAG],
    summary="Create a plan",
    operation_id="operator_create_plan",
    responses=answers.CREATE,
    response_headers=[ETAG_HEADER],
    status_code=HTTPStatus.CREATED,
)
async def create_plan(
    request: OperatorRequest, services: Given, data: JSONBody[CreatePlan], idempotency_key: IdempotencyKey = None
) -> Response[PlanView]:
    """Limits for every tenant that will have it, in each tenant's own currency. A repeat with the same
    `Idempotency-Key` and body gets the same answer."""
    call = await idempotency.call_of(request)
    async with services.database.operator(origin_of(request)) as session:
        work = partial(_create, session, data)
        return with_etag(await idempotency.once(session, request.auth.user_id, call, PlanView, work))


@get(
    "/plans/{plan:str}",
    permission=Permission.SEE_TENANT_QUOTAS,
    tags=[_TAG],
    summary="Read a plan",
    operation_id="operator_get_plan",
    responses=answers.READ_ONE,
    response_headers=[ETAG_HEADER],
)
async def read_plan(services: Given, plan: PlanPath) -> Response[PlanView]:
    """With the tag that changes of it take."""
    async with services.database.audit() as session:
        return with_etag(show_plan(await service.get_plan(session, plan)))


@put(
    "/plans/{plan:str}",
    permission=Permission.MANAGE_PLANS,
    tags=[_TAG],
    summary="Change a plan",
    operation_id="operator_change_plan",
    responses=answers.CHANGE,
    response_headers=[ETAG_HEADER],
)
async def change_plan(
    request: OperatorRequest,
    services: Given,
    plan: PlanPath,
    data: JSONBody[ChangePlan],
    if_match: IfMatch = None,
) -> Response[PlanView]:
    """The body is all that it says from now on, to every tenant that has it; gateways hear of it within a second."""
    async with services.database.operator(origin_of(request)) as session:
        check_match(request, show_plan(await service.get_plan(session, plan, lock=True)))
        quotas = await _quotas(session, data.quotas)
        return with_etag(
            show_plan(await service.change_plan(session, plan, title=data.title, share=data.share, quotas=quotas))
        )


@delete(
    "/plans/{plan:str}",
    permission=Permission.MANAGE_PLANS,
    tags=[_TAG],
    summary="Remove a plan",
    operation_id="operator_remove_plan",
    responses=answers.CHANGE,
)
async def remove_plan(request: OperatorRequest, services: Given, plan: PlanPath, if_match: IfMatch = None) -> None:
    """Once no tenant has it any more."""
    async with services.database.operator(origin_of(request)) as session:
        check_match(request, show_plan(await service.get_plan(session, plan, lock=True)))
        await service.remove_plan(session, plan)


async def _create(session: AsyncSession, asked: CreatePlan) -> PlanView:
    quotas = await _quotas(session, asked.quotas)
    return show_plan(
        await service.create_plan(session, name=asked.name, title=asked.title, share=asked.share, quotas=quotas)
    )


async def _quotas(session: AsyncSession, asked: Sequence[PlanQuotaTerms]) -> list[tuple[str | None, Values]]:
    models = [clean_name(terms.model, param="quotas") for terms in asked if terms.model is not None]
    if models and await unknown_listings(session, models):
        raise Invalid("quotas name a model that is not on sale", code="model_not_found", param="quotas")
    return [(terms.model, values_of(terms)) for terms in asked]
