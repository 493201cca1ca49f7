"""The rated-usage feed, batch by batch: how far it is, what is in it, who has it."""

from collections.abc import Mapping
from datetime import datetime
from functools import partial
from http import HTTPStatus
from typing import Annotated

from litestar import Response, get, post
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import JSONBody, PathParameter, QueryParameter
from msgspec import Meta, Struct
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_billing.feed import queries, service
from chappe_billing.feed.manifest import KindTotal, RunningTotal
from chappe_billing.feed.models import RatedUsageBatch
from chappe_billing.feed.service import MAX_REASON_LENGTH, manifest_of
from chappe_control.authentication import OperatorRequest
from chappe_control.idempotency import service as idempotency
from chappe_control.origins import origin_of
from chappe_control.permissions import Permission
from chappe_control.public import answers
from chappe_control.public.parameters import DEFAULT_LIMIT, IdempotencyKey, Limit
from chappe_control.state import Given

_TAG = "Rated usage"
JSON_LINES = "application/x-ndjson"

Sequence = Annotated[int, PathParameter(ge=1, le=2**63 - 1, description="The batch's number.")]
After = Annotated[
    int, QueryParameter(ge=0, le=2**63 - 1, description="The last number that you have; batches come in order.")
]
Digest = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]


class FeedView(Struct, frozen=True):
    last_sequence: Annotated[int, Meta(description="The newest batch; 0 before the first one.")]
    waiting: Annotated[int, Meta(description="How many ledger transactions are in no batch yet.")]
    waiting_since: datetime | None
    acknowledged_until: Annotated[int, Meta(description="All batches up to this one are acknowledged.")]
    gaps: Annotated[
        list[int], Meta(description="Batches that are not acknowledged, although a later one is; the first thousand.")
    ]
    unacknowledged_since: Annotated[
        datetime | None, Meta(description="When the first batch that is not acknowledged was closed.")
    ]


class KindTotalView(Struct, frozen=True):
    kind: str
    currency: str
    records: int
    amount: Annotated[str, Meta(pattern=r"^-?[0-9]+\.[0-9]{9}$")]


class RunningTotalView(Struct, frozen=True):
    currency: str
    records: int
    amount: Annotated[str, Meta(pattern=r"^-?[0-9]+\.[0-9]{9}$")]


class BatchView(Struct, frozen=True):
    feed: str
    format: int
    epoch: str
    sequence: int
    file: str
    sha256: Annotated[Digest, Meta(description="Of the records, as lines of JSON.")]
    size_bytes: int
    records: int
    records_before: Annotated[int, Meta(description="In all batches before this one.")]
    totals: list[KindTotalView]
    running: Annotated[list[RunningTotalView], Meta(description="Of all batches up to this one.")]
    closed_at: datetime
    previous: Annotated[Digest | None, Meta(description="`chain` of the batch before.")]
    chain: Annotated[Digest, Meta(description="Of all the above but itself, as compact JSON with an empty `chain`.")]
    acknowledged_at: datetime | None


class BatchList(Struct, frozen=True):
    items: list[BatchView]


class Acknowledge(Struct, frozen=True, forbid_unknown_fields=True):
    chain: Annotated[Digest, Meta(description="`chain` of the batch that you have.")]


class RequestAgain(Struct, frozen=True, forbid_unknown_fields=True):
    reason: Annotated[str, Meta(min_length=1, max_length=MAX_REASON_LENGTH, description="Kept in the audit log.")]


@get(
    "/feed",
    permission=Permission.SEE_RATED_USAGE,
    tags=[_TAG],
    summary="Read the feed's state",
    operation_id="operator_get_feed",
    responses=answers.READ,
)
async def read_feed(services: Given) -> FeedView:
    """How far the rated-usage feed is, how far whoever consumes it, and what they lack."""
    async with services.database.audit() as session:
        state = await service.read_state(session)
    return FeedView(
        last_sequence=state.last.sequence if state.last else 0,
        waiting=state.waiting,
        waiting_since=state.waiting_since,
        acknowledged_until=state.acknowledged_until,
        gaps=list(state.gaps),
        unacknowledged_since=state.unacknowledged_since,
    )


@get(
    "/feed/batches",
    permission=Permission.SEE_RATED_USAGE,
    tags=[_TAG],
    summary="List batches",
    operation_id="operator_list_batches",
    responses=answers.LIST,
)
async def list_batches(services: Given, limit: Limit = DEFAULT_LIMIT, after: After = 0) -> BatchList:
    """In order, from the one after `after` on; fewer than `limit` when these are all. Numbers have no gaps."""
    async with services.database.audit() as session:
        batches = await queries.list_batches(session, after=after, limit=limit)
        acknowledged = await queries.list_acknowledged(session, [batch.sequence for batch in batches])
    return BatchList([_show(batch, acknowledged) for batch in batches])


