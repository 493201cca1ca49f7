"""Request bodies, decoded strictly before the framework sees them.

The framework converts leniently ("5" would pass for a number) and does not say which field was wrong in a stable way.
So the body is decoded here with the type that the handler declares, and refused here.
"""

import re
from typing import Any

import msgspec
from litestar import Request

from chappe_kernel.errors import Invalid

_PATH = re.compile(r" - at `\$\.?(?P<path>.*)`$", re.DOTALL)
_FIELD = re.compile(r"^Object (?:contains unknown|missing required) field `(?P<field>.*?)`", re.DOTALL)
MAX_PARAM_LENGTH = 100


async def check_body(request: Request[Any, Any, Any]) -> None:
    """Raises `Invalid`: `malformed_json`, or `invalid_request` naming the field."""
    declared = request.route_handler.parsed_data_field
    if declared is None:
        return
    try:
        msgspec.json.decode(await request.body(), type=declared.annotation)
    except msgspec.ValidationError as error:
        raise _describe(str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Invalid("the body is not well-formed JSON in UTF-8", code="malformed_json") from None


def _describe(message: str) -> Invalid:
    """msgspec's message without the path, and the field: `Expected `int`, got `str` - at `$.limit``."""
    located = _PATH.search(message)
    path = located["path"] if located else ""
    text = message[: located.start()] if located else message
    named = _FIELD.match(text)
    parts = [part for part in (path, named["field"] if named else "") if part]
    return Invalid(text, param=".".join(parts)[:MAX_PARAM_LENGTH] or None)
