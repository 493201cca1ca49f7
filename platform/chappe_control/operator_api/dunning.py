"""Dunning, for the operator: who is at which level, the log, pauses, and each legal entity's policy."""

from datetime import date, datetime
from typing import Annotated

from litestar import Response, delete, get, put
from litestar.params import JSONBody, PathParameter, QueryParameter
from msgspec import Meta, Struct
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_billing.dunning import queries, service
from chappe_billing.dunning.queries import LoggedStep, Pause
from chappe_billing.dunning.rules import Policy, StepKind
from chappe_billing.dunning.service import BookEntry
from chappe_control.authentication import OperatorRequest
from chappe_control.cursors import decode_cursor, encode_cursor
from chappe_control.etags import ETAG_HEADER, IfMatch, check_match, with_etag
from chappe_control.operator_api.references import parse_tenant_id
from chappe_control.origins import origin_of
from chappe_control.permissions import Permission
from chappe_control.public import answers
from chappe_control.public.parameters import DEFAULT_LIMIT, Amount, Cursor, Limit
from chappe_control.public.references import MAX_ID_LENGTH, id_in_path
from chappe_control.state import Given
from chappe_kernel.ids import INVOICE, LEGAL_ENTITY, TENANT, TenantId, encode_id
from chappe_kernel.money import format_nano
from chappe_store.session import TenantScope
from chappe_tenants.legal_entities.service import get_entity
from chappe_tenants.organisations.service import get_organisation, lock_organisation

_TAG = "Dunning"
TenantPath = Annotated[str, PathParameter(max_length=MAX_ID_LENGTH, description="The organisation's id, `ten_…`.")]
EntityPath = Annotated[str, PathParameter(max_length=MAX_ID_LENGTH, description="The legal entity's id, `ent_…`.")]
TenantFilter = Annotated[
    str | None, QueryParameter(max_length=MAX_ID_LENGTH, description="Of this organisation alone.")
]
Day = Annotated[int, Meta(ge=1, le=365)]


class PauseView(Struct, frozen=True):
    reason: str
    until: datetime


class DebtorView(Struct, frozen=True):
    tenant_id: Annotated[str, Meta(pattern="^ten_")]
    name: str
    state: str
    suspended_by_dunning: bool
    currency: str
    open: Amount
    overdue: Amount
    oldest_due_on: date | None
    level: Annotated[int, Meta(description="The highest notice that was sent of what is open; 0 for none.")]
    pause: PauseView | None


class DebtorList(Struct, frozen=True):
    items: list[DebtorView]
    next_cursor: str | None


class StepView(Struct, frozen=True):
    tenant_id: Annotated[str, Meta(pattern="^ten_")]
    invoice_id: Annotated[str, Meta(pattern="^ivc_")]
    number: str
    kind: StepKind
    level: int
    open: Annotated[Amount, Meta(description="What was open then.")]
    currency: str
    due_on: date
    taken_at: datetime


class StepList(Struct, frozen=True):
    items: list[StepView]


class PauseDunning(Struct, frozen=True, forbid_unknown_fields=True):
    reason: Annotated[str, Meta(min_length=1, max_length=500)]
    until: Annotated[datetime, Meta(tz=True, description="Within a year.")]


class PauseState(Struct, frozen=True):
    pause: PauseView | None


