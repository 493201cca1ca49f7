"""The one place where errors become HTTP: RFC 9457 problems. Nothing internal gets out, nothing secret gets logged."""

import traceback
from http import HTTPStatus
from typing import Any

import structlog
from litestar import Request, Response
from litestar.exceptions import HTTPException
from msgspec import UNSET, Struct, UnsetType
from sqlalchemy.exc import DBAPIError

from chappe_kernel.errors import (
    ChappeError,
    Conflict,
    Denied,
    InsufficientFunds,
    Invalid,
    LimitExceeded,
    NotFound,
    Stale,
    TooLarge,
    Unauthenticated,
    Unavailable,
    Unconditional,
)

PROBLEM_JSON = "application/problem+json"
MAX_DETAIL_LENGTH = 300

_STATUSES: dict[type[ChappeError], HTTPStatus] = {
    TooLarge: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    Unconditional: HTTPStatus.PRECONDITION_REQUIRED,
    Invalid: HTTPStatus.BAD_REQUEST,
    Unauthenticated: HTTPStatus.UNAUTHORIZED,
    InsufficientFunds: HTTPStatus.PAYMENT_REQUIRED,
    Denied: HTTPStatus.FORBIDDEN,
    NotFound: HTTPStatus.NOT_FOUND,
    Stale: HTTPStatus.PRECONDITION_FAILED,
    Conflict: HTTPStatus.CONFLICT,
    LimitExceeded: HTTPStatus.TOO_MANY_REQUESTS,
    Unavailable: HTTPStatus.SERVICE_UNAVAILABLE,
}
_CODES = {
    HTTPStatus.NOT_FOUND: "not_found",
    HTTPStatus.METHOD_NOT_ALLOWED: "method_not_allowed",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "request_too_large",
}
# SQLSTATE classes and codes: 22 is data that a column cannot hold (a NUL, a number out of range), so the caller's;
# the others pass by themselves: lost connections, full servers, deadlocks, locks and statements that took too long.
_CALLERS_DATA = "22"
_PASSING = ("08", "40", "53", "57", "55P03")

_log = structlog.get_logger()


class Problem(Struct, frozen=True, omit_defaults=True):
    """RFC 9457. `code` is stable and for programs, `detail` is for a person, `param` names the offending field."""

    title: str
    status: int
    detail: str
    code: str
    param: str | UnsetType = UNSET


def handle_chappe_error(_: Request[Any, Any, Any], error: ChappeError) -> Response[Problem]:
    return _problem(error)


def handle_http_exception(_: Request[Any, Any, Any], error: HTTPException) -> Response[Problem]:
    """What the framework itself refuses: unknown paths, methods, parameters, bodies."""
    status = HTTPStatus(error.status_code)
    if status is HTTPStatus.INTERNAL_SERVER_ERROR:
        return _internal_error(error)
    first = error.extra[0] if isinstance(error.extra, list) and error.extra else {}
    param = first.get("key", UNSET) if isinstance(first, dict) else UNSET
    # A message of the framework's own names the URL at most; its text on parameters is msgspec's, without the value.
    detail = first["message"] if param is not UNSET else status.phrase
    headers = {"allow": error.headers["allow"]} if error.headers and "allow" in error.headers else {}
    return _answer(status, _CODES.get(status, "invalid_request"), detail, param=param, headers=headers)


def handle_database_error(_: Request[Any, Any, Any], error: DBAPIError) -> Response[Problem]:
    sqlstate = str(getattr(error.orig, "sqlstate", None) or "")
    if sqlstate.startswith(_CALLERS_DATA):
        return _problem(Invalid("the request holds a value that cannot be stored"))
    if error.connection_invalidated or sqlstate.startswith(_PASSING):
        _log.warning("database_unavailable", sqlstate=sqlstate, error=type(error.orig).__name__)
        return _problem(Unavailable("the database cannot do this now", code="database_unavailable"))
    return _internal_error(error)


def handle_lost_connection(_: Request[Any, Any, Any], error: OSError) -> Response[Problem]:
    _log.warning("connection_lost", error=type(error).__name__)
    return _problem(Unavailable("a part that this needs does not answer"))


def handle_unexpected(_: Request[Any, Any, Any], error: Exception) -> Response[Problem]:
    return _internal_error(error)


EXCEPTION_HANDLERS: dict[int | type[Exception], Any] = {
    ChappeError: handle_chappe_error,
    HTTPException: handle_http_exception,
    DBAPIError: handle_database_error,
    OSError: handle_lost_connection,
    Exception: handle_unexpected,
}


def _problem(error: ChappeError) -> Response[Problem]:
    status = next(_STATUSES[cls] for cls in type(error).__mro__ if cls in _STATUSES)
    headers = {}
    if status is HTTPStatus.UNAUTHORIZED:
        headers["www-authenticate"] = "Bearer"
    elif isinstance(error, LimitExceeded):
        headers["retry-after"] = str(max(1, round(error.retry_after_s)))
    elif status is HTTPStatus.SERVICE_UNAVAILABLE:
        headers["retry-after"] = "1"
    param = UNSET if error.param is None else error.param
    return _answer(status, error.code, error.message, param=param, headers=headers)


def _internal_error(error: Exception) -> Response[Problem]:
    # Neither the error's text nor its arguments: a database driver puts the statement's values in there.
    frames = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in traceback.extract_tb(error.__traceback__)]
    _log.error("internal_error", error=type(error).__qualname__, frames=frames)
    return _answer(HTTPStatus.INTERNAL_SERVER_ERROR, "internal_error", "the fault is ours; it has been noted")


def _answer(
    status: HTTPStatus,
    code: str,
    detail: str,
    *,
    param: str | UnsetType = UNSET,
    headers: dict[str, str] | None = None,
) -> Response[Problem]:
    problem = Problem(
        title=status.phrase, status=status.value, detail=detail[:MAX_DETAIL_LENGTH], code=code, param=param
    )
    return Response(problem, status_code=status.value, media_type=PROBLEM_JSON, headers=headers or {})
