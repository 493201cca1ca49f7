"""The shared parts of the pages without a database: routes that raise whatever a test wants, and the gallery."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import httpx
import uvicorn
from litestar import Litestar, Request, Response, get, post
from litestar.datastructures import State
from litestar.params import FromPath
from sqlalchemy.exc import OperationalError

from chappe_control.pages import render
from chappe_control.pages.assets import load_assets
from chappe_control.pages.csp_reports import CspReports
from chappe_control.pages.csrf import OwnPagesOnly, make_csrf_config
from chappe_control.pages.errors import with_pages
from chappe_control.pages.flash import flash
from chappe_control.pages.gallery import gallery_values
from chappe_control.pages.router import make_router
from chappe_control.problems import EXCEPTION_HANDLERS
from chappe_kernel.clock import SystemClock
from chappe_kernel.errors import (
    ChappeError,
    Conflict,
    Denied,
    InsufficientFunds,
    Invalid,
    LimitExceeded,
    NotFound,
    TooLarge,
    Unauthenticated,
    Unavailable,
)
from tests.control.world import PEPPERS
from tests.pages.browser import PORTAL_URL, Visitor

GATEWAY = "https://gateway.fr-par.example"
ERRORS: dict[str, Exception] = {
    "invalid": Invalid("secret detail"),
    "unauthenticated": Unauthenticated("secret detail"),
    "insufficient": InsufficientFunds("secret detail"),
    "denied": Denied("secret detail"),
    "missing": NotFound("secret detail"),
    "conflict": Conflict("secret detail"),
    "large": TooLarge("secret detail"),
    "limit": LimitExceeded("secret detail", retry_after_s=7),
    "bug": ValueError("secret detail"),
    "away": Unavailable("secret detail"),
    "database": OperationalError("SELECT 1", {}, ConnectionError("secret detail"), connection_invalidated=True),
    "connection": OSError("secret detail"),
    "other": ChappeError("secret detail"),
}


@get("/raise/{name:str}")
async def raise_it(name: FromPath[str]) -> None:
    raise ERRORS[name]


@get("/show")
async def show(request: Request[Any, Any, Any]) -> Response[bytes]:
    request.scope["auth"] = SimpleNamespace(email="olivia@operator.example", role="admin")
    return render.page(request, "gallery/gallery.html", connect_to=[GATEWAY], **gallery_values())


@get("/show/live")
async def show_live(request: Request[Any, Any, Any]) -> Response[bytes]:
    """As the gallery's, with one more bar at each call."""
    request.app.state["calls"] += 1
    values = gallery_values()
    values["bar_rows"] = [*values["bar_rows"], (f"call-{request.app.state['calls']}", 900, 100)]
    return render.fragment(request, "gallery/live.html", **values)


@post("/act", status_code=303)
async def act(request: Request[Any, Any, Any]) -> Response[None]:
    response: Response[None] = Response(None, status_code=303, headers={"location": "/show"})
    flash(response, "Done <b>now</b>")
    return response


def make_app(portal_url: str = PORTAL_URL) -> Litestar:
    """The pages' own routes, handlers and locks, as `create_app` puts them together."""
    pages = render.make_pages(load_assets(), SystemClock())
    services = SimpleNamespace(settings=SimpleNamespace(portal_url=portal_url))
    return Litestar(
        [make_router(), raise_it, show, show_live, act],
        state=State({"services": services, "pages": pages, "csp_reports": CspReports(), "calls": 0}),
        exception_handlers=with_pages({key: handler for key, handler in EXCEPTION_HANDLERS.items() if key != 500}),
        middleware=[OwnPagesOnly],
        csrf_config=make_csrf_config(PEPPERS),
        request_max_body_size=64 * 1024,
        openapi_config=None,
        logging_config=None,
    )


@asynccontextmanager
async def open_site(portal_url: str = PORTAL_URL) -> AsyncIterator[Visitor]:
    """The pages behind a test's own browser, without a socket."""
    transport = httpx.ASGITransport(make_app(portal_url), raise_app_exceptions=False)  # type: ignore[arg-type]  # Litestar's own types of ASGI
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as http:
        yield Visitor(http, portal_url)


@asynccontextmanager
async def serve_site() -> AsyncIterator[str]:
    """The pages on a free port of the loopback, for a real browser. Yields their address."""
    app = make_app()
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None, access_log=False, lifespan="off"))
    serving = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110 -- uvicorn has no event to wait for
        await asyncio.sleep(0.005)
    url = f"http://localhost:{server.servers[0].sockets[0].getsockname()[1]}"
    app.state["services"].settings.portal_url = url
    try:
        yield url
    finally:
        server.should_exit = True
        await serving
