"""Clients of every kind: they stream or don't, leave early, ask again under the same `Idempotency-Key`."""

import asyncio
import contextlib
import random
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

import httpx

from chappe_kernel.ids import REQUEST, decode_id
from tests.chaos.realm import Payer
from tests.gateway.world import auth, chat_body

PATH = "/v1/chat/completions"
_TIMEOUT_S = 40.0
_PAUSE_S = 0.2


@dataclass
class Seen:
    """What one client saw of one request."""

    payer: Payer
    key: str | None = None
    request_id: UUID | None = None
    status: int = 0
    delivered: int = 0
    """Tokens."""
    whole: bool = False
    """It got all of an answer, to its last byte."""
    left: bool = False
    replayed: bool = False
    last: bytes = b""


async def ask(
    http: httpx.AsyncClient,
    url: str,
    payer: Payer,
    *,
    prompt: str = "hello",
    stream: bool = True,
    max_tokens: int = 120,
    leave_after_s: float | None = None,
    key: str | None = None,
    seen: Seen | None = None,
) -> Seen:
    """One request, whatever happens to whoever serves it. What is `seen` is there while it goes on."""
    seen = seen or Seen(payer, key)
    body = chat_body(prompt, stream=stream, max_tokens=max_tokens)
    headers = auth(payer.key) | ({} if key is None else {"idempotency-key": key})
    try:
        async with (
            asyncio.timeout(leave_after_s),
            http.stream("POST", url + PATH, json=body, headers=headers) as answer,
        ):
            seen.status = answer.status_code
            seen.request_id = decode_id(REQUEST, answer.headers["x-request-id"])
            seen.replayed = "idempotent-replayed" in answer.headers
            await (_read_stream if stream else _read_whole)(answer, seen)
    except TimeoutError:
        seen.left = True
    except httpx.TransportError:
        pass
    return seen


async def run_clients(
    urls: Sequence[str], payers: Sequence[Payer], *, clients: int, until: asyncio.Event, seed: str
) -> list[Seen]:
    """So many clients at once, each one request after the other, until `until` is set."""
    seen: list[Seen] = []
    limits = httpx.Limits(max_connections=2 * clients)
    async with httpx.AsyncClient(timeout=_TIMEOUT_S, limits=limits) as http, asyncio.TaskGroup() as group:

        async def client(number: int) -> None:
            dice = random.Random(f"{seed} {number}")  # noqa: S311 -- a test's dice
            asked = 0
            while not until.is_set():
                asked += 1
                key = f"{number}-{asked}" if dice.random() < 0.4 else None
                seen.extend(await _ask_often(http, urls, payers, dice, key=key))
                if seen[-1].status != httpx.codes.OK:
                    await asyncio.sleep(_PAUSE_S)

        for number in range(clients):
            group.create_task(client(number))
    return seen


async def _ask_often(
    http: httpx.AsyncClient, urls: Sequence[str], payers: Sequence[Payer], dice: random.Random, *, key: str | None
) -> list[Seen]:
    """Once, and if it came with a key once or twice again, perhaps of another gateway."""
    payer, stream, prompt = dice.choice(payers), dice.random() < 0.7, f"number {dice.random()}"
    leave = dice.choice([None, None, dice.uniform(0.05, 2.0)])
    waits = [leave, None, None][: 1 if key is None else dice.randint(2, 3)]
    return [
        await ask(http, dice.choice(urls), payer, prompt=prompt, stream=stream, leave_after_s=wait, key=key)
        for wait in waits
    ]


async def _read_stream(answer: httpx.Response, seen: Seen) -> None:
    async for part in answer.aiter_bytes():
        seen.delivered += part.count(b'"content":"') - part.count(b'"content":""')
        seen.last = (seen.last + part)[-1024:]
    seen.whole = seen.last.endswith(b"data: [DONE]\n\n")


async def _read_whole(answer: httpx.Response, seen: Seen) -> None:
    body = await answer.aread()
    if answer.status_code == httpx.codes.OK:
        with contextlib.suppress(ValueError):
            seen.delivered = answer.json()["usage"]["completion_tokens"]
            seen.whole = bool(body)
