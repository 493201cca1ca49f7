"""The program's HTTP: the API for programs, hosted pages for people, switches for tests."""

import asyncio
import base64
import binascii
import contextlib
import hmac
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, Final

import structlog
import uvicorn
from msgspec import Struct
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from chappe_local.stripe_stand_in import api, pages, switches
from chappe_local.stripe_stand_in.api import FOLLOWERS, TASKS, Answer, Call
from chappe_local.stripe_stand_in.deliveries import Courier
from chappe_local.stripe_stand_in.errors import StripeError, invalid
from chappe_local.stripe_stand_in.resources import events
from chappe_local.stripe_stand_in.store import Store
from chappe_local.stripe_stand_in.switches import Fault
from chappe_local.stripe_stand_in.world import API_VERSION, Endpoint, World, new_id

_log = structlog.get_logger()
_MOST_BYTES: Final = 1024 * 1024
_NAMES: Final = frozenset({"localhost", "127.0.0.1"})
"""It answers under the loopback's names alone: a page from elsewhere that points its own name here gets nothing."""
_OURS: Final = "/_switches"
_TRANSPORT: Final = "stand_in_transport"


class Config(Struct, frozen=True):
    """All that it is told. `state` is the file of its memory; `public_url` is where people reach its pages."""

    state: Path
    public_url: str
    api_key: str
    switch_token: str
    endpoints: tuple[Endpoint, ...] = ()


