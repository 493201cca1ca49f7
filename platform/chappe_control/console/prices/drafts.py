"""`/console/prices/drafts`: prices that nobody pays yet, compared, simulated and published."""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final

from litestar import Response, get, post
from litestar.params import FromPath
from litestar.response import Redirect
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_billing.price_drafts import queries as draft_queries
from chappe_billing.price_drafts import service
from chappe_billing.price_drafts.comparing import DraftLine
from chappe_billing.price_drafts.schemas import DraftView, show_draft
from chappe_billing.price_drafts.service import Draft
from chappe_billing.price_simulations.service import simulate_for_publication
from chappe_catalogue.listings.models import Listing
from chappe_catalogue.listings.queries import list_listings
from chappe_catalogue.regions.queries import list_regions
from chappe_control.console.prices.draft_page import draft_id_of, draft_page
from chappe_control.console.prices.entry import AMOUNTS, read_moment, read_month, read_terms, with_line, without_line
from chappe_control.console.prices.once import ONCE, call_of_form, new_token
from chappe_control.console.prices.texts import PROBLEMS, REFUSED
from chappe_control.console.rendering import ConsoleRequest, console_page
from chappe_control.console.tenants.queries import read_tenant_names
from chappe_control.cursors import cut_page, decode_cursor
from chappe_control.idempotency import service as idempotency
from chappe_control.operator_api.prices import notice_of
from chappe_control.origins import origin_of
from chappe_control.pages.flash import flash
from chappe_control.pages.forms import WHOLE_FORM, Form, read_fields
from chappe_control.pages.languages import N_, translate
from chappe_control.permissions import Permission
from chappe_control.state import Given, Services
from chappe_kernel.errors import Conflict, Invalid, NotFound
from chappe_kernel.ids import TENANT, TenantId, decode_id
from chappe_store.queries import read_now
from chappe_store.session import TenantScope
from chappe_tenants.naming import clean_name
from chappe_tenants.organisations.service import get_organisation

# The framework's type wants the numbers themselves.
_SEE_OTHER: Final = 303
_BAD_REQUEST = 400
_CONFLICT = 409
_SHOWN = 50
_PLACE = ("model", "region")


@get("/prices/drafts", permission=Permission.SEE_PRICES)
async def show_drafts(request: ConsoleRequest, services: Given) -> Response[bytes]:
    """The newest first, those that were published or discarded among them."""
    before = decode_cursor(request.query_params.get("cursor"))
    async with services.database.audit() as session:
        now = await read_now(session)
        found = await draft_queries.list_drafts(session, limit=_SHOWN + 1, before=before)
        page, next_cursor = cut_page(found, _SHOWN, lambda row: row.id)
        drafts = [Draft(row, await draft_queries.read_lines(session, row.id)) for row in page]
        tenant_ids = {draft.row.tenant_id for draft in drafts if draft.row.tenant_id is not None}
        names = await read_tenant_names(session, tenant_ids)
    return console_page(
        request, "console/price_drafts.html", now=now, drafts=drafts, names=names, next_cursor=next_cursor
    )


@get("/prices/drafts/new", permission=Permission.MANAGE_PRICES)
async def show_new_draft(request: ConsoleRequest, services: Given) -> Response[bytes]:
    """`?tenant=` says whose own prices it is about."""
    return await _new_page(request, services, Form({"tenant": request.query_params.get("tenant", "")[:100]}))


@post("/prices/drafts/new", permission=Permission.MANAGE_PRICES)
async def make_draft(request: ConsoleRequest, services: Given) -> Response[Any]:
    """Sent twice, it makes one draft."""
    typed = await read_fields(request, "title", "tenant", ONCE)
    call = call_of_form(request, typed)
    try:
        async with services.database.operator(origin_of(request)) as session:
            work = partial(_create, session, typed)
            made = await idempotency.once(session, request.auth.user_id, call, DraftView, work)
    except (Invalid, NotFound) as error:
        field = "title" if isinstance(error, Invalid) and error.param == "title" else "tenant"
        form = Form(typed, {field: translate(request, PROBLEMS[field])})
        return await _new_page(request, services, form, status=_BAD_REQUEST)
    return Redirect(f"/console/prices/drafts/{made.id}", status_code=_SEE_OTHER)


@get("/prices/drafts/{draft_id:str}", permission=Permission.SEE_PRICES)
async def show_one_draft(request: ConsoleRequest, services: Given, draft_id: FromPath[str]) -> Response[bytes]:
    """`?model=` and `?region=` open the form of a line; `?month=` is the simulated one."""
    return await draft_page(request, services, draft_id)


@post("/prices/drafts/{draft_id:str}/lines", permission=Permission.MANAGE_PRICES)
async def put_line(request: ConsoleRequest, services: Given, draft_id: FromPath[str]) -> Response[Any]:
    """In place of what the draft says of that model there: sent twice, it changes nothing more."""
    typed = await read_fields(request, *_PLACE, *AMOUNTS, "discount")

    async def work(session: AsyncSession, draft: Draft) -> None:
        listing = await _listing(session, typed)
        terms = read_terms(typed, of_tenant=draft.row.tenant_id is not None)
        if isinstance(terms, dict):
            raise _Refused(terms)
        line = DraftLine(
            listing.id, listing.name, typed["region"], listing.currency, terms.price, terms.discount_basis_points
        )
        changed = await service.change_draft(session, draft, title=draft.row.title, lines=with_line(draft.lines, line))
        if line.price is None:
            # Without a list price there is nothing to compare a discount with, or to simulate it from.
            await service.differences(session, Draft(changed.row, [line]), await read_now(session))

    return await _change(request, services, draft_id, work, N_("The draft is changed."), typed=typed)


