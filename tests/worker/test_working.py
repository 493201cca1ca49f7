"""Each work is done again and again by itself, whatever becomes of the others, and ends when its process does."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator

import pytest
import structlog.testing
from structlog.typing import EventDict

from chappe_control.working import UNTIL_DONE, Work, working
from chappe_kernel.errors import Unavailable

LONG_S = 3600.0
SOON_S = 0.001


@pytest.fixture
def events() -> Iterator[list[EventDict]]:
    with structlog.testing.capture_logs() as captured:
        yield captured


def failing_first(error: Exception, then: Callable[[], None]) -> Callable[[], Awaitable[int]]:
    left = [error]

    async def do() -> int:
        if left:
            raise left.pop()
        then()
        return 0

    return do


@pytest.mark.parametrize("error", [Unavailable("away"), OSError(), TypeError("what a tenant wrote")])
async def test_what_fails_is_told_by_its_name_and_done_again_and_ends_nothing_else(
    events: list[EventDict], error: Exception
) -> None:
    again, beside = asyncio.Event(), asyncio.Event()

    async def go_on() -> int:
        beside.set()
        return 0

    async with asyncio.timeout(20), working([Work("frail", failing_first(error, again.set), SOON_S)]):
        await again.wait()
        async with working([Work("sound", go_on, SOON_S)]):
            await beside.wait()
    (told,) = [event for event in events if event["event"] == "work_failed"]
    assert (told["work"], told["error"]) == ("frail", type(error).__name__)
    assert "what a tenant wrote" not in str(events)
    # A fault of ours is no warning, and says where it is.
    assert (told["log_level"], "at" in told) == (
        ("error", True) if isinstance(error, TypeError) else ("warning", False)
    )


@pytest.mark.parametrize(("rounds", "expected"), [(1, 1), (3, 3), (UNTIL_DONE, 5)])
async def test_it_is_done_again_at_once_while_there_is_more_and_for_so_many_rounds(rounds: int, expected: int) -> None:
    waiting, asked = [5], asyncio.Event()

    async def take_one() -> int:
        left = waiting[0]
        waiting[0] = max(0, left - 1)
        return int(left > 0)

    async def rest(_: float) -> None:
        asked.set()
        await asyncio.sleep(LONG_S)

    async with asyncio.timeout(20), working([Work("queue", take_one, LONG_S, rounds=rounds, wait=rest)]):
        await asked.wait()
    assert waiting == [5 - expected]


async def test_what_is_ordered_ends_the_wait() -> None:
    ordered, done = asyncio.Event(), asyncio.Queue[None]()

    async def do() -> int:
        done.put_nowait(None)
        return 0

    async def until_ordered(most_s: float) -> None:
        await asyncio.wait_for(ordered.wait(), most_s)
        ordered.clear()

    async with asyncio.timeout(20), working([Work("mail", do, LONG_S, wait=until_ordered)]):
        await done.get()
        ordered.set()
        await done.get()


async def test_it_is_not_begun_before_its_time() -> None:
    begun = []

    async def do() -> int:
        begun.append(1)
        return 0

    async with working([Work("feed", do, LONG_S, first_after_s=LONG_S)]):
        await asyncio.sleep(0.01)
    assert begun == []


@pytest.mark.parametrize(("grace_s", "ends"), [(20.0, "finished"), (0.0, "cut off")])
async def test_what_was_begun_has_the_grace_to_end_and_nothing_is_begun_after(grace_s: float, ends: str) -> None:
    began, over, seen = asyncio.Event(), asyncio.Event(), []

    async def do() -> int:
        began.set()
        try:
            await over.wait()
        except asyncio.CancelledError:
            seen.append("cut off")
            raise
        seen.append("finished")
        return 1

    async with asyncio.timeout(20):
        async with working([Work("long", do, SOON_S, rounds=UNTIL_DONE)], grace_s=grace_s):
            await began.wait()
            # It goes on for longer than the block, and for less than its grace.
            asyncio.get_running_loop().call_later(0.05, over.set)
    assert seen == [ends]
