"""Somebody who receives webhooks: verifies them with the SDK, and answers as a test says."""

import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import stripe

from tests.gateway.servers import app_config, free_port, serving

SECRET = "whsec_of_these_tests"


@dataclass
class Receiver:
    """`events` are those that were verified, in the order of their coming; `answer` gives each call's status."""

    url: str = ""
    events: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    answer: Callable[[int], int] = lambda _calls: 200
    calls: int = 0

    @property
    def types(self) -> list[str]:
        return [event["type"] for event in self.events]

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body = b""
        more = True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        self.headers.append(headers)
        self.calls += 1
        status = self.answer(self.calls)
        event = stripe.Webhook.construct_event(body, headers["stripe-signature"], SECRET, api_key="sk_test_x")
        if status == 200:
            self.events.append(event.to_dict())
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": b""})


@contextlib.asynccontextmanager
async def receiving() -> AsyncIterator[Receiver]:
    receiver = Receiver()
    port = free_port()
    async with serving(app_config(receiver, port)):
        receiver.url = f"http://127.0.0.1:{port}/hook"
        yield receiver
