"""One message for the next page: what just happened, told once, over a redirect."""

import base64
import binascii
from typing import Any, Final

import msgspec
from litestar import Request, Response
from litestar.datastructures import Cookie

FLASH_COOKIE: Final = "__Host-chappe-flash"
_LIFETIME_S = 60
_MAX_CHARACTERS = 300
_COLOURS = ("green", "red", "yellow", "blue")


class Flash(msgspec.Struct, frozen=True, array_like=True):
    """A text in the visitor's language, and the colour of its toast."""

    text: str
    colour: str


def flash(response: Response[Any], text: str, colour: str = "green") -> None:
    """Show the text on the next page that this visitor opens. Never a secret: it travels in a cookie."""
    raw = msgspec.json.encode(Flash(text[:_MAX_CHARACTERS], colour))
    value = base64.urlsafe_b64encode(raw).decode().rstrip("=")
    response.set_cookie(
        Cookie(FLASH_COOKIE, value=value, max_age=_LIFETIME_S, path="/", secure=True, httponly=True, samesite="lax")
    )


def read_flash(request: Request[Any, Any, Any]) -> Flash | None:
    """The waiting message, if it is one of ours."""
    value = request.cookies.get(FLASH_COOKIE)
    if not value:
        return None
    try:
        found = msgspec.json.decode(base64.urlsafe_b64decode(value + "=" * (-len(value) % 4)), type=Flash)
    except (binascii.Error, ValueError, msgspec.MsgspecError):
        return None
    return found if found.colour in _COLOURS and len(found.text) <= _MAX_CHARACTERS else None


def forget_flash(response: Response[Any]) -> None:
    response.set_cookie(Cookie(FLASH_COOKIE, value="", max_age=0, path="/", secure=True, httponly=True, samesite="lax"))
