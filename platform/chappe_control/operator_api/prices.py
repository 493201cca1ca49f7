"""The price book: what is and was published, taken back before it starts, and ended when it was wrong."""

from datetime import timedelta
from functools import partial
from http import HTTPStatus
from typing import Annotated

from litestar import get, post
from litestar.params import JSONBody, PathParameter, QueryParameter
from msgspec import Struct
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_billing.prices import queries, service
from chappe_billing.prices.models import PriceVersion
from chappe_billing.prices.schemas import GiveReason, VersionView, show_version
from chappe_catalogue.listings.queries import find_name
from chappe_control.authentication import OperatorRequest
from chappe_control.cursors import cut_page, decode_cursor
from chappe_control.idempotency import service as idempotency
from chappe_control.operator_api.references import parse_tenant_id
from chappe_control.origins import origin_of
from chappe_control.permissions import Permission
from chappe_control.public import answers
from chappe_control.public.parameters import DEFAULT_LIMIT, Cursor, IdempotencyKey, Limit
from chappe_control.state import Given, Services
from chappe_kernel.errors import Invalid, NotFound
from chappe_kernel.ids import PRICE_VERSION, PriceVersionId, decode_id

_TAG = "Prices"

VersionPath = Annotated[str, PathParameter(max_length=100, description="The price version's id, `prc_…`.")]
OfTenant = Annotated[
    str | None,
    QueryParameter(name="tenant_id", max_length=100, description="This tenant's own prices, instead of everybody's."),
]
OfModel = Annotated[str | None, QueryParameter(name="model", max_length=100, description="Only this model's.")]
InRegion = Annotated[str | None, QueryParameter(name="region", max_length=100, description="Only in this region.")]


class VersionList(Struct, frozen=True):
    items: list[VersionView]
    next_cursor: str | None


@get(
    "/prices",
    permission=Permission.SEE_PRICES,
    tags=[_TAG],
    summary="List published prices",
    operation_id="operator_list_prices",
    responses=answers.READ_ONE,
)
async def list_prices(
    services: Given,
    model: OfModel = None,
    region: InRegion = None,
    tenant: OfTenant = None,
    *,
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
) -> VersionList:
    """Everybody's, or a tenant's own; past, in force, scheduled and withdrawn ones, the newest first."""
    tenant_id = None if tenant is None else parse_tenant_id(tenant)
    before = decode_cursor(cursor)
    async with services.database.audit() as session:
        rows = await queries.list_versions(
            session, limit=limit + 1, before=before, tenant_id=tenant_id, listing=model, region=region
        )
    page, next_cursor = cut_page(rows, limit, lambda row: row[0].id)
    return VersionList([show_version(*row) for row in page], next_cursor)


@get(
    "/prices/{price_version:str}",
    permission=Permission.SEE_PRICES,
    tags=[_TAG],
    summary="Read a published price",
    operation_id="operator_get_price",
    responses=answers.READ_ONE,
)
async def read_price(services: Given, price_version: VersionPath) -> VersionView:
    """With what became of it."""
    async with services.database.audit() as session:
        return await _view(session, parse_version_id(price_version))


@post(
    "/prices/{price_version:str}/withdraw",
    permission=Permission.MANAGE_PRICES,
    tags=[_TAG],
    summary="Withdraw a scheduled price",
    operation_id="operator_withdraw_price",
    responses=answers.CREATE,
    status_code=HTTPStatus.OK,
)
async def withdraw_price(
    request: OperatorRequest,
    services: Given,
    price_version: VersionPath,
    data: JSONBody[GiveReason],
    idempotency_key: IdempotencyKey = None,
) -> VersionView:
    """As long as every gateway hears of it in time; discounts on it follow. What is in force by then is reverted. A
    repeat with the same `Idempotency-Key` gets the same answer."""
    version_id = parse_version_id(price_version)
    call = await idempotency.call_of(request)
    async with services.database.operator(origin_of(request)) as session:
        work = partial(_withdraw, session, version_id, data.reason, notice_of(services))
        return await idempotency.once(session, request.auth.user_id, call, VersionView, work)


@post(
    "/prices/{price_version:str}/revert",
    permission=Permission.MANAGE_PRICES,
    tags=[_TAG],
    summary="Revert a wrong price",
    operation_id="operator_revert_price",
    responses=answers.CREATE,
    status_code=HTTPStatus.CREATED,
)
async def revert_price(
    request: OperatorRequest,
    services: Given,
    price_version: VersionPath,
    data: JSONBody[GiveReason],
    idempotency_key: IdempotencyKey = None,
) -> VersionView:
    """What was in force before it is again, at once, under a version that says why. What was charged too much is given
    back within a minute, and so is what comes in later. A repeat with the same `Idempotency-Key` gets the same
    answer."""
    version_id = parse_version_id(price_version)
    call = await idempotency.call_of(request)
    async with services.database.operator(origin_of(request)) as session:
        work = partial(_revert, session, version_id, data.reason)
        return await idempotency.once(session, request.auth.user_id, call, VersionView, work)


def notice_of(services: Services) -> timedelta:
    """How long it takes until no gateway serves that has not heard of a price."""
    return timedelta(seconds=services.settings.snapshot_max_age_s)


def parse_version_id(text: str) -> PriceVersionId:
    """Raises `NotFound` for what is no id."""
    try:
        return PriceVersionId(decode_id(PRICE_VERSION, text))
    except Invalid:
        raise NotFound("no such price version") from None


async def _withdraw(session: AsyncSession, version_id: PriceVersionId, reason: str, notice: timedelta) -> VersionView:
    await service.withdraw_price(session, version_id, reason=reason, notice=notice)
    return await _view(session, version_id)


async def _revert(session: AsyncSession, version_id: PriceVersionId, reason: str) -> VersionView:
    version: PriceVersion = await service.revert_price(session, version_id, reason=reason)
    await session.refresh(version)
    return await _view(session, PriceVersionId(version.id))


async def _view(session: AsyncSession, version_id: PriceVersionId) -> VersionView:
    version = await queries.find_version(session, version_id)
    if version is None:
        raise NotFound("no such price version")
    name = await find_name(session, version.listing_id)
    return show_version(version, name, await queries.find_withdrawal(session, version_id))
