"""The one mapper from `ChappeError` to HTTP in OpenAI's shape, and the errors that only a gateway has."""

import math
from typing import NamedTuple

import msgspec

from chappe_kernel.errors import (
    ChappeError,
    Conflict,
    Denied,
    InsufficientFunds,
    Invalid,
    LimitExceeded,
    NotFound,
    TooLarge,
    Unauthenticated,
    Unavailable,
)

Headers = list[tuple[bytes, bytes]]


class WrongRegion(ChappeError):
    """This gateway is outside the request's set of regions; `location` is the same resource where it may run."""

    default_code = "wrong_region"

    def __init__(self, message: str, *, location: str) -> None:
        super().__init__(message)
        self.location = location


class WrongMethod(ChappeError):
    """The resource exists and does not do this. `allowed` is the value of the `allow` header."""

    default_code = "method_not_allowed"

    def __init__(self, allowed: str) -> None:
        super().__init__(f"this resource answers {allowed} only")
        self.allowed = allowed


class WrongMediaType(Invalid):
    """The body is not plain JSON."""

    default_code = "unsupported_media_type"


class RequestLimitExceeded(LimitExceeded):
    """Too many requests or tokens in this minute; `limit` is how many of the `unit` there may be."""

    def __init__(self, message: str, *, retry_after_s: float, limit: int, unit: str = "requests") -> None:
        super().__init__(message, retry_after_s=retry_after_s)
        self.limit = limit
        self.unit = unit


class EngineFailed(Unavailable):
    """The engine broke down, or said something that it must not say."""

    default_code = "engine_error"


class ErrorAnswer(NamedTuple):
    """An answer ready to be sent: `headers` are those that this kind of error adds."""

    status: int
    headers: Headers
    body: bytes


class _ErrorObject(msgspec.Struct):
    message: str
    type: str
    param: str | None
    code: str | None


# Sub-classes stand before their base: the first match wins.
_KINDS: tuple[tuple[type[ChappeError], int, str], ...] = (
    (WrongRegion, 421, "invalid_request_error"),
    (WrongMethod, 405, "invalid_request_error"),
    (WrongMediaType, 415, "invalid_request_error"),
    (TooLarge, 413, "invalid_request_error"),
    (Invalid, 400, "invalid_request_error"),
    (Unauthenticated, 401, "invalid_request_error"),
    (InsufficientFunds, 402, "insufficient_quota"),
    (Denied, 403, "permission_error"),
    (NotFound, 404, "invalid_request_error"),
    (Conflict, 409, "invalid_request_error"),
    (LimitExceeded, 429, "rate_limit_error"),
    (Unavailable, 503, "server_error"),
    (ChappeError, 500, "server_error"),
)


def unknown_path() -> NotFound:
    """For every path that the gateway does not have."""
    return NotFound("there is no such resource; see /v1/models, /v1/chat/completions, /v1/embeddings")


def answer_for(error: ChappeError) -> ErrorAnswer:
    """Status, extra headers and body for an expected failure."""
    status, kind = next((status, kind) for cls, status, kind in _KINDS if isinstance(error, cls))
    return ErrorAnswer(status, _extra_headers(error), error_body(error, kind))


def error_body(error: ChappeError, kind: str = "server_error") -> bytes:
    """OpenAI's error object as JSON; also the data of an error event inside a stream."""
    return msgspec.json.encode({"error": _ErrorObject(error.message, kind, error.param, error.code)})


def _extra_headers(error: ChappeError) -> Headers:
    headers: Headers = []
    match error:
        case WrongRegion():
            headers = [(b"location", error.location.encode("ascii", "ignore"))]
        case WrongMethod():
            headers = [(b"allow", error.allowed.encode())]
        case Unauthenticated():
            headers = [(b"www-authenticate", b"Bearer")]
        case LimitExceeded():
            headers = [(b"retry-after", b"%d" % max(1, math.ceil(error.retry_after_s)))]
        case Unavailable():
            headers = [(b"retry-after", b"1")]
    if isinstance(error, RequestLimitExceeded):
        headers += rate_headers(error.limit, 0, error.retry_after_s, error.unit)
    return headers


def rate_headers(limit: int, remaining: int, reset_s: float, unit: str = "requests") -> Headers:
    """OpenAI's three headers for a limit of requests or tokens."""
    name = unit.encode()
    return [
        (b"x-ratelimit-limit-%b" % name, b"%d" % limit),
        (b"x-ratelimit-remaining-%b" % name, b"%d" % max(0, remaining)),
        (b"x-ratelimit-reset-%b" % name, b"%ds" % math.ceil(reset_s)),
    ]
