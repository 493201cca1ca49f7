"""The cookies that hold a session's secret. `__Host-`: no other host, no path and no plain connection can set them."""

from litestar.datastructures import Cookie

PORTAL_COOKIE = "__Host-chappe"
CONSOLE_COOKIE = "__Host-chappe-console"


def session_cookie(name: str, secret: str) -> Cookie:
    """It lives as long as the browser's own session, and never longer than the row that it opens."""
    return Cookie(key=name, value=secret, path="/", secure=True, httponly=True, samesite="lax")


def ended_cookie(name: str) -> Cookie:
    """Makes the browser forget it."""
    return Cookie(key=name, value="", max_age=0, path="/", secure=True, httponly=True, samesite="lax")
