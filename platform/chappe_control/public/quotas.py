"""Quotas of the calling tenant: what is set, and what therefore holds."""

from collections.abc import Sequence
from datetime import datetime
from functools import partial
from http import HTTPStatus
from typing import Annotated

from litestar import Response, delete, get, patch, post
from litestar.params import JSONBody, PathParameter, QueryParameter
from msgspec import Meta, Struct
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_billing.spending import queries as spending
from chappe_billing.spending.queries import ReachedAlert
from chappe_billing.spending.service import BudgetState, states_of
from chappe_catalogue.listings.queries import unknown_listings
from chappe_control.authentication import TenantRequest
from chappe_control.cursors import cut_page, decode_cursor
from chappe_control.etags import ETAG_HEADER, IfMatch, check_match, with_etag
from chappe_control.idempotency import service as idempotency
from chappe_control.origins import origin_of
from chappe_control.permissions import Permission
from chappe_control.public import answers
from chappe_control.public.parameters import DEFAULT_LIMIT, Amount, Cursor, IdempotencyKey, Limit
from chappe_control.state import Given
from chappe_kernel.errors import Denied, Invalid, NotFound
from chappe_kernel.ids import KEY, PROJECT, QUOTA, KeyId, ProjectId, QuotaId, decode_id, encode_id
from chappe_kernel.money import format_nano
from chappe_store.session import TenantScope
from chappe_tenants.naming import clean_name
from chappe_tenants.organisations.service import get_organisation
from chappe_tenants.quotas import queries, service
from chappe_tenants.quotas.effective import Level, Measure, Rule, budgets, effective
from chappe_tenants.quotas.queries import Subject
from chappe_tenants.quotas.schemas import (
    ChangeQuota,
    CreateQuota,
    EffectiveLimit,
    OriginView,
    QuotaView,
    changed_values,
    show_limit,
    show_origin,
    show_quota,
    values_of,
)

_TAG = "Quotas"

QuotaPath = Annotated[str, PathParameter(max_length=100, description="The quota's id, `quo_…`.")]
ProjectFilter = Annotated[str | None, QueryParameter(max_length=100, description="What holds for this project.")]
KeyFilter = Annotated[str | None, QueryParameter(max_length=100, description="What holds for this key.")]
ModelFilter = Annotated[
    str | None, QueryParameter(max_length=100, description="What a request for this model meets; else for any.")
]


class QuotaList(Struct, frozen=True):
    items: list[QuotaView]
    next_cursor: str | None


class AlertView(Struct, frozen=True):
    percent: int
    reached_at: datetime


class BudgetView(Struct, frozen=True):
    quota_id: str
    amount: Amount
    spent: Annotated[Amount, Meta(description="This month, by when it was settled.")]
    pending: Annotated[Amount, Meta(description="What gateways hold in advance within this budget.")]
    hard_stop: bool
    set_by: Annotated[OriginView, Meta(description="Whose budget it is.")]
    origin: Annotated[OriginView, Meta(description="Where its amount comes from: a raise may lift it.")]
    alert_percents: list[int]
    alerts: Annotated[list[AlertView], Meta(description="Those that were reached this month.")]


class EffectiveQuotas(Struct, frozen=True):
    currency: str
    project_id: str | None
    key_id: str | None
    model: str | None
    requests_per_minute: EffectiveLimit | None
    tokens_per_minute: EffectiveLimit | None
    concurrent_requests: EffectiveLimit | None
    budgets: Annotated[list[BudgetView], Meta(description="All hold side by side.")]


@get(
    "/quotas",
    permission=Permission.READ_QUOTAS,
    tags=[_TAG],
    summary="List quotas",
    operation_id="list_quotas",
    responses=answers.LIST,
)
async def list_quotas(
    request: TenantRequest, services: Given, limit: Limit = DEFAULT_LIMIT, cursor: Cursor = None
) -> QuotaList:
    """What is set for the organisation, its projects and its keys, newest first. What the plan says is part of what
    holds: see `/quotas/effective`."""
    scope = request.auth.scope
    async with services.database.tenant(scope) as session:
        rows = await queries.list_quotas(session, scope, limit=limit + 1, before=decode_cursor(cursor))
    page, next_cursor = cut_page(rows, limit, lambda rule: rule.id)
    return QuotaList([show_quota(rule) for rule in page], next_cursor)


