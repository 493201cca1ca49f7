"""What the document says of the API as a whole, and how it is served."""

from importlib.metadata import version
from typing import Any

from litestar import Request
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.openapi.spec import Components, SecurityScheme

from chappe_control.openapi.completing import complete
from chappe_control.operator_api.router import CONSOLE_SESSION, OPERATOR_TOKEN
from chappe_control.pages.cookies import CONSOLE_COOKIE, PORTAL_COOKIE
from chappe_control.public.router import MANAGEMENT_KEY, PORTAL_SESSION

_DESCRIPTION = (
    "What a tenant's programs need beside inference: the balance, usage, projects and API keys. Call it with a "
    "management key (`ck_m…`), or signed in to the portal. Under `/operator` is what the operator's own people and "
    "programs need. Amounts are decimal strings with nine decimals. Ids sort by their time. Errors are "
    "RFC 9457 problems with a stable `code`.\n\n"
    "Lists are newest first and come in pages: send `next_cursor` as `cursor` until it is null. A `POST` with an "
    "`Idempotency-Key` has no second effect within 24 hours. What updates something takes the `ETag` of what you have "
    "seen as `If-Match`, so that nobody undoes another's change unseen."
)


class CompleteJson(JsonRenderPlugin):
    """The document alone, with examples: the framework's pages would load scripts from elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self._completed: dict[str, Any] | None = None

    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:
        self._completed = self._completed or complete(openapi_schema)
        return super().render(request, self._completed)


def make_config() -> OpenAPIConfig:
    schemes = {
        MANAGEMENT_KEY: _bearer("A management key, `ck_m…`."),
        PORTAL_SESSION: _cookie(PORTAL_COOKIE, "Whoever is signed in to the portal."),
        OPERATOR_TOKEN: _bearer("A token of one of the operator's people, `co_…`."),
        CONSOLE_SESSION: _cookie(CONSOLE_COOKIE, "Whoever is signed in to the console."),
    }
    return OpenAPIConfig(
        title="Chappe control plane",
        version=version("chappe"),
        description=_DESCRIPTION,
        components=Components(security_schemes=dict(schemes)),
        render_plugins=[CompleteJson()],
        path="/schema",
        use_handler_docstrings=True,
    )


def _bearer(text: str) -> SecurityScheme:
    return SecurityScheme(type="http", scheme="bearer", description=text)


def _cookie(name: str, whose: str) -> SecurityScheme:
    text = f"{whose} What changes anything must have the portal's own `Origin`."
    return SecurityScheme(type="apiKey", security_scheme_in="cookie", name=name, description=text)
