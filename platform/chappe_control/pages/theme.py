"""Light, dark, or as the visitor's system is set. The server writes it into the page, so nothing flashes."""

from typing import Any, Final

from litestar import Request

THEME_COOKIE: Final = "__Host-chappe-theme"
DEFAULT_THEME: Final = "auto"
THEMES: Final = ("auto", "light", "dark")


def theme_of(request: Request[Any, Any, Any]) -> str:
    chosen = request.cookies.get(THEME_COOKIE)
    return chosen if chosen in THEMES else DEFAULT_THEME
