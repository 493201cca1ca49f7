"""Calls to the region's engines. No header of a client's goes upstream, and no engine's header comes back."""

from collections.abc import Callable
from typing import Literal

import msgspec

from chappe_gateway.admission import Admitted
from chappe_gateway.edge.call import Call
from chappe_gateway.edge.errors import EngineFailed
from chappe_gateway.engines.upstream import Exchange, UpstreamLost
from chappe_gateway.gateway import Gateway
from chappe_gateway.usage.slips import Slip
from chappe_kernel.errors import ChappeError, Invalid, Unavailable
from chappe_kernel.wire.engine import CountReply, CountRequest, EmbedRequest, EngineError, GenerateRequest

Verb = Literal["generate", "embed", "count"]
MakeRequest = Callable[[int], GenerateRequest | EmbedRequest]
"""The engine's request for an attempt's number."""

ATTEMPTS = 2
_OK = 200
_SERVICE_UNAVAILABLE = 503
_MAX_ERROR_BYTES = 64 * 1024
_MAX_MESSAGE_CHARACTERS = 500
_COUNT_TIMEOUT_S = 5.0
_JSON_HEADERS = b"content-type: application/json\r\n"


class Answered:
    """Which attempt answered; known before its answer is, so that a disconnect finds the right record."""

    __slots__ = ("attempt",)

    def __init__(self) -> None:
        self.attempt = 0


async def open_exchange(
    gateway: Gateway, call: Call, deployment: str, verb: Verb, *, make_request: MakeRequest, answered: Answered
) -> Exchange:
    """An exchange whose head is 200, at the second attempt if the first found no engine.

    Raises `Invalid` and `Unavailable` for what the engine refused, `EngineFailed`, `UpstreamLost` (also when the call
    was cut or its client has left, which the call says).
    """
    if not gateway.breakers.take(deployment):
        raise Unavailable("the model does not answer in this region now", code="model_unavailable")
    for attempt in range(1, ATTEMPTS + 1):
        if call.cut:
            # While it waited for its turn; the engine need not hear of it at all.
            raise UpstreamLost("the call was cut")
        answered.attempt = attempt
        body = msgspec.json.encode(make_request(attempt))
        try:
            exchange = await _send(gateway, call, _path(deployment, verb), body, fresh=attempt > 1)
        except UpstreamLost:
            if call.gone or call.cut:
                gateway.breakers.forget(deployment)
            elif attempt == ATTEMPTS:
                # The first may have met a kept connection that the other side was just closing.
                gateway.breakers.failed(deployment)
            if attempt == ATTEMPTS or call.gone or call.cut:
                raise
            continue
        if exchange.status == _OK:
            gateway.breakers.succeeded(deployment)
            return exchange
        status = exchange.status
        error = await _refusal(gateway, call, exchange, deployment)
        if status != _SERVICE_UNAVAILABLE or attempt == ATTEMPTS or call.gone or call.cut:
            raise error
    raise EngineFailed("no engine answers")


def sealed_slip(gateway: Gateway, call: Call, admitted: Admitted) -> str:
    """What the engine's records carry, so that the request is charged even if this gateway dies now."""
    facts, version = admitted.visitor.facts, admitted.offer.price_version
    return gateway.witnesses.seal.seal(
        Slip(
            request_id=call.id,
            tenant_id=facts.tenant_id,
            project_id=facts.project_id,
            key_id=facts.key_id,
            grant_id=admitted.hold.grant.grant_id,
            price_version=version.id,
            listing=admitted.offer.listing.name,
            price=msgspec.structs.astuple(version.price),
            hold_nano=admitted.hold.amount_nano,
            max_prompt_tokens=admitted.bounds.prompt_tokens,
            max_completion_tokens=admitted.bounds.completion_tokens,
            started_at=call.started_at,
            idempotency_digest=call.charged_once_by,
        )
    )


def release(gateway: Gateway, call: Call, exchange: Exchange) -> None:
    """Give the connection back. From here on it may be another call's, and this one must not close it."""
    call.exchange = None
    gateway.engines.release(exchange)


async def count_prompt(gateway: Gateway, deployment: str, request: CountRequest) -> int | None:
    """The prompt's exact number of tokens, or `None` when the engine does not say in time."""
    try:
        return await count_exactly(gateway, deployment, request)
    except ChappeError:
        return None


async def count_exactly(gateway: Gateway, deployment: str, request: CountRequest) -> int:
    """As `count_prompt`, for a client who asks. Raises `Invalid` for what the engine refuses, and `Unavailable`."""
    try:
        reply = await gateway.engines.fetch(
            b"POST",
            _path(deployment, "count"),
            _JSON_HEADERS,
            msgspec.json.encode(request),
            timeout_s=_COUNT_TIMEOUT_S,
            limit_bytes=_MAX_ERROR_BYTES,
        )
        if reply.status == _OK:
            return msgspec.json.decode(reply.body, type=CountReply).prompt_tokens
        refusal = msgspec.json.decode(reply.body, type=EngineError)
    except (UpstreamLost, TimeoutError, msgspec.DecodeError, UnicodeDecodeError):
        raise Unavailable("the model does not count now; try again", code="model_unavailable") from None
    raise _explained(refusal)


async def _send(gateway: Gateway, call: Call, path: bytes, body: bytes, *, fresh: bool) -> Exchange:
    trace = gateway.trace_of(call)
    headers = b"%bx-request-id: %b\r\n%b" % (
        _JSON_HEADERS,
        call.public_id.encode(),
        b"" if trace is None else trace.lines(),
    )
    with_others = len(gateway.live) > 1
    exchange = await gateway.engines.send(b"POST", path, headers, body, fresh=fresh, with_others=with_others)
    call.exchange = exchange
    if call.gone or call.cut:
        # It happened while we were connecting, when there was nothing yet to close.
        exchange.abort()
    await exchange.head()
    return exchange


async def _refusal(gateway: Gateway, call: Call, exchange: Exchange, deployment: str) -> ChappeError:
    """What to tell the client. Only an engine's own words on a bad request are passed on, and not many of them.

    Whatever an engine itself says is about the request; without one the deployment has failed.
    """
    try:
        body = await exchange.read_all(_MAX_ERROR_BYTES)
        error = msgspec.json.decode(body, type=EngineError)
        gateway.breakers.succeeded(deployment)
    except (UpstreamLost, msgspec.DecodeError, UnicodeDecodeError):
        gateway.breakers.failed(deployment)
        # Serve's own words: 503 is its back-pressure, or that no replica is up.
        error = EngineError("overloaded" if exchange.status == _SERVICE_UNAVAILABLE else "internal", "")
    finally:
        release(gateway, call, exchange)
    return _explained(error)


def _explained(error: EngineError) -> ChappeError:
    match error.code:
        case "context_length_exceeded" | "invalid_request":
            return Invalid(error.message[:_MAX_MESSAGE_CHARACTERS], code=error.code, param=error.param)
        case "overloaded":
            return Unavailable("the model is busy; try again", code="overloaded")
        case _:
            return EngineFailed("the engine failed; nothing was charged")


def _path(deployment: str, verb: Verb) -> bytes:
    return b"/%b/%b" % (deployment.encode(), verb.encode())
