"""The one mapper from `ChappeError` to HTTP in OpenAI's shape, and the errors that only a gateway has."""

import math
from collections.abc import Mapping
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


class BrokenHttp(Invalid):
    """What came is no HTTP, or could be read in two ways."""

    default_code = "invalid_http"


class HeadTooLarge(Invalid):
    """The request's head has more lines or bytes than are read."""

    default_code = "head_too_large"


class WrongMediaType(Invalid):
    """The body is not plain JSON."""

    default_code = "unsupported_media_type"


class RequestInProgress(Conflict):
    """The request that has this `Idempotency-Key` runs: worth another try."""

    default_code = "request_in_progress"


class RequestLimitExceeded(LimitExceeded):
    """Too many requests or tokens in this minute; `limit` is how many of the `unit` there may be."""

    def __init__(self, message: str, *, retry_after_s: float, limit: int, unit: str = "requests") -> None:
        super().__init__(message, retry_after_s=retry_after_s)
        self.limit = limit
        self.unit = unit


class PeerRefused(Denied):
    """It says that another region's gateway sent it, and that is not so."""

    default_code = "peer_refused"


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
    (HeadTooLarge, 431, "invalid_request_error"),
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


_MAX_MESSAGE = 1000
_MAX_PARAM = 200
_ENGINE_CODES = ("context_length_exceeded", "invalid_request", "unsupported_parameter")
_RATE_NAMES = {
    unit: tuple(f"x-ratelimit-{what}-{unit}".encode() for what in ("limit", "remaining", "reset"))
    for unit in ("requests", "tokens")
}


def unknown_path() -> NotFound:
    """For every path that the gateway does not have."""
    return NotFound(
        "there is no such resource; see /v1/models, /v1/chat/completions, /v1/responses, /v1/embeddings, /v1/messages"
    )


def answer_for(error: ChappeError, names: Mapping[str, str] | None = None) -> ErrorAnswer:
    """Status, extra headers and body for an expected failure. `names`: what this API calls an engine's parameters."""
    status, kind = next((status, kind) for cls, status, kind in _KINDS if isinstance(error, cls))
    message, param = told(error)
    if names is not None and param is not None and error.code in _ENGINE_CODES:
        param = names.get(param, param)
    body = msgspec.json.encode({"error": _ErrorObject(message, kind, param, error.code)})
    return ErrorAnswer(status, _extra_headers(error), body)


def told(error: ChappeError) -> tuple[str, str | None]:
    """Message and parameter, short: a client may name its parameters with a megabyte, and does not get it back."""
    param = error.param
    return error.message[:_MAX_MESSAGE], None if param is None else param[:_MAX_PARAM]


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
        case Unavailable() | RequestInProgress():
            headers = [(b"retry-after", b"1")]
        case Conflict():
            # OpenAI's clients would send it again by themselves, and get no other answer.
            headers = [(b"x-should-retry", b"false")]
    if isinstance(error, RequestLimitExceeded):
        headers += rate_headers(error.limit, 0, error.retry_after_s, error.unit)
    return headers


def rate_headers(limit: int, remaining: int, reset_s: float, unit: str = "requests") -> Headers:
    """OpenAI's three headers for a limit of requests or tokens."""
    name_limit, name_remaining, name_reset = _RATE_NAMES[unit]
    return [
        (name_limit, b"%d" % limit),
        (name_remaining, b"%d" % max(0, remaining)),
        (name_reset, b"%ds" % math.ceil(reset_s)),
    ]