class Connection(HttpToolsProtocol):
    """Hands the connection itself to the application, which can then break it."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # it is given no other
        super().connection_made(transport)
        self.app_state = {**self.app_state, _TRANSPORT: transport}


class Request(Struct, frozen=True):
    method: str
    path: str
    query: bytes
    headers: dict[str, str]
    body: bytes


class StandIn:
    """The ASGI application. `clock` gives seconds since 1970; the switch `clock` adds to it."""

    def __init__(self, config: Config, clock: Callable[[], float] = time.time) -> None:
        self._config = config
        self._clock = clock
        self.store = Store(config.state)
        self._running_keys: set[str] = set()
        secrets = {name: one.secret for name, one in events.configured(config.endpoints).items()}
        self._courier = Courier(self.store, self.now, self._run_due, secrets)
        with self.store.transaction():
            events.configure(self._world(), config.endpoints)

    def now(self) -> float:
        """By its own clock. Inside a transaction only."""
        return self._clock() + float(self.store.setting("clock_offset_s", 0))

    @contextlib.asynccontextmanager
    async def delivering(self) -> AsyncIterator[asyncio.Task[None]]:
        """Webhooks are sent while the block lasts; the store is closed with it. Gives the task that sends: it ends
        before it is cancelled only by a bug of ours, which is raised at the end of the block."""
        task = asyncio.create_task(self._courier.run())
        try:
            yield task
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            self.store.close()

    async def __call__(self, scope: dict[str, Any], receive: Callable[[], Any], send: Callable[[Any], Any]) -> None:
        if scope["type"] != "http":
            return
        request = await _read(scope, receive)
        if request is None:
            await _send(send, 413, b"", {})
            return
        if request.headers.get("host", "").partition(":")[0] not in _NAMES:
            await _send(send, 403, b"", {})
            return
        if request.path == _OURS or request.path.startswith(f"{_OURS}/"):
            await self._switch(request, send)
            return
        if self._is_away():
            scope["state"][_TRANSPORT].abort()
            return
        if request.path.startswith(("/v1/", "/v2/")):
            await self._api(request, scope, receive, send)
        else:
            await self._page(request, send)

    async def _api(self, request: Request, scope: dict[str, Any], receive: Callable[[], Any], send: Any) -> None:
        headers = {"content-type": "application/json", "request-id": new_id("req", 14), "stripe-version": API_VERSION}
        key = request.headers.get("idempotency-key") if request.method == "POST" else None
        if key is not None:
            headers["idempotency-key"] = key
        fault = self._fault(request)
        if fault is not None and not fault.after_commit and await _goes_wrong(fault, scope, receive, send, headers):
            return
        found = await self._answer(request, key, fault, headers["request-id"])
        self._courier.wake()
        if fault is not None and fault.after_commit and await _goes_wrong(fault, scope, receive, send, headers):
            return
        if found.replayed:
            headers["idempotent-replayed"] = "true"
        await _send(send, found.status, found.body, headers)

    async def _answer(self, request: Request, key: str | None, fault: Fault | None, request_id: str) -> Answer:
        try:
            self._authenticate(request)
            self._refuse_running(key)
        except StripeError as error:
            return Answer(error.status, api.error_json(error))
        if key is not None:
            self._running_keys.add(key)
        try:
            if fault is not None and fault.do == "slow" and not fault.after_commit:
                await asyncio.sleep(fault.delay_s)
            version = request.headers.get("stripe-version")
            call = Call(request.method, request.path, request.query, request.body, key, version)
            with self.store.transaction():
                return api.answer(self._world(request_id, key), call)
        finally:
            if key is not None:
                self._running_keys.discard(key)

    def _refuse_running(self, key: str | None) -> None:
        if key in self._running_keys:
            raise StripeError(
                409,
                "idempotency_error",
                "There is currently another in-progress request using this Idempotent Key (that probably means you "
                f"submitted twice, and the other request is still going through): {key}. Please try again later.",
                code="idempotency_key_in_use",
            )

    async def _page(self, request: Request, send: Any) -> None:
        with self.store.transaction():
            shown = pages.show(self._world(), request.method, request.path, request.body)
        self._courier.wake()
        await _send(send, shown.status, shown.body, shown.headers)

    async def _switch(self, request: Request, send: Any) -> None:
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        headers = {"content-type": "application/json", "cache-control": "no-store"}
        if not hmac.compare_digest(token.encode(), self._config.switch_token.encode()):
            await _send(send, 401, b'{"error": "the switches need their token"}', headers)
            return
        try:
            with self.store.transaction():
                world = self._world()
                name = request.path.removeprefix(_OURS).strip("/")
                if request.method == "GET" and not name:
                    result = switches.state(world)
                elif request.method == "POST":
                    result = switches.run(world, name, request.body)
                else:
                    raise invalid("GET /_switches shows them, POST /_switches/NAME sets one.")
        except StripeError as error:
            await _send(send, error.status, api.error_json(error), headers)
            return
        self._run_due()
        self._courier.wake()
        await _send(send, 200, api.to_json({key: value for key, value in result.items() if key[0] != "_"}), headers)

    def _world(self, request_id: str | None = None, key: str | None = None) -> World:
        return World(
            store=self.store,
            now=int(self.now()),
            public_url=self._config.public_url,
            followers=FOLLOWERS,
            request_id=request_id,
            idempotency_key=key,
        )

    def _run_due(self) -> None:
        """Do what the clock has made due, one thing a transaction: a kill in between repeats nothing."""
        while True:
            with self.store.transaction():
                task = self.store.take_task(self.now())
                if task is None:
                    return
                action, subject = task
                try:
                    with self.store.attempt():
                        TASKS[action](self._world(), subject)
                except StripeError as error:
                    # Overtaken: a charge that was refunded cannot be disputed any more, for instance.
                    _log.info("task_without_effect", action=action, reason=str(error))

    def _fault(self, request: Request) -> Fault | None:
        with self.store.transaction():
            return switches.take_fault(self._world(), request.method, request.path)

    def _is_away(self) -> bool:
        with self.store.transaction():
            return bool(self.store.setting("away", default=False))

    def _authenticate(self, request: Request) -> None:
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "basic":
            try:
                given = base64.b64decode(given, validate=True).decode().partition(":")[0]
            except (binascii.Error, UnicodeDecodeError):
                given = ""
        if not given:
            raise StripeError(
                401,
                "invalid_request_error",
                "You did not provide an API key. You need to provide your API key in the Authorization header, using "
                "Bearer auth (e.g. 'Authorization: Bearer YOUR_SECRET_KEY').",
            )
        if not hmac.compare_digest(given.encode(), self._config.api_key.encode()):
            raise StripeError(401, "invalid_request_error", f"Invalid API Key provided: {given[:7]}***{given[-4:]}")


def serving(application: StandIn, port: int) -> uvicorn.Config:
    """How it is served: on the loopback alone."""
    return uvicorn.Config(
        application,
        host="127.0.0.1",
        port=port,
        http=Connection,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=2,
    )


async def _goes_wrong(fault: Fault, scope: Any, receive: Callable[[], Any], send: Any, headers: dict[str, str]) -> bool:
    """Whether the call ended here."""
    match fault.do:
        case "429":
            error = StripeError(
                429,
                "invalid_request_error",
                "Request rate limit exceeded. You can learn more about rate limits here https://stripe.com/docs/rate-limits.",
                code="rate_limit",
            )
            await _send(send, error.status, api.error_json(error), headers)
        case "500":
            error = StripeError(500, "api_error", "An unknown error occurred")
            await _send(send, error.status, api.error_json(error), headers)
        case "close":
            scope["state"][_TRANSPORT].abort()
        case "hang":
            while (await receive())["type"] != "http.disconnect":
                continue
        case "slow":
            if fault.after_commit:
                await asyncio.sleep(fault.delay_s)
            return False
    return True


async def _read(scope: dict[str, Any], receive: Callable[[], Any]) -> Request | None:
    """None: the body is larger than any that Stripe takes."""
    body = b""
    more = True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
        if len(body) > _MOST_BYTES:
            return None
    headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
    return Request(scope["method"], scope["path"], scope["query_string"], headers, body)


async def _send(send: Any, status: int, body: bytes, headers: dict[str, str]) -> None:
    encoded = [(name.encode(), value.encode("latin-1", "replace")) for name, value in headers.items()]
    encoded.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": status, "headers": encoded})
    await send({"type": "http.response.body", "body": body})