@get(
    "/quotas/effective",
    permission=Permission.READ_QUOTAS,
    tags=[_TAG],
    summary="Read the quotas that hold",
    operation_id="get_effective_quotas",
    responses=answers.problems(HTTPStatus.BAD_REQUEST, HTTPStatus.NOT_FOUND),
)
async def read_effective(
    request: TenantRequest,
    services: Given,
    project_id: ProjectFilter = None,
    key_id: KeyFilter = None,
    model: ModelFilter = None,
) -> EffectiveQuotas:
    """The tightest limit of all levels with where it comes from, and every monthly budget with what was spent: for the
    organisation, or for one project or key."""
    scope = request.auth.scope
    async with services.database.tenant_snapshot(scope) as session:
        return await view_effective(
            session, scope, project_id=_project(project_id), key_id=_key(key_id), model=_model(model)
        )


@post(
    "/quotas",
    permission=Permission.MANAGE_QUOTAS,
    tags=[_TAG],
    summary="Set a quota",
    operation_id="create_quota",
    responses=answers.CREATE,
    response_headers=[ETAG_HEADER],
    status_code=HTTPStatus.CREATED,
)
async def create_quota(
    request: TenantRequest, services: Given, data: JSONBody[CreateQuota], idempotency_key: IdempotencyKey = None
) -> Response[QuotaView]:
    """For a project, a key, or the whole organisation, and for one model or all together. It can only narrow what the
    levels above allow. Gateways hear of it within a second. A repeat with the same `Idempotency-Key` and body gets the
    same answer."""
    scope = request.auth.scope
    call = await idempotency.call_of(request)
    async with services.database.tenant(scope, origin_of(request)) as session:
        work = partial(_create, session, scope, data)
        return with_etag(await idempotency.once(session, scope, call, QuotaView, work))


@get(
    "/quotas/{quota_id:str}",
    permission=Permission.READ_QUOTAS,
    tags=[_TAG],
    summary="Read a quota",
    operation_id="get_quota",
    responses=answers.READ_ONE,
    response_headers=[ETAG_HEADER],
)
async def read_quota(request: TenantRequest, services: Given, quota_id: QuotaPath) -> Response[QuotaView]:
    """As it was set, with the tag that changes of it take."""
    scope = request.auth.scope
    async with services.database.tenant(scope) as session:
        return with_etag(show_quota(await service.get_quota(session, scope, parse_quota_id(quota_id))))


@patch(
    "/quotas/{quota_id:str}",
    permission=Permission.MANAGE_QUOTAS,
    tags=[_TAG],
    summary="Change a quota",
    operation_id="change_quota",
    responses=answers.CHANGE,
    response_headers=[ETAG_HEADER],
)
async def change_quota(
    request: TenantRequest,
    services: Given,
    quota_id: QuotaPath,
    data: JSONBody[ChangeQuota],
    if_match: IfMatch = None,
) -> Response[QuotaView]:
    """What is left out stays. What was agreed with the operator (`contract`) is theirs to change."""
    scope = request.auth.scope
    async with services.database.tenant(scope, origin_of(request)) as session:
        rule = await _own(session, scope, quota_id)
        check_match(request, show_quota(rule))
        return with_etag(show_quota(await service.change_quota(session, scope, rule, changed_values(rule, data))))


@delete(
    "/quotas/{quota_id:str}",
    permission=Permission.MANAGE_QUOTAS,
    tags=[_TAG],
    summary="Remove a quota",
    operation_id="remove_quota",
    responses=answers.CHANGE,
)
async def remove_quota(request: TenantRequest, services: Given, quota_id: QuotaPath, if_match: IfMatch = None) -> None:
    """What the levels above allow holds from now on."""
    scope = request.auth.scope
    async with services.database.tenant(scope, origin_of(request)) as session:
        rule = await _own(session, scope, quota_id)
        check_match(request, show_quota(rule))
        await queries.delete_quota(session, scope, QuotaId(rule.id))