@post("/prices/drafts/{draft_id:str}/lines/remove", permission=Permission.MANAGE_PRICES)
async def remove_line(request: ConsoleRequest, services: Given, draft_id: FromPath[str]) -> Response[Any]:
    typed = await read_fields(request, *_PLACE)

    async def work(session: AsyncSession, draft: Draft) -> None:
        listing = await _listing(session, typed)
        lines = without_line(draft.lines, listing.id, typed["region"])
        await service.change_draft(session, draft, title=draft.row.title, lines=lines)

    return await _change(request, services, draft_id, work, N_("The draft is changed."))


@post("/prices/drafts/{draft_id:str}/simulate", permission=Permission.MANAGE_PRICES)
async def simulate_draft(request: ConsoleRequest, services: Given, draft_id: FromPath[str]) -> Response[Any]:
    """The page that follows shows the figures: it reckons them again, and can be loaded again."""
    typed = await read_fields(request, "month")

    async def work(session: AsyncSession, draft: Draft) -> None:
        if not draft.lines:
            raise Conflict("there is nothing to simulate", code="empty_draft")
        month = read_month(typed["month"]) if typed["month"] else None
        await simulate_for_publication(session, draft, month)

    to = f"?month={typed['month']}" if typed["month"] else ""
    return await _change(request, services, draft_id, work, N_("The draft is simulated as it is."), typed=typed, to=to)


@post("/prices/drafts/{draft_id:str}/publish", permission=Permission.MANAGE_PRICES)
async def publish_draft(request: ConsoleRequest, services: Given, draft_id: FromPath[str]) -> Response[Any]:
    """What the page showed, or nothing. Sent twice, it publishes once."""
    typed = await read_fields(request, "starts_at", "lines")

    async def work(session: AsyncSession, draft: Draft) -> None:
        if draft.row.published_at is not None and draft.lines_digest.hex() == typed["lines"]:
            return
        if draft.lines_digest.hex() != typed["lines"]:
            raise Conflict("it says something else by now", code="changed")
        starts_at = read_moment(typed["starts_at"])
        await service.publish_draft(session, draft, starts_at=starts_at, notice=notice_of(services))

    return await _change(request, services, draft_id, work, N_("The draft is published."), typed=typed)


@post("/prices/drafts/{draft_id:str}/discard", permission=Permission.MANAGE_PRICES)
async def discard_draft(request: ConsoleRequest, services: Given, draft_id: FromPath[str]) -> Response[Any]:
    async def work(session: AsyncSession, draft: Draft) -> None:
        if draft.row.discarded_at is None:
            await service.discard_draft(session, draft)

    return await _change(request, services, draft_id, work, N_("The draft is discarded."))


class _Refused(Exception):
    """What was typed cannot be read: `problems` are keys of the texts, by field."""

    def __init__(self, problems: dict[str, str]) -> None:
        super().__init__()
        self.problems = problems


async def _change(
    request: ConsoleRequest,
    services: Services,
    draft_id: str,
    work: Callable[[AsyncSession, Draft], Awaitable[None]],
    done: str,
    *,
    typed: dict[str, str] | None = None,
    to: str = "",
) -> Response[Any]:
    """`work` on the locked draft; then its page, or the page at once with what was typed and what is wrong with it."""
    try:
        async with services.database.operator(origin_of(request)) as session:
            await work(session, await service.get_draft(session, draft_id_of(draft_id), lock=True))
    except _Refused as refused:
        problems, status = refused.problems, _BAD_REQUEST
    except (Invalid, Conflict) as error:
        problems, status = _problems(error), _CONFLICT if isinstance(error, Conflict) else _BAD_REQUEST
    else:
        response = Redirect(f"/console/prices/drafts/{draft_id}{to}", status_code=_SEE_OTHER)
        flash(response, translate(request, done), "green")
        return response
    form = Form(typed or {}, {field: translate(request, PROBLEMS.get(key, REFUSED)) for field, key in problems.items()})
    return await draft_page(request, services, draft_id, form=form, status=status)


def _problems(error: Invalid | Conflict) -> dict[str, str]:
    match error:
        case Invalid(code="price_too_soon") | Invalid(param="starts_at"):
            return {"starts_at": error.code if error.code in PROBLEMS else "starts_at"}
        case Invalid(code="no_list_price"):
            return {"discount": "no_list_price"}
        case Invalid(param="model" | "region" | "month"):
            return {str(error.param): str(error.param)}
        case Invalid():
            return {WHOLE_FORM: error.param or error.code}
        case _:
            return {WHOLE_FORM: error.code}


async def _create(session: AsyncSession, typed: dict[str, str]) -> DraftView:
    title = clean_name(typed["title"], param="title")
    tenant_id = None
    if typed["tenant"].strip():
        tenant_id = TenantId(decode_id(TENANT, typed["tenant"].strip()))
        await get_organisation(session, TenantScope(tenant_id))
    return show_draft(await service.create_draft(session, title=title, tenant_id=tenant_id, lines=[]))


async def _new_page(request: ConsoleRequest, services: Services, form: Form, *, status: int = 200) -> Response[bytes]:
    async with services.database.audit() as session:
        now = await read_now(session)
    return console_page(request, "console/price_draft_new.html", status=status, now=now, form=form, once=new_token())


async def _listing(session: AsyncSession, typed: dict[str, str]) -> Listing:
    """The model that was named, in a region that there is. Raises `Invalid`."""
    listings = {listing.name: listing for listing in await list_listings(session)}
    if typed["model"] not in listings:
        raise Invalid("no such model", param="model")
    if typed["region"] not in {region.name for region in await list_regions(session)}:
        raise Invalid("no such region", param="region")
    return listings[typed["model"]]
