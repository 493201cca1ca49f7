"""A client that behaves, beside those that do not: what it feels is what they cost."""

import asyncio
import contextlib
import math
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import httpx

from tests.bad_clients.process import GatewayProcess
from tests.gateway.world import World, auth, chat_body

_PATH = "/v1/chat/completions"
_PAUSE_S = 0.005
_WORSE = 8
"""So many times its own baseline, and the slack beyond it: these tests run alone, but the client shares the machine."""
_SLACK_S = 0.25


@dataclass
class Neighbour:
    """Asks one question after another, sees that each is answered, and how long that took."""

    http: httpx.AsyncClient
    key: str
    took_s: list[float] = field(default_factory=list)
    request_ids: list[str] = field(default_factory=list)
    healths: list[int] = field(default_factory=list)

    async def ask(self) -> None:
        began = time.monotonic()
        answer = await self.http.post(_PATH, json=chat_body(max_tokens=2), headers=auth(self.key))
        self.took_s.append(time.monotonic() - began)
        assert answer.status_code == httpx.codes.OK, answer.text
        self.request_ids.append(answer.headers["x-request-id"])

    async def baseline(self, questions: int = 60) -> float:
        """Its p99 while it is alone, in seconds. What is asked from here on is measured anew."""
        for _ in range(questions):
            await self.ask()
            await asyncio.sleep(_PAUSE_S)
        alone, self.took_s = p99(self.took_s), []
        return alone

    async def keep_asking(self, gateway: GatewayProcess, until: asyncio.Event) -> None:
        """It looks at the gateway's health on new connections too."""
        async with httpx.AsyncClient(timeout=20) as checks:
            while not until.is_set():
                await self.ask()
                if len(self.took_s) % 10 == 1:
                    self.healths.append(await gateway.health(checks))
                await asyncio.sleep(_PAUSE_S)

    def check(self, alone_s: float) -> None:
        """It was served all the time, as well as a busy machine can, and health was green."""
        assert len(self.took_s) >= 10
        assert p99(self.took_s) <= _WORSE * alone_s + _SLACK_S, (p99(self.took_s), alone_s)
        assert set(self.healths) == {httpx.codes.OK}


def p99(values: list[float]) -> float:
    return sorted(values)[math.ceil(0.99 * len(values)) - 1]


@contextlib.asynccontextmanager
async def neighbour(world: World, gateway: GatewayProcess) -> AsyncIterator[Neighbour]:
    """Of another tenant."""
    async with httpx.AsyncClient(base_url=gateway.url, timeout=20) as http:
        yield Neighbour(http, world.control.new_key(world.control.new_tenant()))


@contextlib.asynccontextmanager
async def asking(one: Neighbour, gateway: GatewayProcess) -> AsyncIterator[None]:
    """Inside, the neighbour goes on asking. Raises what went wrong with it."""
    over = asyncio.Event()
    task = asyncio.create_task(one.keep_asking(gateway, over))
    try:
        yield
    finally:
        over.set()
        await task
