"""Errors on pages: the same statuses as the API's problems, said in the visitor's language on a page of their own."""

from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any

from litestar import Request, Response

from chappe_control.pages.canonical import is_page
from chappe_control.pages.languages import N_, translate
from chappe_control.pages.render import page
from chappe_control.problems import Problem

_Handler = Callable[[Request[Any, Any, Any], Any], Response[Any]]

# Status: title, what to do.
_TEXTS: Mapping[int, tuple[str, str]] = {
    400: (N_("This request cannot work"), N_("Something in the address or the form is not as it should be.")),
    401: (N_("Please sign in"), N_("Your session has ended. Sign in and try again.")),
    402: (N_("The budget is used up"), N_("Add funds, then try again.")),
    403: (
        N_("This was not accepted"),
        N_("Either you may not do this, or the form was too old. Go back, reload the page and try again."),
    ),
    404: (N_("Page not found"), N_("There is nothing at this address, or it belongs to another organisation.")),
    405: (N_("This cannot be done here"), N_("The address exists, but it does not take this kind of request.")),
    409: (N_("This changed in the meantime"), N_("Go back, reload the page and try again.")),
    413: (N_("This is too large"), N_("What was sent is over the size limit.")),
    429: (N_("Too many requests"), N_("Wait a moment, then try again.")),
    500: (N_("The fault is ours"), N_("It has been noted. Please try again later.")),
    503: (N_("Not available right now"), N_("A part that this page needs does not answer. Please try again shortly.")),
}
_KEPT_HEADERS = ("retry-after", "allow")


def with_pages(handlers: Mapping[int | type[Exception], Any]) -> dict[int | type[Exception], Any]:
    """The same handlers, whose problems become pages where a browser asked for a page."""
    return {kind: _for_both(handler) for kind, handler in handlers.items()}


def error_page(
    request: Request[Any, Any, Any], status: int, headers: Mapping[str, str] | None = None
) -> Response[bytes]:
    """Says in the visitor's language what a status means, and where to go on."""
    title, text = _TEXTS.get(status) or _TEXTS[400 if status < HTTPStatus.INTERNAL_SERVER_ERROR else 500]
    return page(
        request,
        "errors/error.html",
        status=status,
        headers=headers,
        code=status,
        title=translate(request, title),
        text=translate(request, text),
        home="/console" if request.url.path.startswith("/console") else "/",
    )


def _for_both(handler: _Handler) -> _Handler:
    def handle(request: Request[Any, Any, Any], error: Any) -> Response[Any]:
        response = handler(request, error)
        # A handler may answer otherwise, such as by sending the visitor to sign in.
        if not isinstance(response.content, Problem) or not _wants_page(request):
            return response
        kept = {name: value for name in _KEPT_HEADERS if (value := response.headers.get(name)) is not None}
        return error_page(request, response.status_code or HTTPStatus.INTERNAL_SERVER_ERROR, kept)

    return handle


def _wants_page(request: Request[Any, Any, Any]) -> bool:
    """Somebody who looks gets a page; a script of ours or a program that merely strayed here gets the problem."""
    is_navigation = request.headers.get("sec-fetch-mode") == "navigate"
    return is_page(request.scope) and (is_navigation or "text/html" in request.headers.get("accept", ""))
