"""Drafts of prices: written, compared, simulated, published."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from functools import partial
from http import HTTPStatus
from typing import Annotated

from litestar import Response, delete, get, post, put
from litestar.params import JSONBody, PathParameter
from msgspec import Struct
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_billing.price_drafts import queries, service
from chappe_billing.price_drafts.comparing import DraftLine
from chappe_billing.price_drafts.schemas import (
    CreateDraft,
    DraftDifferences,
    DraftView,
    LineTerms,
    PublishDraft,
    PublishedDraft,
    SimulateDraft,
    SimulationView,
    WriteDraft,
    show_differences,
    show_draft,
    show_simulation,
)
from chappe_billing.price_drafts.service import Draft
from chappe_billing.price_simulations.service import simulate_for_publication
from chappe_billing.prices.schemas import read_price
from chappe_catalogue.listings.queries import list_listings
from chappe_catalogue.regions.queries import list_regions
from chappe_control.authentication import OperatorRequest
from chappe_control.cursors import cut_page, decode_cursor
from chappe_control.etags import ETAG_HEADER, IfMatch, check_match, with_etag
from chappe_control.idempotency import service as idempotency
from chappe_control.operator_api.prices import notice_of
from chappe_control.operator_api.references import parse_tenant_id
from chappe_control.origins import origin_of
from chappe_control.permissions import Permission
from chappe_control.public import answers
from chappe_control.public.parameters import DEFAULT_LIMIT, Cursor, IdempotencyKey, Limit
from chappe_control.state import Given
from chappe_kernel.errors import Invalid, NotFound
from chappe_kernel.ids import PRICE_DRAFT, PRICE_VERSION, PriceDraftId, decode_id, encode_id
from chappe_store.queries import read_now
from chappe_store.session import TenantScope
from chappe_tenants.naming import clean_name
from chappe_tenants.organisations.service import get_organisation

_TAG = "Price drafts"

DraftPath = Annotated[str, PathParameter(max_length=100, description="The draft's id, `prd_…`.")]


class DraftList(Struct, frozen=True):
    items: list[DraftView]
    next_cursor: str | None


@get(
    "/price-drafts",
    permission=Permission.SEE_PRICES,
    tags=[_TAG],
    summary="List price drafts",
    operation_id="operator_list_price_drafts",
    responses=answers.LIST,
)
async def list_drafts(services: Given, limit: Limit = DEFAULT_LIMIT, cursor: Cursor = None) -> DraftList:
    """Newest first, published and discarded ones too."""
    async with services.database.audit() as session:
        rows = await queries.list_drafts(session, limit=limit + 1, before=decode_cursor(cursor))
        page, next_cursor = cut_page(rows, limit, lambda row: row.id)
        drafts = [Draft(row, await queries.read_lines(session, row.id)) for row in page]
    return DraftList([show_draft(draft) for draft in drafts], next_cursor)


@post(
    "/price-drafts",
    permission=Permission.MANAGE_PRICES,
    tags=[_TAG],
    summary="Create a price draft",
    operation_id="operator_create_price_draft",
    responses=answers.CREATE,
    response_headers=[ETAG_HEADER],
    status_code=HTTPStatus.CREATED,
)
async def create_draft(
    request: OperatorRequest, services: Given, data: JSONBody[CreateDraft], idempotency_key: IdempotencyKey = None
) -> Response[DraftView]:
    """Nobody pays it yet. A repeat with the same `Idempotency-Key` and body gets the same answer."""
    call = await idempotency.call_of(request)
    async with services.database.operator(origin_of(request)) as session:
        work = partial(_create, session, data)
        return with_etag(await idempotency.once(session, request.auth.user_id, call, DraftView, work))


@get(
    "/price-drafts/{draft_id:str}",
    permission=Permission.SEE_PRICES,
    tags=[_TAG],
    summary="Read a price draft",
    operation_id="operator_get_price_draft",
    responses=answers.READ_ONE,
    response_headers=[ETAG_HEADER],
)
async def read_draft(services: Given, draft_id: DraftPath) -> Response[DraftView]:
    """With the tag that changes of it take."""
    async with services.database.audit() as session:
        return with_etag(show_draft(await service.get_draft(session, _parse_id(draft_id))))


@put(
    "/price-drafts/{draft_id:str}",
    permission=Permission.MANAGE_PRICES,
    tags=[_TAG],
    summary="Change a price draft",
    operation_id="operator_change_price_draft",
    responses=answers.CHANGE,
    response_headers=[ETAG_HEADER],
)
async def change_draft(
    request: OperatorRequest,
    services: Given,
    draft_id: DraftPath,
    data: JSONBody[WriteDraft],
    if_match: IfMatch = None,
) -> Response[DraftView]:
    """The body is all that it says from now on."""
    async with services.database.operator(origin_of(request)) as session:
        draft = await _matching(request, session, draft_id)
        title = clean_name(data.title, param="title")
        lines = await _lines(session, data.lines)
        return with_etag(show_draft(await service.change_draft(session, draft, title=title, lines=lines)))


@delete(
    "/price-drafts/{draft_id:str}",
    permission=Permission.MANAGE_PRICES,
    tags=[_TAG],
    summary="Discard a price draft",
    operation_id="operator_discard_price_draft",
    responses=answers.CHANGE,
)
async def discard_draft(
    request: OperatorRequest, services: Given, draft_id: DraftPath, if_match: IfMatch = None
) -> None:
    """It can be read, and never published."""
    async with services.database.operator(origin_of(request)) as session:
        await service.discard_draft(session, await _matching(request, session, draft_id))


@get(
    "/price-drafts/{draft_id:str}/differences",
    permission=Permission.SEE_PRICES,
    tags=[_TAG],
    summary="Compare a price draft with what is in force",
    operation_id="operator_compare_price_draft",
    responses=answers.READ_ONE,
)
async def compare_draft(services: Given, draft_id: DraftPath) -> DraftDifferences:
    """Component by component."""
    async with services.database.audit() as session:
        draft = await service.get_draft(session, _parse_id(draft_id))
        return show_differences(await service.differences(session, draft, await read_now(session)))


@post(
    "/price-drafts/{draft_id:str}/simulations",
    permission=Permission.MANAGE_PRICES,
    tags=[_TAG],
    summary="Simulate a price draft",
    operation_id="operator_simulate_price_draft",
    responses=answers.CREATE,
    status_code=HTTPStatus.OK,
)
async def simulate_draft(
    request: OperatorRequest,
    services: Given,
    draft_id: DraftPath,
    data: JSONBody[SimulateDraft],
    idempotency_key: IdempotencyKey = None,
) -> SimulationView:
    """What last month would have cost under it, exactly. A draft is published as it was simulated, or not at all. A
    repeat with the same `Idempotency-Key` and body gets the same answer."""
    call = await idempotency.call_of(request)
    async with services.database.operator(origin_of(request)) as session:
        work = partial(_simulate, session, draft_id, data)
        return await idempotency.once(session, request.auth.user_id, call, SimulationView, work)


@post(
    "/price-drafts/{draft_id:str}/publish",
    permission=Permission.MANAGE_PRICES,
    tags=[_TAG],
    summary="Publish a price draft",
    operation_id="operator_publish_price_draft",
    responses=answers.CREATE,
    status_code=HTTPStatus.OK,
)
async def publish_draft(
    request: OperatorRequest,
    services: Given,
    draft_id: DraftPath,
    data: JSONBody[PublishDraft],
    idempotency_key: IdempotencyKey = None,
) -> PublishedDraft:
    """As it was simulated: all of its lines take effect at one moment, once every gateway knows of them. A repeat with
    the same `Idempotency-Key` and body gets the same answer."""
    call = await idempotency.call_of(request)
    async with services.database.operator(origin_of(request)) as session:
        work = partial(_publish, session, draft_id, data, notice_of(services))
        return await idempotency.once(session, request.auth.user_id, call, PublishedDraft, work)


async def _create(session: AsyncSession, asked: CreateDraft) -> DraftView:
    tenant_id = None if asked.tenant_id is None else parse_tenant_id(asked.tenant_id)
    if tenant_id is not None:
        await get_organisation(session, TenantScope(tenant_id))
    lines = await _lines(session, asked.lines)
    title = clean_name(asked.title, param="title")
    return show_draft(await service.create_draft(session, title=title, tenant_id=tenant_id, lines=lines))


async def _simulate(session: AsyncSession, draft_id: str, asked: SimulateDraft) -> SimulationView:
    month = None if asked.month is None else _first_day(asked.month)
    draft = await service.get_draft(session, _parse_id(draft_id), lock=True)
    return show_simulation(draft, await simulate_for_publication(session, draft, month))


async def _publish(session: AsyncSession, draft_id: str, asked: PublishDraft, notice: timedelta) -> PublishedDraft:
    draft = await service.get_draft(session, _parse_id(draft_id), lock=True)
    ids = await service.publish_draft(session, draft, starts_at=asked.starts_at, notice=notice)
    return PublishedDraft([encode_id(PRICE_VERSION, version_id) for version_id in ids])


async def _matching(request: OperatorRequest, session: AsyncSession, draft_id: str) -> Draft:
    """Locked, and as the caller has seen it."""
    draft = await service.get_draft(session, _parse_id(draft_id), lock=True)
    check_match(request, show_draft(draft))
    return draft


async def _lines(session: AsyncSession, asked: Sequence[LineTerms]) -> list[DraftLine]:
    listings = {listing.name: listing for listing in await list_listings(session)}
    regions = {region.name for region in await list_regions(session)}
    lines = []
    for line in asked:
        listing = listings.get(line.model)
        if listing is None:
            raise Invalid("a line names a model that there is not", code="model_not_found", param="lines")
        if line.region not in regions:
            raise Invalid("a line names a region that there is not", code="region_not_found", param="lines")
        if (line.price is None) == (line.discount_basis_points is None):
            raise Invalid("a line has either a price or a discount", code="invalid_line", param="lines")
        price = None if line.price is None else read_price(line.price)
        lines.append(
            DraftLine(listing.id, listing.name, line.region, listing.currency, price, line.discount_basis_points)
        )
    return lines


def _first_day(month: str) -> date:
    return datetime.strptime(month, "%Y-%m").replace(tzinfo=UTC).date()


def _parse_id(text: str) -> PriceDraftId:
    try:
        return PriceDraftId(decode_id(PRICE_DRAFT, text))
    except Invalid:
        raise NotFound("no such price draft") from None
