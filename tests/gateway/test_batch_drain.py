"""A gateway that was told to stop begins no line of a batch any more, while its streams come to their ends."""

import asyncio
import signal
from pathlib import Path

from openai import AsyncOpenAI

from tests.gateway.fake_control import CHAT
from tests.gateway.scripted_engine import Script
from tests.gateway.servers import free_port
from tests.gateway.test_batches import begin, lines_of, until_over
from tests.gateway.test_files import line
from tests.gateway.test_kept_responses import keeping
from tests.gateway.test_processes import is_up, process
from tests.gateway.world import RawClient, World, until

__all__ = ["keeping"]
_LINES = 8
_BEGIN = 2


def lines_begun(world: World) -> int:
    return sum(b'"stream":true' not in seen.body for seen in world.engine.generations())


async def test_no_line_begins_while_a_gateway_drains_and_another_goes_on(keeping: World, tmp_path: Path) -> None:
    held = asyncio.Event()
    keeping.engine.script = Script(tokens=3, delay_s=0.2, held=held)
    # A stream and two lines run, and one place is left to others; the other lines of those at once wait for their turn.
    keeping.control.capacities[CHAT] = 4
    ports = [free_port(), free_port()]
    with process(keeping, tmp_path / "gw-0.log", "gw-0", ports[0]) as draining:
        await is_up(draining, ports[0])
        async with RawClient.to(ports[0]) as client, _openai(keeping, ports[0]) as openai:
            client.send_chat(keeping.key, stream=True)
            await until(lambda: len(keeping.engine.generations()) == 1)
            batch = await begin(openai, [line(number, max_tokens=3) for number in range(_LINES)])
            await until(lambda: lines_begun(keeping) == _BEGIN)
            draining.send_signal(signal.SIGTERM)
            async with asyncio.timeout(10):
                while await _takes_clients(ports[0]):  # noqa: ASYNC110 -- another process's doing
                    await asyncio.sleep(0.02)
            held.set()
            async with asyncio.timeout(10):
                assert b"data: [DONE]" in await client.reader.read(-1)
        await until(lambda: draining.poll() is not None, 10)
    assert lines_begun(keeping) == _BEGIN
    with process(keeping, tmp_path / "gw-1.log", "gw-1", ports[1]) as other:
        await is_up(other, ports[1])
        async with _openai(keeping, ports[1]) as openai:
            done = await until_over(openai, batch)
            answers = await lines_of(openai, done.output_file_id)
    assert done.request_counts is not None
    assert done.request_counts.to_dict() == {"total": _LINES, "completed": _LINES, "failed": 0}
    assert len(answers) == _LINES


async def _takes_clients(port: int) -> bool:
    try:
        async with RawClient.to(port):
            return True
    except ConnectionRefusedError:
        return False


def _openai(world: World, port: int) -> AsyncOpenAI:
    return world.openai(f"http://127.0.0.1:{port}")
