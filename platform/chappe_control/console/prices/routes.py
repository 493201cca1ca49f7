"""`/console/prices`: the price book, what was ever published, and one version with what became of it."""

from datetime import datetime
from typing import Any, Final
from uuid import UUID

from litestar import Response, get, post
from litestar.params import FromPath
from litestar.response import Redirect
from msgspec import Struct
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_billing.prices import service
from chappe_billing.prices.models import PriceVersion, PriceWithdrawal
from chappe_billing.prices.queries import find_prices, find_version, find_withdrawal, price_of
from chappe_billing.prices.queries import list_versions as list_of_list
from chappe_catalogue.listings.queries import list_listings, sold_in
from chappe_catalogue.publishers.queries import publisher_names
from chappe_catalogue.regions.queries import list_regions
from chappe_control.console.prices import queries
from chappe_control.console.prices.book import State, arrange, state_of
from chappe_control.console.prices.texts import COMPONENTS, PER_TOKEN, PROBLEMS, REFUSED
from chappe_control.console.prices.wording import maker_text
from chappe_control.console.rendering import ConsoleRequest, console_page
from chappe_control.console.tenants.queries import read_tenant_names
from chappe_control.cursors import cut_page, decode_cursor
from chappe_control.operator_api.prices import notice_of, parse_version_id
from chappe_control.operator_api.references import parse_tenant_id
from chappe_control.origins import origin_of
from chappe_control.pages.flash import flash
from chappe_control.pages.forms import WHOLE_FORM, Form, read_fields
from chappe_control.pages.languages import N_, translate
from chappe_control.permissions import Permission
from chappe_control.state import Given, Services
from chappe_kernel.errors import ChappeError, Conflict, Invalid, NotFound
from chappe_kernel.ids import PRICE_VERSION, PriceVersionId, TenantId, encode_id
from chappe_store.queries import read_now

# The framework's type wants the numbers themselves.
_SEE_OTHER: Final = 303
_SHOWN = 50
_STATUS: Final[dict[type[ChappeError], int]] = {Invalid: 400, Conflict: 409}


class VersionRow(Struct, frozen=True):
    """A line of a history, and when another followed it or it was withdrawn."""

    version: PriceVersion
    listing: str
    withdrawal: PriceWithdrawal | None
    state: State
    ends_at: datetime | None


@get("/prices", permission=Permission.SEE_PRICES)
async def show_prices(request: ConsoleRequest, services: Given) -> Response[bytes]:
    async with services.database.audit() as session:
        now = await read_now(session)
        listings = await list_listings(session)
        publishers = await publisher_names(session)
        sold = await sold_in(session)
        book = arrange(await queries.list_versions(session), now, sold)
        batch_book = arrange(await queries.list_versions(session, for_batches=True), now, sold)
        own = await queries.count_own_prices(session)
        names = await read_tenant_names(session, own.keys())

    def show_id(version_id: UUID) -> str:
        return encode_id(PRICE_VERSION, version_id)

    return console_page(
        request,
        "console/prices.html",
        listings=listings,
        publishers=publishers,
        book=book,
        batch_book=batch_book,
        own=sorted((names[tenant_id], tenant_id, count) for tenant_id, count in own.items()),
        now=now,
        show_id=show_id,
    )


@get("/prices/history", permission=Permission.SEE_PRICES)
async def show_history(request: ConsoleRequest, services: Given) -> Response[bytes]:
    """Everybody's, or a tenant's own; withdrawn ones and reverts among them, the newest first."""
    asked = {name: request.query_params.get(name) or None for name in ("model", "region", "tenant")}
    tenant_id = None if asked["tenant"] is None else parse_tenant_id(asked["tenant"])
    async with services.database.audit() as session:
        now = await read_now(session)
        found = await list_of_list(
            session,
            limit=_SHOWN + 1,
            before=decode_cursor(request.query_params.get("cursor")),
            tenant_id=tenant_id,
            listing=asked["model"],
            region=asked["region"],
        )
        page, next_cursor = cut_page(found, _SHOWN, lambda row: row[0].id)
        rows = await read_rows(session, page, now)
        makers = await queries.read_makers(session, tenant_id, [row.version.id for row in rows])
        names = await read_tenant_names(session, [] if tenant_id is None else [tenant_id])
        listings = [listing.name for listing in await list_listings(session)]
        regions = [region.name for region in await list_regions(session)]
    return console_page(
        request,
        "console/price_history.html",
        now=now,
        rows=rows,
        asked=asked,
        tenant_name=None if tenant_id is None else _name(names, tenant_id),
        next_cursor=next_cursor,
        listings=listings,
        regions=regions,
        maker_text=lambda noun, version_id: maker_text(request, makers, noun, version_id),
    )


