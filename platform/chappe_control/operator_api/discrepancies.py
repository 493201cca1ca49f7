"""Requests about which the two witnesses differ, as a queue for the operator."""

from datetime import datetime
from functools import partial
from typing import Annotated
from uuid import UUID

from litestar import get, post
from litestar.params import JSONBody, PathParameter
from msgspec import Meta, Struct
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_billing.discrepancies.queries import ListedDiscrepancy, list_newest
from chappe_billing.discrepancies.service import resolve_discrepancy
from chappe_control.authentication import OperatorRequest
from chappe_control.cursors import cut_page, decode_cursor
from chappe_control.operator_api.performing import perform
from chappe_control.operator_api.queues import TAG, KeptReason, Show
from chappe_control.permissions import Permission
from chappe_control.public import answers
from chappe_control.public.parameters import DEFAULT_LIMIT, Amount, Cursor, IdempotencyKey, Limit
from chappe_control.public.references import MAX_ID_LENGTH, id_in_path
from chappe_control.state import Given
from chappe_kernel.ids import DISCREPANCY, REQUEST, TENANT, encode_id
from chappe_kernel.money import format_nano

DiscrepancyPath = Annotated[str, PathParameter(max_length=MAX_ID_LENGTH, description="The discrepancy's id, `dsc_…`.")]


class DiscrepancyView(Struct, frozen=True):
    """What was posted, and beside it what the other witness says."""

    id: Annotated[str, Meta(pattern="^dsc_")]
    request_id: Annotated[str, Meta(pattern="^req_")]
    tenant_id: Annotated[str, Meta(pattern="^ten_")]
    region: str
    gateway: str
    kind: Annotated[str, Meta(description="`witnesses_differ`, or `later_record`: it came after the settlement.")]
    outcome: str
    completion_tokens: int
    amount: Annotated[Amount, Meta(description="What it would cost by the other witness.")]
    posted_outcome: str
    posted_completion_tokens: int
    paid: Annotated[Amount, Meta(description="What the tenant paid.")]
    currency: str
    opened_at: datetime
    resolved_at: datetime | None
    reason: str | None
    corrected: Annotated[Amount | None, Meta(description="What the tenant was given back.")]


class DiscrepancyList(Struct, frozen=True):
    items: list[DiscrepancyView]
    next_cursor: str | None


class Resolve(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """With `correct` the tenant gets back what it paid more than the other witness says; without, the charge stays."""

    reason: KeptReason
    correct: bool = False


class Resolution(Struct, frozen=True):
    given_back: Amount


@get(
    "/discrepancies",
    permission=Permission.SEE_QUEUES,
    tags=[TAG],
    summary="List discrepancies",
    operation_id="operator_list_discrepancies",
    responses=answers.LIST,
)
async def list_all(
    services: Given, show: Show = "open", limit: Limit = DEFAULT_LIMIT, cursor: Cursor = None
) -> DiscrepancyList:
    """The open ones, newest first."""
    async with services.database.audit() as session:
        rows = await list_newest(session, resolved=show == "all", limit=limit + 1, before=decode_cursor(cursor))
    page, next_cursor = cut_page(rows, limit, lambda row: row.id)
    return DiscrepancyList([_show(row) for row in page], next_cursor)


@post(
    "/discrepancies/{discrepancy_id:str}/resolution",
    permission=Permission.WORK_QUEUES,
    tags=[TAG],
    summary="Resolve a discrepancy",
    operation_id="operator_resolve_discrepancy",
    responses=answers.CREATE,
)
async def resolve(
    request: OperatorRequest,
    services: Given,
    discrepancy_id: DiscrepancyPath,
    data: JSONBody[Resolve],
    idempotency_key: IdempotencyKey = None,
) -> Resolution:
    """For good, and only ever in the tenant's favour."""
    found = id_in_path(DISCREPANCY, discrepancy_id, "discrepancy")
    return await perform(request, services, Resolution, partial(_resolve, found, data))


async def _resolve(discrepancy_id: UUID, asked: Resolve, session: AsyncSession) -> Resolution:
    given_back = await resolve_discrepancy(session, discrepancy_id, reason=asked.reason, correct=asked.correct)
    return Resolution(format_nano(given_back))


def _show(row: ListedDiscrepancy) -> DiscrepancyView:
    return DiscrepancyView(
        id=encode_id(DISCREPANCY, row.id),
        request_id=encode_id(REQUEST, row.request_id),
        tenant_id=encode_id(TENANT, row.tenant_id),
        region=row.region,
        gateway=row.gateway,
        kind=row.kind,
        outcome=row.outcome,
        completion_tokens=row.completion_tokens,
        amount=format_nano(row.amount_nano),
        posted_outcome=row.posted_outcome,
        posted_completion_tokens=row.posted_completion_tokens,
        paid=format_nano(row.paid_nano),
        currency=row.currency,
        opened_at=row.opened_at,
        resolved_at=row.resolved_at,
        reason=row.reason,
        corrected=None if row.corrected_nano is None else format_nano(row.corrected_nano),
    )
