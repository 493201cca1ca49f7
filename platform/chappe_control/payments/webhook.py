"""`POST /webhooks/stripe`: where the payment service tells what happened. What it tells is only a reason to look."""

from http import HTTPStatus
from typing import Any

import structlog
from litestar import Request, Router, post
from msgspec import Struct

from chappe_billing.payments.port import NotGenuine, TryLater
from chappe_control.state import Given
from chappe_kernel.errors import Invalid, Unavailable

PATH = "/webhooks"
_SIGNATURE = "stripe-signature"
_MAX_BODY_BYTES = 256 * 1024
_log = structlog.get_logger()


class Taken(Struct, frozen=True):
    received: bool = True


@post("/stripe", include_in_schema=False, status_code=HTTPStatus.OK)
async def take_event(request: Request[Any, Any, Any], services: Given) -> Taken:
    """Takes no other authentication than the signature over the body's very bytes. Says nothing of what it did."""
    raw = await request.body()
    try:
        await services.payments.hear(raw, request.headers.get(_SIGNATURE))
    except NotGenuine as error:
        _log.warning("payment_event_refused", reason=error.detail)
        raise Invalid("this is no event of ours", code="invalid_signature") from None
    except TryLater as error:
        raise Unavailable("it cannot be looked up now", code="payment_service_unavailable") from error
    return Taken()


def make_router() -> Router:
    return Router(PATH, route_handlers=[take_event], request_max_body_size=_MAX_BODY_BYTES)
