"""How work is done that no request asks for: again and again, each by itself, whatever becomes of the rest."""

import asyncio
import sys
import time
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Final

import structlog
from sqlalchemy.exc import SQLAlchemyError

from chappe_billing.payments.port import ServiceError
from chappe_kernel.errors import ChappeError

UNTIL_DONE: Final = sys.maxsize
_EXPECTED: Final = (ChappeError, ServiceError, SQLAlchemyError, OSError)
_log = structlog.get_logger()


@dataclass(frozen=True)
class Work:
    """`do` returns how much it did. While that is more than nothing it is done again at once, `rounds` times at most;
    then `wait` waits for `every_s`, or for less if it hears that there is more to do."""

    name: str
    do: Callable[[], Awaitable[int]]
    every_s: float
    first_after_s: float = 0.0
    rounds: int = 1
    wait: Callable[[float], Awaitable[None]] = asyncio.sleep


@asynccontextmanager
async def working(works: Iterable[Work], *, grace_s: float = 0.0) -> AsyncIterator[None]:
    """Do all of it while the block runs. At its end nothing new is begun; what is not done after `grace_s` is cut off,
    and each transaction that it has open is rolled back."""
    over = asyncio.Event()
    tasks = [asyncio.create_task(_repeat(work, over), name=work.name) for work in works]
    try:
        yield
    finally:
        over.set()
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=grace_s)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)


async def _repeat(work: Work, over: asyncio.Event) -> None:
    await _wait(asyncio.sleep(work.first_after_s), over)
    while not over.is_set():
        rounds = 0
        while not over.is_set() and rounds < work.rounds and await _do_once(work):
            rounds += 1
        await _wait(work.wait(work.every_s), over)


async def _wait(rest: Awaitable[None], over: asyncio.Event) -> None:
    resting, ending = asyncio.ensure_future(rest), asyncio.create_task(over.wait())
    try:
        await asyncio.wait((resting, ending), return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (resting, ending):
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


async def _do_once(work: Work) -> int:
    """How much it did; 0 when it failed. Nothing is lost by that: what was not done is found again."""
    began = time.monotonic()
    try:
        done = await work.do()
    except _EXPECTED as error:
        _log.warning("work_failed", work=work.name, error=type(error).__name__)
        return 0
    except Exception as error:  # noqa: BLE001 -- a fault in one work must end neither the others nor itself for ever
        # No message: it could say what somebody wrote.
        at = traceback.extract_tb(error.__traceback__)[-1]
        _log.error("work_failed", work=work.name, error=type(error).__name__, at=f"{at.filename}:{at.lineno}")
        return 0
    if done:
        _log.info("work_done", work=work.name, count=done, seconds=round(time.monotonic() - began, 3))
    return done
