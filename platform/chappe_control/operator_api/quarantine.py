"""Usage that could not be posted, as a queue for the operator."""

import binascii
from datetime import datetime
from functools import partial
from typing import Annotated, Any, Literal
from uuid import UUID

from litestar import get, post
from litestar.params import JSONBody, PathParameter
from msgspec import Meta, Struct
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_billing.quarantine import service
from chappe_billing.quarantine.queries import Quarantined, list_quarantined
from chappe_billing.quarantine.service import Correction
from chappe_control.authentication import OperatorRequest
from chappe_control.cursors import cut_page, decode_cursor
from chappe_control.operator_api.performing import perform
from chappe_control.operator_api.queues import TAG, KeptReason, Show
from chappe_control.permissions import Permission
from chappe_control.public import answers
from chappe_control.public.parameters import DEFAULT_LIMIT, Amount, Cursor, IdempotencyKey, Limit
from chappe_control.public.references import MAX_ID_LENGTH, id_in_body, id_in_path
from chappe_control.public.transactions import TransactionId
from chappe_control.state import Given
from chappe_kernel.errors import Invalid, NotFound
from chappe_kernel.ids import LEDGER_TRANSACTION, PRICE_VERSION, REQUEST, TENANT, encode_id
from chappe_kernel.money import format_nano
from chappe_kernel.rating import Counts, Outcome
from chappe_store.session import Role, acting_as

_MAX_SHOWN = 2**53

RequestPath = Annotated[str, PathParameter(max_length=MAX_ID_LENGTH, description="The request's id, `req_…`.")]
DigestPath = Annotated[
    str, PathParameter(max_length=64, description="Which version of the request's event, as the list says it.")
]
Tokens = Annotated[int, Meta(ge=0, le=10**9)]


class QuarantinedView(Struct, frozen=True):
    """An event as its gateway sent it. Nothing in it is verified, its tenant neither."""

    request_id: Annotated[str, Meta(pattern="^req_")]
    digest: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
    code: Annotated[str, Meta(description="Why it was not posted.")]
    region: str
    gateway: str
    tenant_id: Annotated[str, Meta(pattern="^ten_")]
    model: str
    outcome: str
    prompt_tokens: Annotated[int | None, Meta(description="Null for what no count can be.")]
    cached_tokens: int | None
    completion_tokens: int | None
    amount: Annotated[Amount | None, Meta(description="What it asks for; null for what no amount can be.")]
    received_at: datetime
    decision: str | None
    reason: str | None
    posted: Annotated[Amount | None, Meta(description="What was posted, or written off.")]
    transaction_id: TransactionId | None
    decided_at: datetime | None


class QuarantineList(Struct, frozen=True):
    items: list[QuarantinedView]
    next_cursor: str | None


class CorrectedCounts(Struct, frozen=True, forbid_unknown_fields=True):
    prompt_tokens: Tokens
    cached_tokens: Tokens
    completion_tokens: Tokens


