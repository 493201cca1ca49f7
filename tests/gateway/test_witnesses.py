"""Whatever is killed, each request has exactly one event, and it charges what the engine durably reported.

Real processes, real sockets, a real Valkey with its access list.
"""

import asyncio
import random
import signal
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from uuid import UUID

import msgspec
import pytest
import redis.asyncio
from redis.exceptions import NoPermissionError

from chappe_kernel.ids import REQUEST, encode_id, new_id
from chappe_kernel.rating import NO_COUNTS, Counts, Outcome
from chappe_kernel.wire.control import UsageEvent
from chappe_kernel.wire.engine import RECORD_FIELD, RECORD_STREAM, End
from chappe_local import valkey as embedded
from tests.gateway.cell import MATCH_AFTER_S, Cell, new_cell
from tests.gateway.fake_control import PRICE
from tests.gateway.world import World, new_world, until
from tests.valkey_server import Valkey, start_valkey

REQUESTS = 12
pytestmark = pytest.mark.timeout(300)  # processes that start while others run


@pytest.fixture(scope="module")
def valkey() -> Iterator[Valkey]:
    with tempfile.TemporaryDirectory(prefix="cw-") as folder, start_valkey(Path(folder)) as running:
        yield running


@pytest.fixture
async def cell(valkey: Valkey, tmp_path: Path) -> AsyncIterator[Cell]:
    async with redis.asyncio.Redis.from_url(valkey.urls[embedded.CONTROL_USER]) as client:
        await client.delete(RECORD_STREAM)
    async with (
        new_world(valkey.urls[embedded.GATEWAY_USER], tmp_path) as world,
        new_cell(world, valkey, tmp_path) as running,
    ):
        yield running


def check(events: dict[UUID, UsageEvent], reports: dict[UUID, dict[int, Counts]], world: World) -> list[UsageEvent]:
    """One event a request, each as the outcome table has it; Σ engine tokens = Σ charged + Σ waived."""
    # The stand-in control plane refuses a second event under one id that is not the very same.
    assert world.control.other_stories == []
    assert set(reports) <= set(events)
    generated = charged = waived = 0
    for request_id, event in events.items():
        attempts = reports.get(request_id, {})
        made = {attempt: counts for attempt, counts in attempts.items() if counts.completion_tokens > 0}
        rated = (
            event.counts.prompt_tokens * PRICE.input_nano_per_token
            + event.counts.completion_tokens * PRICE.output_nano_per_token
        )
        assert event.amount_nano == rated <= event.hold_nano
        if event.outcome is not Outcome.FAILED:
            assert event.counts == attempts.get(event.attempt, NO_COUNTS) == (event.generated or NO_COUNTS)
        if event.settled_by == "engine":
            assert event.attempt == max(made or attempts)
            assert event.counts == (made[event.attempt] if made else NO_COUNTS)
        tokens = sum(counts.completion_tokens for counts in attempts.values())
        generated += tokens
        charged += event.counts.completion_tokens
        assert event.counts.completion_tokens <= tokens
        waived += tokens - event.counts.completion_tokens
    assert generated == charged + waived
    assert generated > 0
    assert world.control.posted_nano(world.tenant) == sum(event.amount_nano for event in events.values())
    return [event for event in events.values() if event.settled_by == "engine"]


@pytest.mark.parametrize(("gateways", "tokens_per_s"), [(1, 200), (2, 60)])
async def test_a_gateway_killed_among_many_streams_loses_no_charge(
    cell: Cell, gateways: int, tokens_per_s: int
) -> None:
    dice = random.Random(gateways)  # noqa: S311 -- a test's dice
    names = [f"gw-{number}" for number in range(gateways)]
    await cell.start(*names, tokens_per_s=tokens_per_s)
    async with asyncio.TaskGroup() as clients:
        for number in range(REQUESTS):
            leave = dice.choice([None, None, dice.uniform(0.05, 1.0)])
            ask = cell.ask(dice.choice(names), f"number {number}", leave_after_s=leave)
            clients.create_task(_later(dice.uniform(0, 0.5), ask))
        some = dice.randint(1, 6)
        await cell.until_delivered(1, requests=some)
        await asyncio.sleep(dice.uniform(0, 0.5))
        cell.kill(names[0])
    if gateways == 1:
        # It comes back, and is all that the cell has to match with.
        await cell.start_gateway(names[0])
    events = await cell.settled()
    by_engine = check(events, await cell.reports(), cell.world)
    if gateways == 2:
        # The killed one comes back late: nothing is left, and nothing doubles.
        await cell.start_gateway(names[0])
        assert await cell.settled() == events
    # Whoever shipped it, it is under the name of the gateway that admitted it.
    assert {event.outcome for event in by_engine} <= {Outcome.DISCONNECTED, Outcome.FAILED}


async def test_streams_in_flight_at_the_kill_are_charged_by_the_other_gateway(cell: Cell) -> None:
    await cell.start("gw-0", "gw-1", tokens_per_s=40)
    async with asyncio.TaskGroup() as clients:
        for number in range(8):
            clients.create_task(cell.ask("gw-0", f"number {number}"))
        await cell.until_delivered(21, requests=8)
        cell.kill("gw-0")
    events = await cell.settled()
    by_engine = check(events, await cell.reports(), cell.world)
    assert len(by_engine) == len(events) == 8
    for event in by_engine:
        assert event.outcome is Outcome.DISCONNECTED
        assert event.delivered is None
        assert event.counts.completion_tokens > 20
        assert event.grant_id in cell.world.control.grants


