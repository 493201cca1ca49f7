"""Pages of the portal, and of no other origin, may call this gateway from a browser (the Fetch standard's CORS).

Nothing here lets a request in: a key or token is asked for as ever. It decides whether a browser shows a page the
answer, and asks no more of a request without `Origin` than to see that it has none.
"""

from collections.abc import Iterable

from chappe_gateway.edge.errors import Headers

_METHODS = b"GET, POST, OPTIONS"
_REQUEST_HEADERS = b"authorization, content-type, x-chappe-region"
# Beside what names the answer, when it is worth another try: a page cannot read it otherwise.
_EXPOSED = b"x-request-id, x-chappe-region, retry-after"
_MAX_AGE_S = b"600"

_ALLOWED_METHODS = frozenset(_METHODS.split(b", "))
_ALLOWED_HEADERS = frozenset(_REQUEST_HEADERS.split(b", "))


def is_from(headers: Iterable[tuple[bytes, bytes]], portal_origin: bytes) -> bool:
    """Whether the request has one `Origin` header, and it is exactly the portal's. False while there is no portal."""
    origin = None
    # A plain loop: every request pays for it, and it is half of what a comprehension costs.
    for name, value in headers:
        if name == b"origin":
            if origin is not None:
                return False
            origin = value
    return origin == portal_origin != b""


def answer_headers(portal_origin: bytes) -> Headers:
    """For any answer to the portal's pages, errors too. Without credentials: tokens travel in a header of their own."""
    return [
        (b"access-control-allow-origin", portal_origin),
        (b"access-control-expose-headers", _EXPOSED),
        (b"vary", b"Origin"),
    ]


def preflight_headers(headers: Headers) -> Headers | None:
    """What is allowed to the request that this one asks about. None: it is no preflight, or asks for more."""
    asked_methods = [value for name, value in headers if name == b"access-control-request-method"]
    asked_headers = [value for name, value in headers if name == b"access-control-request-headers"]
    names = {part.strip().lower() for value in asked_headers for part in value.split(b",")} - {b""}
    if len(asked_methods) != 1 or asked_methods[0] not in _ALLOWED_METHODS or not names <= _ALLOWED_HEADERS:
        return None
    return [
        (b"access-control-allow-methods", _METHODS),
        (b"access-control-allow-headers", _REQUEST_HEADERS),
        (b"access-control-max-age", _MAX_AGE_S),
    ]
