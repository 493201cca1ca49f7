"""A gateway's heartbeat says how many requests of each deployment are in flight."""

import asyncio

from chappe_kernel.wire.control import DeploymentLoad
from tests.gateway.fake_control import CHAT, EMBEDDINGS
from tests.gateway.scripted_engine import Script
from tests.gateway.world import RawClient, World, auth, chat_body, until


async def test_requests_count_from_admission_until_they_are_settled(world: World) -> None:
    held = asyncio.Event()
    world.engine.script = Script(tokens=3, held=held)
    async with world.gateway(heartbeat_s=0.02) as gateway:
        await until(lambda: bool(world.control.heartbeats))
        assert world.control.heartbeats[-1].loads == ()
        asked = [
            asyncio.create_task(gateway.http.post("/v1/chat/completions", json=chat_body(), headers=auth(world.key)))
            for _ in range(3)
        ]
        embedded = {"model": EMBEDDINGS, "input": "bonjour"}
        asked.append(asyncio.create_task(gateway.http.post("/v1/embeddings", json=embedded, headers=auth(world.key))))
        seen = (DeploymentLoad(EMBEDDINGS, 1), DeploymentLoad(CHAT, 3))
        await until(lambda: world.control.heartbeats[-1].loads == seen)
        held.set()
        assert {answer.status_code for answer in await asyncio.gather(*asked)} == {200}
        await until(lambda: world.control.heartbeats[-1].loads == ())


async def test_a_request_that_is_refused_or_left_stays_in_no_count(world: World) -> None:
    world.engine.script = Script(tokens=1000, delay_s=0.01)
    poor = world.control.new_key(world.control.new_tenant(funds_nano=0))
    async with world.gateway(heartbeat_s=0.02, record_wait_s=0.1) as gateway:
        answer = await gateway.http.post("/v1/chat/completions", json=chat_body(), headers=auth(poor))
        assert answer.status_code == 402
        async with RawClient.to(gateway.port) as client:
            client.send_chat(world.key, stream=True)
            await client.read_head()
            await until(lambda: world.control.heartbeats[-1].loads == (DeploymentLoad(CHAT, 1),))
        await until(lambda: world.control.heartbeats[-1].loads == ())
        assert gateway.gateway.loads() == ()
