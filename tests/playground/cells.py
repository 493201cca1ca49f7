"""What a browser does with a token: it calls gateways from a page of the portal."""

import asyncio
import time
from dataclasses import dataclass

import httpx

from tests.gateway.scripted_engine import ScriptedEngine
from tests.pages.browser import PORTAL_URL
from tests.portal.world import CHAT, Customer


@dataclass(frozen=True)
class Gateways:
    """URLs by region."""

    urls: dict[str, str]
    engine: ScriptedEngine
    http: httpx.AsyncClient

    async def chat(self, token: str, region: str) -> httpx.Response:
        """A whole answer of two tokens."""
        body = {"model": CHAT, "messages": [{"role": "user", "content": "hello there"}], "max_tokens": 2}
        return await self.http.post(
            f"{self.urls[region]}/v1/chat/completions", headers=_headers(token, region), json=body
        )

    async def statuses(self, token: str) -> set[int]:
        """At every gateway, of a request that nobody pays for."""
        answers = await asyncio.gather(
            *(self.http.get(f"{url}/v1/models", headers=_headers(token, region)) for region, url in self.urls.items())
        )
        return {answer.status_code for answer in answers}

    async def seconds_until(self, token: str, wanted: int, *, at_most_s: float = 10.0) -> float:
        """How long until every gateway answers with this status."""
        began = time.monotonic()
        while (found := await self.statuses(token)) != {wanted}:
            assert time.monotonic() - began < at_most_s, found
            await asyncio.sleep(0.02)
        return time.monotonic() - began


def _headers(token: str, region: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}", "origin": PORTAL_URL, "x-chappe-region": region}


async def new_token(customer: Customer) -> str:
    answer = await customer.visitor.post_json("/playground/token")
    assert answer.status_code == 201, answer.text
    token: str = answer.json()["token"]
    return token
