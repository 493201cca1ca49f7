"""Pages of the console, with what their layout asks about the visitor's role."""

from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import Any

from litestar import Request, Response
from litestar.datastructures import State
from markupsafe import Markup

from chappe_control.console.menu import ROLE_NAMES
from chappe_control.pages.formats import ago
from chappe_control.pages.languages import LOCALES, language_of
from chappe_control.pages.render import fragment, page
from chappe_tenants.sessions.service import OperatorVisitor

ConsoleRequest = Request[Any, OperatorVisitor, State]


def console_page(request: ConsoleRequest, template: str, *, now: datetime, **values: Any) -> Response[bytes]:
    """`now` is the database's time as of which the values were read: ages are counted from there, not from the clock
    of the machine that shows them."""
    return page(request, template, now=now, ago=_ago(request, now), **about_role(request), **values)


def console_fragment(request: ConsoleRequest, template: str, *, now: datetime, **values: Any) -> Response[bytes]:
    return fragment(request, template, now=now, ago=_ago(request, now), **about_role(request), **values)


def _ago(request: ConsoleRequest, now: datetime) -> Callable[[datetime | None], Markup]:
    return partial(ago, LOCALES[language_of(request)], lambda: now)


def about_role(request: ConsoleRequest) -> dict[str, Any]:
    """What the console's layout asks."""
    return {"role_name": ROLE_NAMES[request.auth.role]}
