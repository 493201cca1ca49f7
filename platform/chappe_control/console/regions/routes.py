"""Regions and their cells, live."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from litestar import Response, get
from msgspec import Struct

from chappe_control.console.regions.health import Health, Newest, RegionState, assess, is_behind
from chappe_control.console.regions.queries import Cell, Gateway, read_cells
from chappe_control.console.regions.texts import STATES, explain
from chappe_control.console.rendering import ConsoleRequest, console_fragment, console_page
from chappe_control.console.revenue.hours import HourBook, begin_of_day
from chappe_control.console.revenue.queries import Sums, UsedInHour
from chappe_control.permissions import Permission, may
from chappe_control.state import Given, Services

_LAST = len(RegionState)


class RegionView(Struct, frozen=True):
    """A region as its card shows it. `today` is by currency."""

    cell: Cell
    health: Health
    today: dict[str, Sums]

    @property
    def name(self) -> str:
        return self.cell.region.name

    @property
    def ill(self) -> bool:
        """Whether something broke, and not merely was not begun yet."""
        return any(not problem.quiet for problem in self.health.problems)

    @property
    def requests(self) -> int:
        return sum(sums.requests for sums in self.today.values())


def make_handlers(book: HourBook) -> list[Any]:
    @get("/regions", permission=Permission.SEE_REGIONS)
    async def show_regions(request: ConsoleRequest, services: Given) -> Response[bytes]:
        return console_page(request, "console/regions.html", **await _values(request, services, book))

    @get("/regions/live", permission=Permission.SEE_REGIONS)
    async def show_regions_live(request: ConsoleRequest, services: Given) -> Response[bytes]:
        return console_fragment(request, "console/regions_live.html", **await _values(request, services, book))

    return [show_regions, show_regions_live]


async def _values(request: ConsoleRequest, services: Services, book: HourBook) -> dict[str, Any]:
    newest = await _newest_snapshot(services)
    async with services.database.audit() as session:
        found = await read_cells(session)
        used = await book.used(session, begin_of_day(found.now), found.now)
    views = [_view(cell, newest, used, found.currencies) for cell in found.cells]

    def gateway_is_behind(gateway: Gateway) -> bool:
        return is_behind(gateway.seen, newest)

    def before_now(age_s: float) -> datetime:
        return found.now - timedelta(seconds=age_s)

    return {
        "now": found.now,
        # Who needs help comes first, on the wall too; the others stay in their order.
        "regions": sorted(views, key=lambda view: list(RegionState).index(view.health.state) if view.ill else _LAST),
        "states": STATES,
        "explain": explain,
        "is_behind": gateway_is_behind,
        "before_now": before_now,
        "newest": newest,
        "totals": _totals(views, found.currencies),
        "sees_revenue": may(request.auth.role, Permission.SEE_REVENUE),
    }


async def _newest_snapshot(services: Services) -> Newest:
    snapshot = await services.snapshots.current()
    return Newest(snapshot.version, services.clock.monotonic() - snapshot.since)


def _view(cell: Cell, newest: Newest, used: Sequence[UsedInHour], currencies: Sequence[str]) -> RegionView:
    today = {currency: Sums() for currency in currencies}
    for row in used:
        if row.region == cell.region.name:
            today[row.currency] = today.get(row.currency, Sums()) + row.sums
    health = assess(
        [gateway.seen for gateway in cell.gateways],
        [row.seen for row in cell.deployments],
        newest,
        sold_but_not_deployed=cell.sold_but_not_deployed,
    )
    return RegionView(cell, health, today)


def _totals(views: Sequence[RegionView], currencies: Sequence[str]) -> dict[str, Any]:
    """The tiles over the regions. `revenue_nano` is by currency."""
    revenue_nano = dict.fromkeys(currencies, 0)
    for view in views:
        for currency, sums in view.today.items():
            revenue_nano[currency] = revenue_nano.get(currency, 0) + sums.revenue_nano
    return {
        "in_flight": sum(view.cell.in_flight for view in views),
        "requests": sum(view.requests for view in views),
        "revenue_nano": dict(sorted(revenue_nano.items())),
        "healthy": sum(view.health.state is RegionState.HEALTHY for view in views),
        "ill": sum(view.ill for view in views),
    }