@get("/prices/versions/{price_version:str}", permission=Permission.SEE_PRICES)
async def show_version(request: ConsoleRequest, services: Given, price_version: FromPath[str]) -> Response[bytes]:
    return await _version_page(request, services, parse_version_id(price_version))


@post("/prices/versions/{price_version:str}/withdraw", permission=Permission.MANAGE_PRICES)
async def withdraw(request: ConsoleRequest, services: Given, price_version: FromPath[str]) -> Response[Any]:
    """A repeat finds it withdrawn, which is what was wanted."""
    version_id = parse_version_id(price_version)
    typed = await read_fields(request, "reason")
    try:
        async with services.database.operator(origin_of(request)) as session:
            await service.withdraw_price(session, version_id, reason=typed["reason"], notice=notice_of(services))
    except (Invalid, Conflict) as error:
        if error.code != "price_withdrawn":
            return await _version_page(request, services, version_id, error=error, typed=typed)
    return _to_version(request, version_id, N_("The price is withdrawn. What was in force stays in force."))


@post("/prices/versions/{price_version:str}/revert", permission=Permission.MANAGE_PRICES)
async def revert(request: ConsoleRequest, services: Given, price_version: FromPath[str]) -> Response[Any]:
    """A repeat finds it reverted, which is what was wanted."""
    version_id = parse_version_id(price_version)
    typed = await read_fields(request, "reason")
    try:
        async with services.database.operator(origin_of(request)) as session:
            await service.revert_price(session, version_id, reason=typed["reason"])
    except (Invalid, Conflict) as error:
        async with services.database.audit() as session:
            is_reverted = error.code == "price_not_in_force" and await queries.find_revert(session, version_id)
        if not is_reverted:
            return await _version_page(request, services, version_id, error=error, typed=typed)
    return _to_version(
        request, version_id, N_("What was in force before holds again. What was charged too much is being given back.")
    )


async def read_rows(session: AsyncSession, found: Any, now: datetime) -> list[VersionRow]:
    """Of (version, listing's name, withdrawal): with their state at that moment."""
    listed = await find_prices(session, [version.id for version, _, _ in found])
    rows = []
    for version, name, withdrawal in found:
        ends_at = listed[version.id].ends_at
        rows.append(VersionRow(version, name, withdrawal, state_of(version, ends_at, withdrawal, now), ends_at))
    return rows


async def _version_page(
    request: ConsoleRequest,
    services: Services,
    version_id: PriceVersionId,
    *,
    error: ChappeError | None = None,
    typed: dict[str, str] | None = None,
) -> Response[bytes]:
    async with services.database.audit() as session:
        now = await read_now(session)
        version = await find_version(session, version_id)
        if version is None:
            raise NotFound("no such price version")
        listed = (await find_prices(session, [version_id]))[version_id]
        withdrawal = await find_withdrawal(session, version_id)
        makers = await queries.read_makers(session, version.tenant_id, [version_id])
        names = await read_tenant_names(session, [] if version.tenant_id is None else [version.tenant_id])
        reverted_by = await queries.find_revert(session, version_id)
        given_to, given_nano = await queries.sum_corrections(session, version_id)
        corrections = await queries.list_corrections(session, version_id, limit=_SHOWN)
    return console_page(
        request,
        "console/price_version.html",
        status=200 if error is None else _STATUS.get(type(error), 400),
        now=now,
        version=version,
        price=price_of(version),
        listed=listed,
        state=state_of(version, listed.ends_at, withdrawal, now),
        withdrawal=withdrawal,
        tenant_name=_name(names, version.tenant_id),
        reverted_by=reverted_by,
        given_to=given_to,
        given_nano=given_nano,
        corrections=corrections,
        can_still_be_withdrawn=version.starts_at >= now + notice_of(services),
        form=_refused(request, error, typed),
        components=COMPONENTS,
        per_token=PER_TOKEN,
        maker_text=lambda noun, version_id: maker_text(request, makers, noun, version_id),
    )


def _refused(request: ConsoleRequest, error: ChappeError | None, typed: dict[str, str] | None) -> Form:
    if error is None:
        return Form()
    field = "reason" if isinstance(error, Invalid) and error.param == "reason" else WHOLE_FORM
    text = PROBLEMS.get("reason" if field == "reason" else error.code, REFUSED)
    return Form(typed or {}, {field: translate(request, text)})


def _to_version(request: ConsoleRequest, version_id: PriceVersionId, text: str) -> Response[Any]:
    response = Redirect(f"/console/prices/versions/{encode_id(PRICE_VERSION, version_id)}", status_code=_SEE_OTHER)
    flash(response, translate(request, text), "green")
    return response


def _name(names: dict[UUID, str], tenant_id: UUID | TenantId | None) -> str | None:
    """Raises `NotFound` for a tenant that there is not."""
    if tenant_id is None:
        return None
    if tenant_id not in names:
        raise NotFound("no such organisation")
    return names[tenant_id]
