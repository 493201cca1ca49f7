"""The problems that a route can answer with, as the OpenAPI document says them."""

from http import HTTPStatus

from litestar.openapi.datastructures import ResponseSpec

from chappe_control.problems import PROBLEM_JSON, Problem

_ALWAYS = (
    HTTPStatus.UNAUTHORIZED,
    HTTPStatus.FORBIDDEN,
    HTTPStatus.TOO_MANY_REQUESTS,
    HTTPStatus.INTERNAL_SERVER_ERROR,
    HTTPStatus.SERVICE_UNAVAILABLE,
)
_TEXTS = {
    HTTPStatus.BAD_REQUEST: "A parameter or the body is wrong; `param` names the field.",
    HTTPStatus.UNAUTHORIZED: "Nobody that we know: no credentials, or some that open nothing (any more).",
    HTTPStatus.FORBIDDEN: "Your role or your key may not do this, or the organisation is not active.",
    HTTPStatus.NOT_FOUND: "It does not exist, or belongs to somebody else.",
    HTTPStatus.CONFLICT: "It contradicts the present state.",
    HTTPStatus.PRECONDITION_FAILED: "It has changed since you read it: `If-Match` names another state.",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "The body is over 64 KiB.",
    HTTPStatus.PRECONDITION_REQUIRED: "`If-Match` is missing.",
    HTTPStatus.TOO_MANY_REQUESTS: "Too many calls in this minute; see `Retry-After`.",
    HTTPStatus.INTERNAL_SERVER_ERROR: "The fault is ours.",
    HTTPStatus.SERVICE_UNAVAILABLE: "We cannot do it now; try again.",
}


def problems(*statuses: HTTPStatus) -> dict[int, ResponseSpec]:
    """For a handler's `responses`: these, and those that every route has."""
    return _just(*statuses, *_ALWAYS)


def _just(*statuses: HTTPStatus) -> dict[int, ResponseSpec]:
    return {
        status.value: ResponseSpec(
            data_container=Problem, description=_TEXTS[status], media_type=PROBLEM_JSON, generate_examples=False
        )
        for status in sorted(set(statuses))
    }


LIST = problems(HTTPStatus.BAD_REQUEST)
CREATE = problems(
    HTTPStatus.BAD_REQUEST, HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT, HTTPStatus.REQUEST_ENTITY_TOO_LARGE
)
READ = problems()
READ_ONE = problems(HTTPStatus.BAD_REQUEST, HTTPStatus.NOT_FOUND)
CHANGE = problems(
    HTTPStatus.BAD_REQUEST,
    HTTPStatus.NOT_FOUND,
    HTTPStatus.CONFLICT,
    HTTPStatus.PRECONDITION_FAILED,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    HTTPStatus.PRECONDITION_REQUIRED,
)
REVOKE = problems(HTTPStatus.BAD_REQUEST, HTTPStatus.NOT_FOUND)
REMOVE = problems(HTTPStatus.BAD_REQUEST, HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT)
REPORT = _just(
    HTTPStatus.BAD_REQUEST,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    HTTPStatus.TOO_MANY_REQUESTS,
    HTTPStatus.INTERNAL_SERVER_ERROR,
    HTTPStatus.SERVICE_UNAVAILABLE,
)
"""Of a route that takes no authentication."""
