"""The gateway's application: routes as raw ASGI handlers inside Litestar, one place where failures become answers."""

import asyncio
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import structlog
from litestar import Litestar, Request, Response, asgi
from litestar.exceptions import HTTPException
from litestar.handlers import ASGIRouteHandler
from litestar.types import ASGIApp, Receive, Scope, Send

from chappe_gateway.batches import routes as batches
from chappe_gateway.batches.runner import BatchRunner
from chappe_gateway.dialects import azure, chat, completions, embeddings, messages, models, responses
from chappe_gateway.edge import cors
from chappe_gateway.edge.call import Call, ClientGone
from chappe_gateway.edge.errors import answer_for, unknown_path
from chappe_gateway.files import routes as files
from chappe_gateway.gateway import Gateway
from chappe_gateway.limits.repeats import Repeated
from chappe_gateway.peers import peer_door
from chappe_kernel.errors import ChappeError, Invalid
from chappe_kernel.ids import REQUEST, encode_id, new_id

_log = structlog.get_logger()

Serve = Callable[[Gateway, Call], Awaitable[None]]

_DIRECT: dict[str, Serve] = {chat.PATH: chat.serve_chat, embeddings.PATH: embeddings.serve_embeddings}
_NO_CONTENT = 204
_NOT_FOUND = 404
_FRAMES_LOGGED = 8
_MOUNTS = (models.PATH, messages.PATH, azure.PATH, responses.PATH, files.PATH, batches.PATH)


def create_app(gateway: Gateway) -> ASGIApp:
    """The ASGI application of one gateway, which it starts and stops.

    The paths that earn the money are told apart here; everything else, what is wrong included, goes through Litestar.
    """
    direct = {path: _guarded(gateway, serve) for path, serve in _DIRECT.items()}
    litestar = _create_litestar(gateway)

    def app(scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        return (direct.get(scope.get("path", "")) or litestar)(scope, receive, send)

    return app


def _create_litestar(gateway: Gateway) -> Litestar:

    @asynccontextmanager
    async def lifespan(_: Litestar) -> AsyncIterator[None]:
        await gateway.start()
        gateway.batches = BatchRunner(gateway)
        running = asyncio.create_task(gateway.batches.run())
        try:
            yield
        finally:
            running.cancel()
            await gateway.batches.stop()
            await gateway.stop()

    def on_http_error(request: "Request[Any, Any, Any]", error: HTTPException) -> Response[bytes]:
        return _error_response(gateway, request, error)

    routes: dict[str, Serve] = {
        **_DIRECT,
        completions.PATH: completions.serve_completions,
        messages.PATH: messages.serve_messages,
        models.PATH: models.serve_models,
        azure.PATH: azure.serve_azure,
        responses.PATH: responses.serve_responses,
        files.PATH: files.serve_files,
        batches.PATH: batches.serve_batches,
        peer_door.PATH: peer_door.serve_peer,
        "/healthz": serve_health,
    }
    return Litestar(
        [_handler(path, gateway, serve) for path, serve in routes.items()],
        lifespan=[lifespan],
        exception_handlers={HTTPException: on_http_error},
        openapi_config=None,
        logging_config=None,
    )


async def serve_health(gateway: Gateway, call: Call) -> None:
    """200 while this gateway can serve; 503 without a recent snapshot, or without room for records."""
    call.expect_method("GET")
    ready = gateway.snapshots.is_fresh()
    status, word = (200, "ok") if ready else (503, "no_snapshot")
    await call.respond(status, [], msgspec.json.encode({"status": word, "region": gateway.settings.region}))


def _handler(path: str, gateway: Gateway, serve: Serve) -> ASGIRouteHandler:
    # Litestar 2.25 fails on path parameters of raw handlers; a mounted one gets the rest of the path instead.
    return asgi(path, copy_scope=False, is_mount=path in _MOUNTS)(_guarded(gateway, serve))


def _guarded(gateway: Gateway, serve: Serve) -> ASGIApp:
    """Whatever happens becomes an answer."""

    async def handle(scope: Scope, receive: Receive, send: Send) -> None:
        call = Call(scope, receive, send, gateway.clock, gateway.settings.region)
        try:
            if call.ticket is not None:
                peer_door.accept(gateway, call, call.ticket)
            if b"origin" in call.named and cors.is_from(call.headers, gateway.snapshots.portal_origin()):
                await _serve_portal_page(gateway, call, serve)
            else:
                await serve(gateway, call)
        except ClientGone:
            pass
        except Repeated as repeat:
            await call.respond_again(repeat.answer)
        except ChappeError as error:
            gateway.metrics.refused(error.code)
            peer_door.tell_not_admitted(call, error)
            if not call.response_started:
                await call.respond_error(error)
        except Exception as error:  # noqa: BLE001  # the edge: a defect is one request's failure, in the API's shape
            _log_defect(call, error)
            gateway.metrics.refused("internal")
            if not call.response_started:
                await call.respond_error(ChappeError("this is our fault, and it was recorded", code="internal"))
        finally:
            call.stop_watching()

    return handle


async def _serve_portal_page(gateway: Gateway, call: Call, serve: Serve) -> None:
    """A preflight is answered here, before anything is asked or counted."""
    call.edge_headers = cors.answer_headers(gateway.snapshots.portal_origin())
    allowed = cors.preflight_headers(call.headers) if call.method == "OPTIONS" else None
    if allowed is None:
        await serve(gateway, call)
    else:
        await call.start(_NO_CONTENT, allowed)
        await call.send_body(b"", more=False)


def _log_defect(call: Call, error: Exception) -> None:
    """Where it happened, without the error's own words: they may quote what a client sent."""
    frames = traceback.extract_tb(error.__traceback__)[-_FRAMES_LOGGED:]
    _log.error(
        "request_failed",
        request_id=call.public_id,
        error=type(error).__name__,
        where=[f"{frame.filename.rpartition('/')[2]}:{frame.lineno} {frame.name}" for frame in frames],
    )


def _error_response(gateway: Gateway, request: "Request[Any, Any, Any]", error: HTTPException) -> Response[bytes]:
    """What Litestar's router refuses, in OpenAI's shape."""
    failure: ChappeError = Invalid("this request is not understood")
    if error.status_code == _NOT_FOUND:
        failure = unknown_path()
    gateway.metrics.refused(failure.code)
    answer = answer_for(failure)
    portal_origin = gateway.snapshots.portal_origin()
    readable = cors.answer_headers(portal_origin) if cors.is_from(request.scope["headers"], portal_origin) else []
    return Response(
        answer.body,
        status_code=answer.status,
        media_type="application/json",
        headers={
            "x-request-id": encode_id(REQUEST, new_id()),
            "x-chappe-region": gateway.settings.region,
            **{name.decode(): value.decode() for name, value in readable},
        },
    )