async def view_effective(
    session: AsyncSession,
    scope: TenantScope,
    *,
    project_id: ProjectId | None = None,
    key_id: KeyId | None = None,
    model: str | None = None,
) -> EffectiveQuotas:
    """Raises `NotFound` for a project or key that is not this tenant's."""
    tenant = await get_organisation(session, scope)
    rules = await service.read_chain(session, scope, project_id=project_id, key_id=key_id)
    applying = [budget for budget in budgets(rules) if model is None or budget.rule.model in (None, model)]
    states = await states_of(session, scope.tenant_id, applying)
    alerts = await spending.list_alerts(session, scope.tenant_id)
    return EffectiveQuotas(
        currency=tenant.currency,
        project_id=None if project_id is None else encode_id(PROJECT, project_id),
        key_id=None if key_id is None else encode_id(KEY, key_id),
        model=model,
        requests_per_minute=show_limit(effective(rules, Measure.REQUESTS_PER_MINUTE, model)),
        tokens_per_minute=show_limit(effective(rules, Measure.TOKENS_PER_MINUTE, model)),
        concurrent_requests=show_limit(effective(rules, Measure.CONCURRENT_REQUESTS, model)),
        budgets=[_budget(state, alerts) for state in states],
    )


async def check_model(session: AsyncSession, model: str | None) -> str | None:
    """Raises `Invalid` for what is not on sale."""
    if model is None:
        return None
    name = clean_name(model, param="model")
    if await unknown_listings(session, [name]):
        raise Invalid("model names something that is not on sale", code="model_not_found", param="model")
    return name


def parse_quota_id(text: str) -> QuotaId:
    """Raises `NotFound` for what is no id."""
    try:
        return QuotaId(decode_id(QUOTA, text))
    except Invalid:
        raise NotFound("no such quota") from None


async def _create(session: AsyncSession, scope: TenantScope, asked: CreateQuota) -> QuotaView:
    model = await check_model(session, asked.model)
    return show_quota(await service.create_quota(session, scope, _subject(asked), model, values_of(asked)))


async def _own(session: AsyncSession, scope: TenantScope, text: str) -> Rule:
    rule = await service.get_quota(session, scope, parse_quota_id(text), lock=True)
    if rule.level is Level.CONTRACT:
        raise Denied("this was agreed with the operator, who alone can change it", code="contract_quota")
    return rule


def _subject(asked: CreateQuota) -> Subject:
    if asked.key_id is not None:
        if asked.project_id is not None:
            raise Invalid("name a project or a key, not both", param="key_id")
        return Subject(Level.KEY, key_id=_key(asked.key_id))
    if asked.project_id is not None:
        return Subject(Level.PROJECT, project_id=_project(asked.project_id))
    return service.OF_TENANT


def _project(text: str | None) -> ProjectId | None:
    try:
        return None if text is None else ProjectId(decode_id(PROJECT, text))
    except Invalid as error:
        raise Invalid(error.message, code=error.code, param="project_id") from None


def _key(text: str | None) -> KeyId | None:
    try:
        return None if text is None else KeyId(decode_id(KEY, text))
    except Invalid as error:
        raise Invalid(error.message, code=error.code, param="key_id") from None


def _model(text: str | None) -> str | None:
    return None if text is None else clean_name(text, param="model")


def _budget(state: BudgetState, alerts: Sequence[ReachedAlert]) -> BudgetView:
    rule = state.budget.rule
    return BudgetView(
        quota_id=encode_id(QUOTA, rule.id),
        amount=format_nano(state.budget.amount_nano),
        spent=format_nano(state.spent_nano),
        pending=format_nano(state.pending_nano),
        hard_stop=rule.hard_stop,
        set_by=show_origin(rule),
        origin=show_origin(state.budget.origin),
        alert_percents=list(rule.alert_percents),
        alerts=[AlertView(alert.percent, alert.reached_at) for alert in alerts if alert.quota_id == rule.id],
    )