class Decide(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`accept` posts the event as it came. `correct` posts it as it should have been, never for more than it asked:
    what is left out stays. `write_off` gives it up: it is booked as the operator's loss, and never posted."""

    decision: Literal["accept", "correct", "write_off"]
    reason: KeptReason
    price_version: Annotated[str, Meta(pattern="^prc_", max_length=40)] | None = None
    outcome: Outcome | None = None
    counts: CorrectedCounts | None = None


class DecidedView(Struct, frozen=True):
    decision: str
    amount: Annotated[Amount, Meta(description="What was posted, or written off.")]
    transaction_id: TransactionId | None


@get(
    "/quarantine",
    permission=Permission.SEE_QUEUES,
    tags=[TAG],
    summary="List quarantined usage",
    operation_id="operator_list_quarantine",
    responses=answers.LIST,
)
async def list_all(
    services: Given, show: Show = "open", limit: Limit = DEFAULT_LIMIT, cursor: Cursor = None
) -> QuarantineList:
    """What is undecided, newest request first."""
    async with services.database.audit() as session:
        rows = await list_quarantined(session, decided=show == "all", limit=limit + 1, before=decode_cursor(cursor))
    page, next_cursor = cut_page(rows, limit, lambda row: row.request_id)
    return QuarantineList([_show(row) for row in page], next_cursor)


@post(
    "/quarantine/{request_id:str}/{digest:str}/decision",
    permission=Permission.WORK_QUEUES,
    tags=[TAG],
    summary="Decide about quarantined usage",
    operation_id="operator_decide_quarantine",
    responses=answers.CREATE,
)
async def decide(  # noqa: PLR0917 -- the framework passes them by name
    request: OperatorRequest,
    services: Given,
    request_id: RequestPath,
    digest: DigestPath,
    data: JSONBody[Decide],
    idempotency_key: IdempotencyKey = None,
) -> DecidedView:
    """For good: to decide twice is refused."""
    found = id_in_path(REQUEST, request_id, "event in quarantine")
    work = _work(found, read_digest(digest), data)

    async def decide_as_region(session: AsyncSession) -> DecidedView:
        # Usage is posted by those who post it always: in a region's role. It is the call's own transaction, so the
        # audit log names this person, and the decision, the posting and the kept answer are there together or not at
        # all, whatever ends in between.
        async with acting_as(session, Role.INGEST):
            decided = await work(session)
        return DecidedView(decided.decision, format_nano(decided.amount_nano), _transaction(decided.transaction_id))

    return await perform(request, services, DecidedView, decide_as_region)


def _work(request_id: UUID, digest: bytes, asked: Decide) -> Any:
    correction = _correction(asked)
    if asked.decision == "correct":
        return partial(
            service.correct, request_id=request_id, digest=digest, correction=correction, reason=asked.reason
        )
    if correction != Correction():
        raise Invalid("only a correction says what it should have been", param="decision")
    work = service.accept if asked.decision == "accept" else service.write_off
    return partial(work, request_id=request_id, digest=digest, reason=asked.reason)


def _correction(asked: Decide) -> Correction:
    counts = asked.counts
    if counts is not None and counts.cached_tokens > counts.prompt_tokens:
        raise Invalid("no more of a prompt is cached than it has", param="counts")
    return Correction(
        price_version=None
        if asked.price_version is None
        else id_in_body(PRICE_VERSION, asked.price_version, "price_version"),
        outcome=asked.outcome,
        counts=None if counts is None else Counts(counts.prompt_tokens, counts.cached_tokens, counts.completion_tokens),
    )


def read_digest(text: str) -> bytes:
    """Raises `NotFound`: what is no digest is no event's."""
    try:
        return binascii.unhexlify(text)
    except (binascii.Error, ValueError):
        raise NotFound("there is no such event in quarantine") from None


def _show(row: Quarantined) -> QuarantinedView:
    event, counts = row.event, row.event["counts"]
    amount_nano = _possible(event["amount_nano"])
    return QuarantinedView(
        request_id=encode_id(REQUEST, row.request_id),
        digest=row.digest.hex(),
        code=row.code,
        region=row.region,
        gateway=row.gateway,
        tenant_id=encode_id(TENANT, row.tenant_id),
        model=event["listing"],
        outcome=event["outcome"],
        prompt_tokens=_possible(counts["prompt_tokens"]),
        cached_tokens=_possible(counts["cached_tokens"]),
        completion_tokens=_possible(counts["completion_tokens"]),
        amount=None if amount_nano is None else format_nano(amount_nano),
        received_at=row.received_at,
        decision=row.decision,
        reason=row.reason,
        posted=None if row.amount_nano is None else format_nano(row.amount_nano),
        transaction_id=_transaction(row.transaction_id),
        decided_at=row.decided_at,
    )


def _possible(number: int) -> int | None:
    """A gateway may have sent any number, and JSON readers take 53 bits."""
    return number if abs(number) <= _MAX_SHOWN else None


def _transaction(transaction_id: UUID | None) -> str | None:
    return None if transaction_id is None else encode_id(LEDGER_TRANSACTION, transaction_id)
