"""Today's usage and revenue, live."""

from datetime import timedelta
from typing import Any

from litestar import Response, get

from chappe_catalogue.listings.queries import list_listings
from chappe_catalogue.regions.queries import list_regions
from chappe_control.console.rendering import ConsoleRequest, console_fragment, console_page
from chappe_control.console.revenue.day import make_days
from chappe_control.console.revenue.hours import HourBook, begin_of_day
from chappe_control.permissions import Permission
from chappe_control.state import Given, Services
from chappe_kernel.money import format_nano
from chappe_store.queries import read_now

_DAY = timedelta(days=1)


def make_handlers(book: HourBook) -> list[Any]:
    @get("/revenue", permission=Permission.SEE_REVENUE)
    async def show_revenue(request: ConsoleRequest, services: Given) -> Response[bytes]:
        return console_page(request, "console/revenue.html", **await _values(services, book))

    @get("/revenue/live", permission=Permission.SEE_REVENUE)
    async def show_revenue_live(request: ConsoleRequest, services: Given) -> Response[bytes]:
        return console_fragment(request, "console/revenue_live.html", **await _values(services, book))

    return [show_revenue, show_revenue_live]


async def _values(services: Services, book: HourBook) -> dict[str, Any]:
    async with services.database.audit() as session:
        now = await read_now(session)
        regions = [region.name for region in await list_regions(session)]
        listings = await list_listings(session)
        used = await book.used(session, begin_of_day(now) - _DAY, now)
        compared = await book.compared(session, begin_of_day(now), now)
    days = make_days(
        used,
        compared,
        now,
        regions=regions,
        models={listing.id: listing.name for listing in listings},
        currencies={listing.currency for listing in listings},
    )
    return {"days": days, "now": now, "today": begin_of_day(now), "format_nano": format_nano}
