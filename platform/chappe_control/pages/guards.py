"""Who looks at a page. Each guard reads one cookie and nothing else: no header can change the answer."""

from http import HTTPStatus
from typing import Any, Final
from urllib.parse import quote, urlsplit

from litestar import Request, Response
from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler
from litestar.response import Redirect

from chappe_control.origins import source_of
from chappe_control.pages.cookies import CONSOLE_COOKIE, PORTAL_COOKIE
from chappe_control.problems import Problem, handle_chappe_error
from chappe_control.state import Services
from chappe_kernel.errors import Unauthenticated
from chappe_store.audit_log.origin import ActorKind
from chappe_store.session import NOBODY
from chappe_tenants.sessions import service as sessions
from chappe_tenants.sessions.service import MemberVisitor, OperatorVisitor

PORTAL_SIGN_IN = "/sign-in"
CONSOLE_SIGN_IN = "/console/sign-in"
MAX_NEXT_LENGTH = 500

# The framework's type wants the number itself.
_SEE_OTHER: Final = 303

_Connection = ASGIConnection[Any, Any, Any, Any]


class SignInRequired(Unauthenticated):
    """Nobody is signed in. `sign_in_path` says where to."""

    default_code = "sign_in_required"

    def __init__(self, sign_in_path: str) -> None:
        super().__init__("sign in first")
        self.sign_in_path = sign_in_path


async def require_member(connection: _Connection, _: BaseRouteHandler) -> None:
    """Sets `request.auth` to the `MemberVisitor`. Raises `SignInRequired`."""
    visitor = await read_member(connection)
    if visitor is None:
        raise SignInRequired(PORTAL_SIGN_IN)
    connection.scope["auth"] = visitor


async def require_operator(connection: _Connection, _: BaseRouteHandler) -> None:
    """Sets `request.auth` to the `OperatorVisitor`. Raises `SignInRequired`."""
    visitor = await read_operator(connection)
    if visitor is None:
        raise SignInRequired(CONSOLE_SIGN_IN)
    connection.scope["auth"] = visitor


async def read_member(connection: _Connection) -> MemberVisitor | None:
    """Who is signed in to the portal, for pages that are for everybody."""
    secret = connection.cookies.get(PORTAL_COOKIE)
    if not secret:
        return None
    services: Services = connection.app.state.services
    async with services.database.tenant(NOBODY) as session:
        found = await sessions.find_member(session, secret)
    if found is None:
        return None
    visitor, rested = found
    if rested:
        origin = source_of(connection).origin(ActorKind.MEMBER, visitor.member_id)
        async with services.database.tenant(visitor.scope, origin) as session:
            await sessions.touch_member_session(session, visitor)
    return visitor


async def read_operator(connection: _Connection) -> OperatorVisitor | None:
    """Who is signed in to the console."""
    secret = connection.cookies.get(CONSOLE_COOKIE)
    if not secret:
        return None
    services: Services = connection.app.state.services
    async with services.database.operator() as session:
        found = await sessions.find_operator(session, secret)
    if found is None:
        return None
    visitor, rested = found
    if rested:
        origin = source_of(connection).origin(ActorKind.OPERATOR_USER, visitor.user_id)
        async with services.database.operator(origin) as session:
            await sessions.touch_operator_session(session, visitor)
    return visitor


def handle_sign_in_required(request: Request[Any, Any, Any], error: SignInRequired) -> Response[Problem | None]:
    """To the sign-in page and back afterwards. What a script asked for itself gets 401, unless htmx can be told."""
    if request.headers.get("hx-request") == "true":
        # A success to the browser, whose console would otherwise report it: htmx obeys before it looks at the status.
        return Response(
            None, status_code=HTTPStatus.NO_CONTENT, headers={"hx-redirect": _back_from(error, _htmx_page(request))}
        )
    if request.method in {"GET", "HEAD"}:
        return Redirect(_back_from(error, _target(request)), status_code=_SEE_OTHER)
    if request.headers.get("sec-fetch-mode") == "navigate":
        # A form that waited longer than the session. It cannot be sent again from here, so there is nothing to go to.
        return Redirect(error.sign_in_path, status_code=_SEE_OTHER)
    return handle_chappe_error(request, error)  # type: ignore[return-value]  # a Response of one of both


def same_site_path(text: str | None, default: str) -> str:
    """The path to go to after a sign-in, if it is one of this site's; anybody can write it into a link.

    Browsers read a backslash as a slash and skip tabs and line ends, so `/\\evil.example` is as foreign as `//`.
    """
    if not text or len(text) > MAX_NEXT_LENGTH or not text.startswith("/") or text.startswith("//"):
        return default
    if "\\" in text or any(not "!" <= char <= "~" for char in text):
        return default
    return text


def _back_from(error: SignInRequired, path: str) -> str:
    target = same_site_path(path, default="")
    return f"{error.sign_in_path}?next={quote(target, safe='/')}" if target else error.sign_in_path


def _target(request: Request[Any, Any, Any]) -> str:
    path = request.scope["raw_path"].decode("latin-1")
    query = request.scope["query_string"].decode("latin-1")
    return f"{path}?{query}" if query else path


def _htmx_page(request: Request[Any, Any, Any]) -> str:
    """The page that a fragment belongs to, as htmx says it. Only its path is believed, and only as a path."""
    try:
        parts = urlsplit(request.headers.get("hx-current-url", ""))
    except ValueError:
        return ""
    return f"{parts.path}?{parts.query}" if parts.query else parts.path
