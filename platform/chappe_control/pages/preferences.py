"""Language and theme: kept in two cookies of the browser, so that they hold before anybody signs in."""

from typing import Any

from litestar import Request, Response, post
from litestar.datastructures import Cookie
from litestar.response import Redirect

from chappe_control.pages.forms import read_fields
from chappe_control.pages.guards import same_site_path
from chappe_control.pages.languages import LANGUAGE_COOKIE, LANGUAGES
from chappe_control.pages.theme import THEME_COOKIE, THEMES

_YEAR_S = 365 * 24 * 3600


@post("/preferences", include_in_schema=False, status_code=303)
async def set_preferences(request: Request[Any, Any, Any]) -> Response[None]:
    """What is not one of ours is left as it was. Goes back to where the visitor was."""
    fields = await read_fields(request, "language", "theme", "back")
    response: Response[None] = Redirect(same_site_path(fields["back"], default="/"), status_code=303)
    if fields["language"] in LANGUAGES:
        response.set_cookie(_cookie(LANGUAGE_COOKIE, fields["language"]))
    if fields["theme"] in THEMES:
        response.set_cookie(_cookie(THEME_COOKIE, fields["theme"]))
    return response


def _cookie(name: str, value: str) -> Cookie:
    return Cookie(name, value=value, max_age=_YEAR_S, path="/", secure=True, httponly=True, samesite="lax")
