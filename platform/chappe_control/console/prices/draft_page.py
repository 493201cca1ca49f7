"""The page of one draft: what it says beside what is in force, what a month would have cost, and its forms."""

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import Any

from litestar import Response
from msgspec import Struct
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_billing.price_drafts import service
from chappe_billing.price_drafts.comparing import Difference, DraftLine
from chappe_billing.price_drafts.service import Draft
from chappe_billing.price_simulations.queries import last_month
from chappe_billing.price_simulations.reckoning import Sums
from chappe_billing.price_simulations.service import simulate
from chappe_billing.prices.queries import PriceList, price_of, versions_of
from chappe_catalogue.listings.models import Listing
from chappe_catalogue.listings.queries import list_listings
from chappe_catalogue.regions.queries import list_regions
from chappe_control.console.prices import queries
from chappe_control.console.prices.entry import months_until, read_month, typed_terms
from chappe_control.console.prices.routes import read_rows
from chappe_control.console.prices.texts import COMPONENTS, PER_TOKEN
from chappe_control.console.rendering import ConsoleRequest, console_page
from chappe_control.console.tenants.queries import read_tenant_names
from chappe_control.operator_api.prices import notice_of
from chappe_control.pages.forms import Form
from chappe_control.state import Services
from chappe_kernel.errors import Invalid, NotFound
from chappe_kernel.ids import PRICE_DRAFT, PriceDraftId, decode_id
from chappe_store.queries import read_now

_MONTHS = 13
_TENANTS_SHOWN = 100


class Cost(Struct, frozen=True):
    """A line of the simulation: whose or where, under which id, and what changes."""

    name: str
    sums: Sums
    id: Any = None
    region: str | None = None

    @property
    def difference_nano(self) -> int:
        return self.sums.after_nano - self.sums.before_nano


class Simulated(Struct, frozen=True):
    """A month's usage as it was charged and as it would have been. `currency` is None where lines have several, which
    do not add up."""

    month: date
    currency: str | None
    total: Sums
    places: Sequence[Cost]
    currencies: dict[str, str]
    tenants: Sequence[Cost]
    tenants_left_out: int


class Compared(Struct, frozen=True):
    """A line beside what is in force; no `difference` is a discount on a list price that there is not."""

    line: DraftLine
    difference: Difference | None


class Opened(Struct, frozen=True):
    """The form of one line: what was typed before, or what is to be paid there now."""

    model: str
    region: str
    currency: str
    form: Form
    is_new: bool


async def draft_page(
    request: ConsoleRequest, services: Services, text: str, *, form: Form | None = None, status: int = 200
) -> Response[bytes]:
    """With `form` as it was refused."""
    month = _asked_month(request)
    async with services.database.audit() as session:
        now = await read_now(session)
        draft = await service.get_draft(session, draft_id_of(text))
        tenant_id = draft.row.tenant_id
        names = await read_tenant_names(session, [] if tenant_id is None else [tenant_id])
        listings = await list_listings(session)
        regions = [region.name for region in await list_regions(session)]
        compared = [await _compare(session, draft, line, now) for line in draft.lines]
        simulated = await _simulated(session, draft, month) if draft.is_simulated else None
        published = await read_rows(session, await queries.list_of_draft(session, draft.row.id), now)
        typed = form if form is not None and "model" in form.values else None
        chosen = request.query_params if typed is None else typed.values
        opened = await _opened(session, chosen, typed, draft, listings=listings, regions=regions)
    return console_page(
        request,
        "console/price_draft.html",
        status=status,
        now=now,
        draft=draft,
        draft_id=text,
        tenant_name=None if tenant_id is None else names[tenant_id],
        compared=compared,
        simulated=simulated,
        published=published,
        opened=opened,
        form=form or Form(),
        listings=[listing.name for listing in listings],
        regions=regions,
        months=months_until(now, _MONTHS),
        notice_minutes=-(-int(notice_of(services).total_seconds()) // 60),
        components=COMPONENTS,
        per_token=PER_TOKEN,
    )


def draft_id_of(text: str) -> PriceDraftId:
    """Raises `NotFound` for what is no id."""
    try:
        return PriceDraftId(decode_id(PRICE_DRAFT, text))
    except Invalid:
        raise NotFound("no such price draft") from None


async def _opened(
    session: AsyncSession,
    chosen: Mapping[str, str],
    typed: Form | None,
    draft: Draft,
    *,
    listings: Sequence[Listing],
    regions: Sequence[str],
) -> Opened | None:
    """None unless a model and a region are chosen, and both exist."""
    listing = next((one for one in listings if one.name == chosen.get("model")), None)
    region = chosen.get("region", "")
    if listing is None or region not in regions or not draft.is_open:
        return None
    line = next((one for one in draft.lines if (one.listing_id, one.region) == (listing.id, region)), None)
    shown = typed or Form(typed_terms(line or await _price_now(session, draft, listing, region)))
    return Opened(listing.name, region, listing.currency, shown, line is None)


async def _price_now(session: AsyncSession, draft: Draft, listing: Listing, region: str) -> Any:
    """The last that was published there: everybody's, or the tenant's own if it has one. A tenant's form begins empty,
    since it may take a discount instead."""
    if draft.row.tenant_id is not None:
        return None
    published = (await versions_of(session, listing.id, region))[PriceList(listing.id, region)]
    return price_of(published[-1]) if published else None


async def _compare(session: AsyncSession, draft: Draft, line: DraftLine, now: datetime) -> Compared:
    try:
        (found,) = await service.differences(session, Draft(draft.row, [line]), now)
    except Invalid:
        return Compared(line, None)
    return Compared(line, found)


async def _simulated(session: AsyncSession, draft: Draft, month: date | None) -> Simulated | None:
    try:
        found = await simulate(session, draft, month or await last_month(session))
    except Invalid:
        # Its list price was withdrawn since.
        return None
    by_change = sorted(found.reckoned.tenants.items(), key=lambda item: -abs(item[1].after_nano - item[1].before_nano))
    names = await read_tenant_names(session, [tenant_id for tenant_id, _ in by_change[:_TENANTS_SHOWN]])
    currencies = {line.listing: line.currency for line in draft.lines}
    return Simulated(
        month=found.month,
        currency=draft.lines[0].currency if len(set(currencies.values())) == 1 else None,
        total=found.reckoned.total,
        places=[
            Cost(line.listing, found.reckoned.places.get((line.listing_id, line.region), Sums()), region=line.region)
            for line in draft.lines
        ],
        currencies=currencies,
        tenants=[Cost(names[tenant_id], sums, tenant_id) for tenant_id, sums in by_change[:_TENANTS_SHOWN]],
        tenants_left_out=max(0, len(by_change) - _TENANTS_SHOWN),
    )


def _asked_month(request: ConsoleRequest) -> date | None:
    """What is no month is not asked for."""
    try:
        return read_month(request.query_params.get("month", ""))
    except Invalid:
        return None
