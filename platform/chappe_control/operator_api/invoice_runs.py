"""Months' invoice runs, and months' journals for the general ledger."""

import re
from datetime import date, datetime
from http import HTTPStatus
from typing import Annotated

from litestar import Response, get, post, put
from litestar.params import JSONBody, PathParameter, QueryParameter
from msgspec import Meta, Struct
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_billing.contract_terms.schemas import Month, read_month
from chappe_billing.invoice_runs import queries, service
from chappe_billing.invoice_runs.queries import Entry, RunState
from chappe_billing.invoices.models import Outcome
from chappe_billing.journal import queries as queries_of_journal
from chappe_billing.journal.entries import as_csv
from chappe_billing.journal.service import number_accounts, read_journal
from chappe_control.authentication import OperatorRequest
from chappe_control.cursors import cut_page, decode_cursor
from chappe_control.etags import ETAG_HEADER, IfMatch, check_match, with_etag
from chappe_control.operator_api.performing import perform
from chappe_control.operator_api.references import EntityInBody, EntityInQuery, entity_in_body
from chappe_control.origins import origin_of
from chappe_control.permissions import Permission
from chappe_control.public import answers
from chappe_control.public.parameters import DEFAULT_LIMIT, Cursor, IdempotencyKey, Limit
from chappe_control.public.references import MAX_ID_LENGTH, id_in_path
from chappe_control.state import Given
from chappe_kernel.errors import NotFound
from chappe_kernel.ids import INVOICE_RUN, LEGAL_ENTITY, TENANT, encode_id
from chappe_tenants.legal_entities.service import get_entity

_TAG = "Invoices"
_MONTH = re.compile(r"20[0-9]{2}-(0[1-9]|1[0-2])", re.ASCII)

RunPath = Annotated[str, PathParameter(max_length=MAX_ID_LENGTH, description="The run's id, `ivr_…`.")]
MonthPath = Annotated[str, PathParameter(max_length=7, description="A month of UTC that is over, `YYYY-MM`.")]
OutcomeFilter = Annotated[Outcome | None, QueryParameter(description="Only these.")]
Numbers = Annotated[dict[str, str], Meta(max_length=20, description="By account, like `revenue`.")]


