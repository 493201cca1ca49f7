"""A client that leaves, at any moment: the engine stops within a second, its slot is free, and there is one event."""

import asyncio
import json
import time

import httpx
import msgspec
import pytest

from chappe_kernel.ids import REQUEST, encode_id
from chappe_kernel.wire.engine import EngineHealth
from tests.cell_faults.test_deaths import cost_nano, delivering
from tests.chaos.load import PATH, Seen, ask
from tests.chaos.realm import Payer, Realm
from tests.control.world import CHAT
from tests.gateway.world import RawClient, chat_body

pytestmark = [pytest.mark.alone, pytest.mark.timeout(240)]  # it measures a second
STOPS_WITHIN_S = 1.0


async def idle(realm: Realm) -> None:
    """No replica runs anything. They share a port: several answers in a row are of all of them."""
    quiet = 0
    async with asyncio.timeout(20):
        while quiet < 12:
            async with httpx.AsyncClient() as http:
                answer = await http.get(f"{realm.url('engine')}/{CHAT}/health")
            running = msgspec.json.decode(answer.content, type=EngineHealth).running
            quiet = 0 if running else quiet + 1
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("chunk", [1, 10, 60])
async def test_at_a_chunk(realm: Realm, payer: Payer, http: httpx.AsyncClient, chunk: int) -> None:
    await realm.start("gw-leaving")
    seen = Seen(payer)
    asking = asyncio.create_task(ask(http, realm.url("gw-leaving"), payer, seen=seen))
    await delivering(seen, chunk)
    asking.cancel()
    await asyncio.wait([asking])
    left_at = time.monotonic()
    assert seen.request_id is not None
    event = await realm.event(seen.request_id)
    made = [token for token in realm.truth() if token.request_id == encode_id(REQUEST, seen.request_id)]
    assert made[-1].at - left_at < STOPS_WITHIN_S
    assert (event["outcome"], event["completion_tokens"]) == ("disconnected", len(made))
    assert event["amount_nano"] == cost_nano(event["prompt_tokens"], len(made))
    await idle(realm)


async def test_before_the_head_of_the_answer(realm: Realm, payer: Payer) -> None:
    await realm.start("gw-early")
    # 1,500 words are three quarters of a second of prefill.
    body = json.dumps(chat_body("word " * 1500, stream=True, max_tokens=100)).encode()
    async with RawClient.to(realm.port("gw-early")) as client:
        client.send_head(PATH, payer.key, content_length=str(len(body)))
        client.writer.write(body)
        await asyncio.sleep(0.3)

    async def is_posted() -> bool:
        return bool(await realm.rows("SELECT 1 FROM usage_event WHERE tenant_id = $1", payer.tenant_id))

    await realm.until(is_posted)
    await idle(realm)
    [event] = await realm.rows("SELECT * FROM usage_event WHERE tenant_id = $1", payer.tenant_id)
    assert (event["outcome"], event["completion_tokens"]) == ("disconnected", 0)
    # Its prefill had begun, and that is what it costs.
    assert event["prompt_tokens"] == 1504
    assert event["amount_nano"] == cost_nano(1504, 0)
