"""Requests that change something come from our own pages, or are refused. Two locks, each enough by itself.

The framework's token (a cookie and a form field that match), and the browser's own word on where the request comes
from: `Origin` must be the portal's, and `Sec-Fetch-Site`, where it is sent, `same-origin`. Pages must not be served
with `Referrer-Policy: no-referrer`: browsers would then send `Origin: null` with every form.
"""

import hmac
from collections.abc import Sequence
from typing import Any
from urllib.parse import unquote_to_bytes

from litestar import Request
from litestar.config.csrf import CSRFConfig
from litestar.connection import ASGIConnection
from litestar.enums import RequestEncodingType
from litestar.middleware.csrf import CSRF_SECRET_LENGTH, generate_csrf_hash
from litestar.types import ASGIApp, Receive, Scope, Send

from chappe_control.pages.canonical import NO_PAGES, SAFE_METHODS, is_page
from chappe_kernel.api_keys import Pepper
from chappe_kernel.errors import Denied, Invalid
from chappe_tenants.peppers import newest

CSRF_COOKIE = "__Host-chappe-csrf"
CSRF_HEADER = "x-csrftoken"
CSRF_FIELD = "_csrf_token"
_PURPOSE = b"csrf tokens of the portal's forms"


def make_csrf_config(peppers: Sequence[Pepper]) -> CSRFConfig:
    """The secret is derived from the newest pepper, so that every process of one operator has the same."""
    return CSRFConfig(
        secret=hmac.digest(newest(tuple(peppers)).secret, _PURPOSE, "sha256").hex(),
        cookie_name=CSRF_COOKIE,
        cookie_secure=True,
        cookie_httponly=True,
        # Not "strict": a link from elsewhere would then come without it, get a new one, and with that every form that
        # another tab has open would fail. A cross-site POST brings no lax cookie either.
        cookie_samesite="lax",
        header_name=CSRF_HEADER,
        exclude=list(NO_PAGES),
    )


class OwnPagesOnly:
    """Refuses what another site's page sent, before the framework looks at the token.

    It also forgets a token cookie that is not ours (any more: a pepper was rotated), so that the framework makes a new
    one; left alone it would repeat the old one into every form, and no form of that browser would work again.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if is_page(scope):
            request: Request[Any, Any, Any] = scope["litestar_app"].request_class(scope, receive)
            if request.method in SAFE_METHODS:
                _forget_foreign_token(request)
            else:
                check_origin(request)
                await _check_form(request)
        await self._app(scope, receive, send)


def check_origin(request: ASGIConnection[Any, Any, Any, Any]) -> None:
    """Fails closed: a browser that says nothing of where the request comes from is refused."""
    portal_url: str = request.app.state.services.settings.portal_url
    origins = request.headers.getall("origin", [])
    sites = request.headers.getall("sec-fetch-site", ["same-origin"])
    if origins != [portal_url] or sites != ["same-origin"]:
        raise Denied("this was not sent by a page of this site", code="foreign_origin")


async def _check_form(request: Request[Any, Any, Any]) -> None:
    """What the framework would let through, or fall over: text that is no UTF-8, which it replaces in silence, and a
    token that is not ASCII. None of our forms sends files, so the form of forms that can is refused."""
    kind = request.content_type[0]
    if kind == RequestEncodingType.MULTI_PART:
        raise Invalid("forms with files are not taken here", code="malformed_form")
    tokens = [*request.headers.getall(CSRF_HEADER, []), request.cookies.get(CSRF_COOKIE, "")]
    if kind == RequestEncodingType.URL_ENCODED:
        if not _is_text(await request.body()):
            raise Invalid("the form is not in UTF-8", code="malformed_form")
        tokens += (await request.form()).getall(CSRF_FIELD, [])
    if not all(token.isascii() for token in tokens):
        raise Denied("the form's token is not one of ours", code="bad_token")


def _is_text(urlencoded: bytes) -> bool:
    try:
        unquote_to_bytes(urlencoded).decode()
    except UnicodeDecodeError:
        return False
    return True


def _forget_foreign_token(request: Request[Any, Any, Any]) -> None:
    config = request.app.csrf_config
    token = request.cookies.get(CSRF_COOKIE)
    if config is not None and token is not None and not _is_ours(token, config.secret):
        # Cookies are parsed once per request: whoever reads them after us finds none.
        del request.cookies[CSRF_COOKIE]


def _is_ours(token: str, secret: str) -> bool:
    if not token.isascii():
        return False
    drawn, digest = token[:CSRF_SECRET_LENGTH], token[CSRF_SECRET_LENGTH:]
    return hmac.compare_digest(digest, generate_csrf_hash(drawn, secret))