class BeginRun(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    month: Month
    legal_entity_id: EntityInBody = None


class RunView(Struct, frozen=True, kw_only=True):
    """How many payers have which outcome; it ends when nobody waits and nobody is left for later."""

    id: Annotated[str, Meta(pattern="^ivr_")]
    legal_entity_id: Annotated[str, Meta(pattern="^ent_")]
    month: Month
    cut_off_at: datetime
    started_at: datetime
    ended_at: datetime | None
    waiting: int
    issued: int
    nothing: int
    later: int
    invoices: int


class RunList(Struct, frozen=True):
    items: list[RunView]
    next_cursor: str | None


class RunEntryView(Struct, frozen=True, kw_only=True):
    """`code` and `detail` say why somebody is left for later."""

    tenant_id: Annotated[str, Meta(pattern="^ten_")]
    name: str
    outcome: Outcome
    code: str | None
    detail: str | None
    invoices: int
    decided_at: datetime | None


class RunLog(Struct, frozen=True):
    items: list[RunEntryView]
    next_cursor: str | None


class Chart(Struct, frozen=True):
    """What the general ledger calls our accounts."""

    accounts: Numbers


class ChangeChart(Struct, frozen=True, forbid_unknown_fields=True):
    accounts: Numbers


@get(
    "/invoice-runs",
    permission=Permission.SEE_INVOICES,
    tags=[_TAG],
    summary="List invoice runs",
    operation_id="operator_list_invoice_runs",
    responses=answers.LIST,
)
async def list_all(services: Given, limit: Limit = DEFAULT_LIMIT, cursor: Cursor = None) -> RunList:
    """Newest first."""
    async with services.database.audit() as session:
        rows = await queries.list_states(session, limit=limit + 1, before=decode_cursor(cursor))
    page, next_cursor = cut_page(rows, limit, lambda row: row.id)
    return RunList([_show_run(row) for row in page], next_cursor)


@post(
    "/invoice-runs",
    permission=Permission.MANAGE_INVOICES,
    tags=[_TAG],
    summary="Begin an invoice run",
    operation_id="operator_begin_invoice_run",
    responses=answers.CREATE,
    status_code=HTTPStatus.CREATED,
)
async def begin(
    request: OperatorRequest, services: Given, data: JSONBody[BeginRun], idempotency_key: IdempotencyKey = None
) -> RunView:
    """Of a month that is over; the one there is, if it was begun before. The control plane works on it within a minute.
    It begins last month's by itself."""
    entity, month = entity_in_body(data.legal_entity_id), read_month(data.month)

    async def work(session: AsyncSession) -> RunView:
        run = await service.begin_run(session, entity, month)
        return _show_run(await service.get_state(session, run.id))

    return await perform(request, services, RunView, work)


@get(
    "/invoice-runs/{run_id:str}",
    permission=Permission.SEE_INVOICES,
    tags=[_TAG],
    summary="Read an invoice run",
    operation_id="operator_get_invoice_run",
    responses=answers.READ_ONE,
)
async def read(services: Given, run_id: RunPath) -> RunView:
    """How far it is."""
    async with services.database.audit() as session:
        return _show_run(await service.get_state(session, id_in_path(INVOICE_RUN, run_id, "invoice run")))


@get(
    "/invoice-runs/{run_id:str}/log",
    permission=Permission.SEE_INVOICES,
    tags=[_TAG],
    summary="Read an invoice run's log",
    operation_id="operator_get_invoice_run_log",
    responses=answers.READ_ONE,
)
async def read_log(
    services: Given, run_id: RunPath, limit: Limit = DEFAULT_LIMIT, cursor: Cursor = None, outcome: OutcomeFilter = None
) -> RunLog:
    """What it made of each payer, in the order of their ids."""
    run = id_in_path(INVOICE_RUN, run_id, "invoice run")
    async with services.database.audit() as session:
        await service.get_state(session, run)
        rows = await queries.list_log(session, run, limit=limit + 1, after=decode_cursor(cursor), outcome=outcome)
    page, next_cursor = cut_page(rows, limit, lambda row: row.tenant_id)
    return RunLog([_show_entry(row) for row in page], next_cursor)


@get(
    "/journal/{month:str}",
    permission=Permission.SEE_INVOICES,
    tags=[_TAG],
    summary="Export a month's journal",
    operation_id="operator_export_journal",
    media_type="text/csv",
    responses=answers.READ_ONE,
)
async def export_journal(services: Given, month: MonthPath, legal_entity_id: EntityInQuery = None) -> Response[str]:
    """Debits and credits by kind of transaction, account and region, as CSV; the same bytes each time."""
    if _MONTH.fullmatch(month) is None:
        raise NotFound("no such month")
    async with services.database.audit() as session:
        lines = await read_journal(session, entity_in_body(legal_entity_id), read_month(month))
    return Response(as_csv(lines), media_type="text/csv")


@get(
    "/journal/accounts",
    permission=Permission.SEE_INVOICES,
    tags=[_TAG],
    summary="Read the journal's account numbers",
    operation_id="operator_get_journal_accounts",
    responses=answers.READ_ONE,
    response_headers=[ETAG_HEADER],
)
async def read_numbers(services: Given, legal_entity_id: EntityInQuery = None) -> Response[Chart]:
    """An account without a number has its name in the journal."""
    async with services.database.audit() as session:
        return with_etag(Chart(await queries_of_journal.read_numbers(session, entity_in_body(legal_entity_id))))


@put(
    "/journal/accounts",
    permission=Permission.MANAGE_INVOICES,
    tags=[_TAG],
    summary="Number the journal's accounts",
    operation_id="operator_number_journal_accounts",
    responses=answers.CHANGE,
    response_headers=[ETAG_HEADER],
)
async def number(
    request: OperatorRequest,
    services: Given,
    data: JSONBody[ChangeChart],
    legal_entity_id: EntityInQuery = None,
    if_match: IfMatch = None,
) -> Response[Chart]:
    """What is left out keeps its number; all that have one so far."""
    entity = entity_in_body(legal_entity_id)
    async with services.database.operator(origin_of(request)) as session:
        await get_entity(session, entity, lock=True)
        check_match(request, Chart(await queries_of_journal.read_numbers(session, entity)))
        return with_etag(Chart(await number_accounts(session, entity, data.accounts)))


def _show_run(row: RunState) -> RunView:
    return RunView(
        id=encode_id(INVOICE_RUN, row.id),
        legal_entity_id=encode_id(LEGAL_ENTITY, row.legal_entity_id),
        month=_text_of(row.month),
        cut_off_at=row.cut_off_at,
        started_at=row.started_at,
        ended_at=row.ended_at,
        waiting=row.waiting,
        issued=row.issued,
        nothing=row.nothing,
        later=row.later,
        invoices=row.invoices,
    )


def _show_entry(row: Entry) -> RunEntryView:
    return RunEntryView(
        tenant_id=encode_id(TENANT, row.tenant_id),
        name=row.name,
        outcome=row.outcome,
        code=row.code,
        detail=row.detail,
        invoices=row.invoices,
        decided_at=row.decided_at,
    )


def _text_of(month: date) -> str:
    return f"{month:%Y-%m}"