async def test_gateway_and_engine_killed_together_lose_at_most_a_second(cell: Cell) -> None:
    rate = 40
    await cell.start("gw-0", "gw-1", tokens_per_s=rate)
    async with asyncio.TaskGroup() as clients:
        for number in range(6):
            clients.create_task(cell.ask("gw-0", f"number {number}"))
        await cell.until_delivered(2 * rate, requests=6)
        cell.kill("engine")
        cell.kill("gw-0")
    await cell.start_engine()
    events = await cell.settled()
    by_engine = check(events, await cell.reports(), cell.world)
    assert len(by_engine) == 6
    for event in by_engine:
        # What came after the last report is all that is lost: at most a second's tokens, even if the engine reported as
        # seldom as it does in production.
        assert event.counts.completion_tokens >= cell.delivered[event.request_id] - rate


async def test_an_engine_killed_alone_is_charged_by_its_last_report_at_most(cell: Cell) -> None:
    await cell.start("gw-0", tokens_per_s=40)
    async with asyncio.TaskGroup() as clients:
        for number in range(4):
            clients.create_task(cell.ask("gw-0", f"number {number}"))
        await cell.until_delivered(40, requests=4)
        cell.kill("engine")
    events = await cell.settled()
    reports = await cell.reports()
    assert check(events, reports, cell.world) == []
    for event in events.values():
        assert event.outcome is Outcome.FAILED
        assert event.counts == event.generated == reports[event.request_id][1]
        assert event.delivered is not None
        assert event.counts.completion_tokens <= event.delivered.completion_tokens


async def test_records_that_waited_in_a_file_while_valkey_hung_are_charged(cell: Cell, valkey: Valkey) -> None:
    await cell.start("gw-0", "gw-1", tokens_per_s=40)
    async with asyncio.TaskGroup() as clients:
        for number in range(4):
            clients.create_task(cell.ask("gw-0", f"number {number}"))
        await cell.until_delivered(10, requests=4)
        valkey.process.send_signal(signal.SIGSTOP)
        try:
            await asyncio.sleep(1.5)
            cell.kill("gw-0")
            # Longer than the matcher takes a slow reading for a quick one.
            await asyncio.sleep(2 * MATCH_AFTER_S)
            assert not [event for event in cell.world.control.events.values() if event.settled_by == "engine"]
        finally:
            valkey.process.send_signal(signal.SIGCONT)
    events = await cell.settled()
    by_engine = check(events, await cell.reports(), cell.world)
    assert len(by_engine) == len(events) == 4
    for event in by_engine:
        assert event.counts.completion_tokens >= cell.delivered[event.request_id]


async def test_a_gateway_that_only_hangs_settles_for_itself(cell: Cell) -> None:
    await cell.start("gw-0", "gw-1", tokens_per_s=100)
    async with asyncio.TaskGroup() as clients:
        for number in range(3):
            clients.create_task(cell.ask("gw-0", f"number {number}"))
        await cell.until_delivered(1, requests=3)
        cell.running["gw-0"].send_signal(signal.SIGSTOP)
        await asyncio.sleep(3 * MATCH_AFTER_S)
        assert cell.world.control.events == {}
        cell.running["gw-0"].send_signal(signal.SIGCONT)
    events = await cell.settled()
    assert check(events, await cell.reports(), cell.world) == []
    assert {event.outcome for event in events.values()} == {Outcome.COMPLETED}


async def test_a_record_later_than_the_matcher_tells_another_story_and_changes_no_event(
    cell: Cell, valkey: Valkey
) -> None:
    await cell.start("gw-0", tokens_per_s=40)
    asking = asyncio.create_task(cell.ask("gw-0", "one"))
    await cell.until_delivered(2, requests=1)
    cell.kill("gw-0")
    await asking
    await cell.start_gateway("gw-1")
    events = await cell.settled()
    [event] = check(events, await cell.reports(), cell.world)
    last = (await cell.records())[-1]
    longer = Counts(last.counts.prompt_tokens, 0, last.counts.completion_tokens + 7)
    late = msgspec.structs.replace(last, counts=longer, end=End("aborted", longer))
    async with redis.asyncio.Redis.from_url(valkey.urls[embedded.GATEWAY_USER]) as gateway:
        with pytest.raises(NoPermissionError):
            await gateway.xadd(RECORD_STREAM, {RECORD_FIELD: msgspec.json.encode(late)})
    forged = msgspec.structs.replace(late, slip=late.slip[:-8] + "AAAAAAAA", request_id=encode_id(REQUEST, new_id()))
    async with redis.asyncio.Redis.from_url(valkey.urls[embedded.ENGINE_USER]) as engine:
        for record in (late, late, forged):
            await engine.xadd(RECORD_STREAM, {RECORD_FIELD: msgspec.json.encode(record)})
    control = cell.world.control
    log = cell.folder / "gw-1.log"
    await until(lambda: bool(control.other_stories) and "slip_not_ours" in log.read_text(), 30)
    [story] = control.other_stories
    assert (story.request_id, story.counts) == (event.request_id, longer)
    assert control.events == events


async def test_an_orphaned_spool_is_shipped_by_another_and_not_again_by_its_owner(cell: Cell) -> None:
    await cell.start("gw-0", "gw-1", tokens_per_s=2000)
    control = cell.world.control
    await cell.ask("gw-0", "to lease a grant")
    await until(lambda: len(control.events) == 1, 10)
    control.away = True
    for number in range(5):
        await cell.ask("gw-0", f"number {number}")
    assert len(cell.seen) == 6
    cell.kill("gw-0")
    control.away = False
    await until(lambda: len(control.events) == 6, 30)
    await cell.start_gateway("gw-0")
    await cell.ask("gw-0", "again")
    events = await cell.settled()
    assert check(events, await cell.reports(), cell.world) == []
    assert len(control.deliveries) == len(events) == 7


async def _later(delay_s: float, work: object) -> None:
    await asyncio.sleep(delay_s)
    await work  # type: ignore[misc]  # a coroutine