@get(
    "/feed/batches/{sequence:int}",
    permission=Permission.SEE_RATED_USAGE,
    tags=[_TAG],
    summary="Read a batch's manifest",
    operation_id="operator_get_batch",
    responses=answers.READ_ONE,
)
async def read_batch(services: Given, sequence: Sequence) -> BatchView:
    """Its sums and digests, and whether it is acknowledged."""
    async with services.database.audit() as session:
        return await _view(session, sequence)


@get(
    "/feed/batches/{sequence:int}/records",
    permission=Permission.SEE_RATED_USAGE,
    tags=[_TAG],
    summary="Read a batch's records",
    operation_id="operator_get_batch_records",
    responses={
        **answers.REMOVE,
        HTTPStatus.OK: ResponseSpec(
            data_container=bytes,
            media_type=JSON_LINES,
            description="One JSON object a line, byte for byte what the file has.",
            generate_examples=False,
        ),
    },
)
async def read_records(services: Given, sequence: Sequence) -> Response[bytes]:
    """As often as you like. A batch whose usage was dropped with its month answers 409 `batch_archived`: its file is
    all that is left."""
    async with services.database.audit() as session:
        batch = await service.get_batch(session, sequence)
        # All of it before the first byte goes out: what does not have the batch's digest never leaves. A batch is some
        # megabytes, and no reader, however slow, holds a transaction open.
        content = b"".join([piece async for piece in service.read_content(session, batch)])
    return Response(content, media_type=JSON_LINES)


@post(
    "/feed/batches/{sequence:int}/acknowledgement",
    permission=Permission.TAKE_RATED_USAGE,
    tags=[_TAG],
    summary="Acknowledge a batch",
    operation_id="operator_acknowledge_batch",
    responses=answers.CREATE,
    status_code=HTTPStatus.OK,
)
async def acknowledge_batch(
    request: OperatorRequest,
    services: Given,
    sequence: Sequence,
    data: JSONBody[Acknowledge],
    idempotency_key: IdempotencyKey = None,
) -> BatchView:
    """You have it, and its sums agree with yours. 409 `batch_differs` when what you have is not this batch: it was
    altered on its way, or is of an epoch that ended with a restore. A repeat changes nothing."""
    call = await idempotency.call_of(request)
    async with services.database.operator(origin_of(request)) as session:
        work = partial(_acknowledge, session, sequence, data)
        return await idempotency.once(session, request.auth.user_id, call, BatchView, work)


@post(
    "/feed/batches/{sequence:int}/request",
    permission=Permission.TAKE_RATED_USAGE,
    tags=[_TAG],
    summary="Ask for a batch again",
    operation_id="operator_request_batch",
    responses=answers.CREATE,
    status_code=HTTPStatus.OK,
)
async def request_batch(
    request: OperatorRequest,
    services: Given,
    sequence: Sequence,
    data: JSONBody[RequestAgain],
    idempotency_key: IdempotencyKey = None,
) -> BatchView:
    """Its file is written again with the next delivery, the same to the byte."""
    call = await idempotency.call_of(request)
    async with services.database.operator(origin_of(request)) as session:
        work = partial(_request, session, sequence, data)
        return await idempotency.once(session, request.auth.user_id, call, BatchView, work)


async def _acknowledge(session: AsyncSession, sequence: int, asked: Acknowledge) -> BatchView:
    await service.acknowledge(session, sequence, chain=asked.chain)
    return await _view(session, sequence)


async def _request(session: AsyncSession, sequence: int, asked: RequestAgain) -> BatchView:
    await service.request_again(session, sequence, reason=asked.reason)
    return await _view(session, sequence)


async def _view(session: AsyncSession, sequence: int) -> BatchView:
    batch = await service.get_batch(session, sequence)
    return _show(batch, await queries.list_acknowledged(session, [sequence]))


def _show(batch: RatedUsageBatch, acknowledged: Mapping[int, datetime]) -> BatchView:
    manifest = manifest_of(batch)
    return BatchView(
        feed=manifest.feed,
        format=manifest.format,
        epoch=manifest.epoch,
        sequence=manifest.sequence,
        file=manifest.file,
        sha256=manifest.sha256,
        size_bytes=manifest.size_bytes,
        records=manifest.records,
        records_before=manifest.records_before,
        totals=[_show_total(total) for total in manifest.totals],
        running=[_show_running(total) for total in manifest.running],
        closed_at=manifest.closed_at,
        previous=manifest.previous,
        chain=manifest.chain,
        acknowledged_at=acknowledged.get(batch.sequence),
    )


def _show_total(total: KindTotal) -> KindTotalView:
    return KindTotalView(total.kind, total.currency, total.records, total.amount)


def _show_running(total: RunningTotal) -> RunningTotalView:
    return RunningTotalView(total.currency, total.records, total.amount)