class SetPolicy(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """In days: before the due day, after it, and for new tries after the first one that failed."""

    enabled: bool
    reminder_days: Annotated[int, Meta(ge=1, le=60)] | None
    notice_days: Annotated[list[Day], Meta(min_length=1, max_length=5)]
    retry_days: Annotated[list[Day], Meta(max_length=10)]
    suspend_days: Annotated[Day | None, Meta(description="None suspends nobody.")]
    grace_days: Annotated[int, Meta(ge=1, le=60, description="From the last notice to the suspension, at least.")]


class PolicyView(Struct, frozen=True, kw_only=True):
    enabled: bool
    reminder_days: int | None
    notice_days: list[int]
    retry_days: list[int]
    suspend_days: int | None
    grace_days: int


@get(
    "/dunning",
    permission=Permission.SEE_DUNNING,
    tags=[_TAG],
    summary="List who owes something",
    operation_id="operator_list_debtors",
    responses=answers.READ,
)
async def read_book(services: Given, limit: Limit = DEFAULT_LIMIT, cursor: Cursor = None) -> DebtorList:
    """By what was invoiced and is open, the most overdue first."""
    async with services.database.audit() as session:
        book = await service.read_book(session, limit=limit, after=decode_cursor(cursor))
    next_cursor = None if book.next_after is None else encode_cursor(book.next_after)
    return DebtorList([_show(entry) for entry in book.entries], next_cursor)


@get(
    "/dunning/steps",
    permission=Permission.SEE_DUNNING,
    tags=[_TAG],
    summary="Read dunning's log",
    operation_id="operator_list_dunning_steps",
    responses=answers.READ_ONE,
)
async def list_steps(services: Given, limit: Limit = DEFAULT_LIMIT, tenant_id: TenantFilter = None) -> StepList:
    """The newest steps, each taken once."""
    tenant = None if tenant_id is None else parse_tenant_id(tenant_id)
    async with services.database.audit() as session:
        rows = await queries.list_steps(session, tenant_id=tenant, limit=limit)
    return StepList([_show_step(row) for row in rows])


@get(
    "/tenants/{tenant_id:str}/dunning-pause",
    permission=Permission.SEE_DUNNING,
    tags=[_TAG],
    summary="Read whether a tenant's dunning is paused",
    operation_id="operator_get_dunning_pause",
    responses=answers.READ_ONE,
    response_headers=[ETAG_HEADER],
)
async def read_pause(services: Given, tenant_id: TenantPath) -> Response[PauseState]:
    """The pause that holds, if any."""
    tenant = parse_tenant_id(tenant_id)
    async with services.database.audit() as session:
        await get_organisation(session, TenantScope(tenant))
        return with_etag(await _pause_of(session, tenant))


@put(
    "/tenants/{tenant_id:str}/dunning-pause",
    permission=Permission.MANAGE_DUNNING,
    tags=[_TAG],
    summary="Pause a tenant's dunning",
    operation_id="operator_pause_dunning",
    responses=answers.CHANGE,
    response_headers=[ETAG_HEADER],
)
async def pause(
    request: OperatorRequest,
    services: Given,
    tenant_id: TenantPath,
    data: JSONBody[PauseDunning],
    if_match: IfMatch = None,
) -> Response[PauseState]:
    """In place of a pause that was set before. What was suspended still opens again when it is paid."""
    tenant = parse_tenant_id(tenant_id)
    async with services.database.operator(origin_of(request)) as session:
        await lock_organisation(session, TenantScope(tenant))
        check_match(request, await _pause_of(session, tenant))
        await service.pause(session, tenant, reason=data.reason, until=data.until)
        return with_etag(await _pause_of(session, tenant))


@delete(
    "/tenants/{tenant_id:str}/dunning-pause",
    permission=Permission.MANAGE_DUNNING,
    tags=[_TAG],
    summary="Go on with a tenant's dunning",
    operation_id="operator_resume_dunning",
    responses=answers.REVOKE,
)
async def resume(request: OperatorRequest, services: Given, tenant_id: TenantPath) -> None:
    """From the level at which it was."""
    async with services.database.operator(origin_of(request)) as session:
        await service.resume(session, parse_tenant_id(tenant_id))


@get(
    "/legal-entities/{entity_id:str}/dunning-policy",
    permission=Permission.SEE_DUNNING,
    tags=[_TAG],
    summary="Read a legal entity's dunning policy",
    operation_id="operator_get_dunning_policy",
    responses=answers.READ_ONE,
    response_headers=[ETAG_HEADER],
)
async def read_policy(services: Given, entity_id: EntityPath) -> Response[PolicyView]:
    """The default, if none was set."""
    found_id = id_in_path(LEGAL_ENTITY, entity_id, "legal entity")
    async with services.database.audit() as session:
        entity = await get_entity(session, found_id)
        return with_etag(_show_policy(await service.get_policy(session, entity.id)))


@put(
    "/legal-entities/{entity_id:str}/dunning-policy",
    permission=Permission.MANAGE_DUNNING,
    tags=[_TAG],
    summary="Set a legal entity's dunning policy",
    operation_id="operator_set_dunning_policy",
    responses=answers.CHANGE,
    response_headers=[ETAG_HEADER],
)
async def put_policy(
    request: OperatorRequest,
    services: Given,
    entity_id: EntityPath,
    data: JSONBody[SetPolicy],
    if_match: IfMatch = None,
) -> Response[PolicyView]:
    """It holds for what is open as well: of steps that are due by then, only the highest notice is sent."""
    found_id = id_in_path(LEGAL_ENTITY, entity_id, "legal entity")
    async with services.database.operator(origin_of(request)) as session:
        entity = await get_entity(session, found_id, lock=True)
        check_match(request, _show_policy(await service.get_policy(session, entity.id)))
        policy = Policy(
            enabled=data.enabled,
            reminder_days=data.reminder_days,
            notice_days=tuple(data.notice_days),
            retry_days=tuple(data.retry_days),
            suspend_days=data.suspend_days,
            grace_days=data.grace_days,
        )
        return with_etag(_show_policy(await service.put_policy(session, entity.id, policy)))


def _show(entry: BookEntry) -> DebtorView:
    return DebtorView(
        tenant_id=encode_id(TENANT, entry.debtor.tenant_id),
        name=entry.debtor.name,
        state=entry.debtor.state,
        suspended_by_dunning=entry.debtor.suspension_id is not None,
        currency=entry.currency,
        open=format_nano(entry.open_nano),
        overdue=format_nano(entry.overdue_nano),
        oldest_due_on=entry.oldest_due_on,
        level=entry.level,
        pause=None if entry.pause is None else _show_pause(entry.pause),
    )


async def _pause_of(session: AsyncSession, tenant_id: TenantId) -> PauseState:
    found = (await queries.read_pauses(session, [tenant_id])).get(tenant_id)
    return PauseState(None if found is None else _show_pause(found))


def _show_pause(found: Pause) -> PauseView:
    return PauseView(found.reason, found.until)


def _show_step(row: LoggedStep) -> StepView:
    return StepView(
        tenant_id=encode_id(TENANT, row.tenant_id),
        invoice_id=encode_id(INVOICE, row.invoice_id),
        number=row.number,
        kind=StepKind(row.kind),
        level=row.level,
        open=format_nano(row.open_nano),
        currency=row.currency,
        due_on=row.due_on,
        taken_at=row.taken_at,
    )


def _show_policy(policy: Policy) -> PolicyView:
    return PolicyView(
        enabled=policy.enabled,
        reminder_days=policy.reminder_days,
        notice_days=list(policy.notice_days),
        retry_days=list(policy.retry_days),
        suspend_days=policy.suspend_days,
        grace_days=policy.grace_days,
    )
