"""All deployments and their load, live."""

from typing import Any

from litestar import Response, get

from chappe_control.console.deployments.states import describe
from chappe_control.console.regions.health import RECONCILER_ALIVE_S
from chappe_control.console.regions.queries import read_cells
from chappe_control.console.rendering import ConsoleRequest, console_fragment, console_page
from chappe_control.permissions import Permission
from chappe_control.state import Given, Services


@get("/deployments", permission=Permission.SEE_DEPLOYMENTS)
async def show_deployments(request: ConsoleRequest, services: Given) -> Response[bytes]:
    return console_page(request, "console/deployments.html", **await _values(services))


@get("/deployments/live", permission=Permission.SEE_DEPLOYMENTS)
async def show_deployments_live(request: ConsoleRequest, services: Given) -> Response[bytes]:
    return console_fragment(request, "console/deployments_live.html", **await _values(services))


async def _values(services: Services) -> dict[str, Any]:
    async with services.database.audit() as session:
        found = await read_cells(session)
    rows = [row for cell in found.cells for row in cell.deployments]
    return {
        "rows": rows,
        "now": found.now,
        "describe": describe,
        "report_alive_s": RECONCILER_ALIVE_S,
        "totals": {
            "in_flight": sum(row.in_flight for row in rows),
            "capacity": sum(row.capacity for row in rows),
            "running": sum(row.seen.running for row in rows),
            "wanted": sum(row.seen.wanted for row in rows),
        },
    }
