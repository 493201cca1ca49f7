"""kill -9 of the gateways that run a batch: each line has one answer, and one charge."""

import asyncio
import random
from collections import Counter

from chappe_kernel.rating import Outcome
from tests.gateway.cell import MATCH_AFTER_S, Cell
from tests.gateway.test_batches import begin, lines_of, until_over
from tests.gateway.test_files import line
from tests.gateway.test_witnesses import cell, pytestmark, valkey

__all__ = ["cell", "pytestmark", "valkey"]
_LINES = 60
_AT_ONCE = 8
_DEATHS = 3
_LEASE_S = 1.5


async def test_each_line_has_one_answer_and_one_charge_whoever_dies(cell: Cell) -> None:
    world = cell.world
    world.control.change_key(world.key, content_kept_for_s=3600.0)
    settings = {"BATCH_LEASE_S": str(_LEASE_S), "BATCH_LINES_AT_ONCE": str(_AT_ONCE)}
    await asyncio.gather(cell.start_engine(100), *(cell.start_gateway(name, **settings) for name in ("gw-1", "gw-2")))
    chance = random.Random("batch")  # noqa: S311 -- a seed, and no secret
    lines = [line(number, max_tokens=80) for number in range(_LINES)]
    async with world.openai(f"http://127.0.0.1:{cell.ports['gw-1']}") as client:
        batch = await begin(client, lines)
    for _ in range(_DEATHS):
        await asyncio.sleep(chance.uniform(1.0, 2.0))
        # Both, so that whoever held it is dead.
        for dying in ("gw-1", "gw-2"):
            cell.kill(dying)
        await asyncio.gather(*(cell.start_gateway(name, **settings) for name in ("gw-1", "gw-2")))
    async with world.openai(f"http://127.0.0.1:{cell.ports['gw-2']}") as client:
        done = await until_over(client, batch, within_s=60)
        answers = await lines_of(client, done.output_file_id)
    assert done.request_counts is not None
    assert done.request_counts.to_dict() == {"total": _LINES, "completed": _LINES, "failed": 0}
    assert [answer["custom_id"] for answer in answers] == [one["custom_id"] for one in lines]
    assert len({answer["response"]["request_id"] for answer in answers}) == _LINES
    await asyncio.sleep(MATCH_AFTER_S)
    events = (await cell.settled()).values()
    # What an engine did for a run that died is charged in place of the next run's, never beside it: the control plane
    # posts the second event with a digest at zero.
    charged = Counter(event.idempotency_digest for event in events if event.amount_nano)
    assert None not in charged
    assert len(charged) == _LINES
    again = sum(charged.values()) - _LINES
    assert 0 < again <= _AT_ONCE * _DEATHS
    assert sum(event.outcome is Outcome.COMPLETED for event in events) >= _LINES - again
