"""Two tenants who always have something waiting, at real gateway processes before whatever serves: who got how much."""

import asyncio
import json
from dataclasses import dataclass, field

import httpx

from chappe_kernel.fairness.counters import cost_of
from tests.gateway.cell import PATH, Cell
from tests.gateway.world import auth, chat_body

MAX_TOKENS = 16
_PROMPT = "Tell me about hills, towers and the sea."


def largest_bound(template_tokens: int) -> int:
    """The most weighted tokens that a request of theirs may cost, as a gateway reckons."""
    return cost_of(len(json.dumps(_body()).encode()) + template_tokens, MAX_TOKENS)


def _body() -> dict[str, object]:
    return chat_body(_PROMPT, stream=True, max_tokens=MAX_TOKENS, stream_options={"include_usage": True})


@dataclass
class Service:
    """Weighted tokens that each was served, counted as they come: the prompt with the first token, then each token."""

    names: tuple[str, str]
    served: dict[str, int] = field(default_factory=dict)
    answers: int = 0
    widest: int = 0
    """The greatest difference over any time since `begin`."""
    _least: int = 0
    _most: int = 0
    _counting: bool = False
    _prompt_tokens: int = 0

    def begin(self) -> None:
        self.served = dict.fromkeys(self.names, 0)
        self._counting = True

    def add(self, name: str, cost: int) -> None:
        if self._counting:
            self.served[name] += cost
            one, two = (self.served[each] for each in self.names)
            self._least, self._most = min(self._least, one - two), max(self._most, one - two)
            self.widest = self._most - self._least

    def first_token(self, name: str) -> None:
        """The prompt is the same each time: what it costs is known from the first answer on."""
        self.add(name, cost_of(self._prompt_tokens, 0))

    def end(self, name: str, prompt_tokens: int, completion_tokens: int, counted: int) -> None:
        """Whatever was not in a piece of its own."""
        self._prompt_tokens = prompt_tokens
        self.answers += 1
        self.add(name, cost_of(0, completion_tokens - counted))


async def keep_asking(cell: Cell, service: Service, clients: dict[str, list[str]], keys: dict[str, str]) -> None:
    """`clients`: for each tenant the gateways at which one client each asks, again and again, until it is cancelled."""

    async def client(name: str, gateway: str) -> None:
        url = f"http://127.0.0.1:{cell.ports[gateway]}"
        async with httpx.AsyncClient(base_url=url, timeout=300) as http:
            while True:
                await _ask(http, service, name, keys[name])

    async with asyncio.TaskGroup() as tasks:
        for name, gateways in clients.items():
            for gateway in gateways:
                tasks.create_task(client(name, gateway))


async def _ask(http: httpx.AsyncClient, service: Service, name: str, key: str) -> None:
    counted = 0
    async with http.stream("POST", PATH, json=_body(), headers=auth(key)) as answer:
        assert answer.status_code == 200, await answer.aread()
        async for line in answer.aiter_lines():
            if not line.startswith("data: {"):
                continue
            event = json.loads(line.removeprefix("data: "))
            if any(choice["delta"].get("content") for choice in event["choices"]):
                if not counted:
                    service.first_token(name)
                counted += 1
                service.add(name, cost_of(0, 1))
            if usage := event.get("usage"):
                service.end(name, usage["prompt_tokens"], usage["completion_tokens"], counted)
