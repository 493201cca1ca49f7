"""One address for all pages: the setting's. Under another host a browser would hold other cookies, and passkeys fail.

No header ever decides where a redirect goes.
"""

import re
from http import HTTPStatus
from urllib.parse import urlsplit

from litestar.enums import ScopeType
from litestar.types import ASGIApp, Receive, Scope, Send

# What programs call, under whatever name they know us by.
NO_PAGES = (
    *("^/api/", "^/tmf-api/", "^/internal/", "^/webhooks/", "^/csp-report$", "^/healthz$", "^/schema", "^/static/"),
)
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})

_NO_PAGE = re.compile("|".join(NO_PAGES))


def is_page(scope: Scope) -> bool:
    """Whether a browser is meant to show this. Whatever is not named above counts as a page, and is guarded as one."""
    return scope["type"] == ScopeType.HTTP and _NO_PAGE.search(scope["path"]) is None


class CanonicalHost:
    """Sends the GET of a page under another host to the same path under `portal_url`."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not is_page(scope) or scope.get("method") not in {"GET", "HEAD"}:
            await self._app(scope, receive, send)
            return
        portal_url: str = scope["litestar_app"].state.services.settings.portal_url
        if _hosts(scope) == [urlsplit(portal_url).netloc]:
            await self._app(scope, receive, send)
            return
        location = portal_url.encode() + _target(scope)
        await send(
            {
                "type": "http.response.start",
                "status": HTTPStatus.TEMPORARY_REDIRECT.value,
                "headers": [(b"location", location), (b"content-length", b"0")],
            }
        )
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def _hosts(scope: Scope) -> list[str]:
    return [value.decode("latin-1").lower() for name, value in scope["headers"] if name == b"host"]


def _target(scope: Scope) -> bytes:
    query = scope["query_string"]
    return scope["raw_path"] + (b"?" + query if query else b"")
