"""OpenAI's own package for JavaScript works unchanged, under the locked Node."""

import asyncio
import json
import sys
from pathlib import Path

from tests.gateway.fake_control import CHAT, EMBEDDINGS
from tests.gateway.real_engine import real_engine
from tests.gateway.world import RunningGateway, World

NODE = Path(sys.executable).with_name("node")
WEB = Path(__file__).parents[2] / "platform/chappe_control/web"


async def test_every_call_is_answered_and_charged(world: World, gateway: RunningGateway) -> None:
    question = {"url": gateway.url, "key": world.key, "chat": CHAT, "embeddings": EMBEDDINGS}
    async with real_engine(world):
        pipe = asyncio.subprocess.PIPE
        node = await asyncio.create_subprocess_exec(
            str(NODE), "tests/openai.ts", stdin=pipe, stdout=pipe, stderr=pipe, cwd=WEB
        )
        out, err = await asyncio.wait_for(node.communicate(json.dumps(question).encode()), 60)
        assert node.returncode == 0, err.decode()
        await world.events(7)
    said = json.loads(out)
    assert said["models"] == [CHAT, EMBEDDINGS]
    assert said["refusal"] == {"status": 400, "code": "unsupported_parameter", "param": "n"}
    assert said["dimensions"] == 384
    assert said["streamed"] == {"text": said["whole"], "tokens": 5}
    assert said["azure"] == said["response"] == said["streamedResponse"] == said["whole"]
    assert len(said["completion"].split()) == 5
