"""Who runs in an engine: attempts by their key, in order of arrival, each on a slot of its own."""

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from chappe_kernel.errors import Invalid, Unavailable
from chappe_serving.engine import Load

T = TypeVar("T")


class Aborted(Exception):
    """Raised into the work of an attempt that shall stop."""


class Attempt:
    """One running attempt. Its work waits only through `race`, so an abort reaches it wherever it is."""

    def __init__(self) -> None:
        self._aborted: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def abort(self) -> None:
        if not self._aborted.done():
            self._aborted.set_result(None)

    async def race(self, work: Coroutine[Any, Any, T]) -> T:
        """The work's result, or `Aborted` as soon as the attempt is; the work is cancelled then."""
        if self._aborted.done():
            work.close()
            raise Aborted
        task = asyncio.create_task(work)
        either: list[asyncio.Future[Any]] = [task, self._aborted]
        try:
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                # Even when aborted by now: a slot that was taken must not be lost.
                return task.result()
        finally:
            if not task.done():
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        raise Aborted


@dataclass(frozen=True, slots=True)
class HeldSlot:
    """A slot while an attempt has it. `warm`: what it has cached is of the same scope."""

    number: int
    warm: bool


class Admission:
    """An engine's slots, given out first come first served. Of the free ones, an attempt gets one that served its own
    scope last, else the one that has been free for longest."""

    def __init__(self, slots: int) -> None:
        self._slots = slots
        self._permits = asyncio.Semaphore(slots)
        self._free = list(range(slots))
        self._last_scope = [""] * slots
        self._attempts: dict[tuple[str, int], Attempt] = {}
        self._holding = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._draining = False

    @contextmanager
    def attempt(self, request_id: str, attempt: int) -> Iterator[Attempt]:
        """Raises `Unavailable` while draining, `Invalid` when the same attempt runs already."""
        key = (request_id, attempt)
        if self._draining:
            raise Unavailable("this replica is shutting down", code="overloaded")
        if key in self._attempts:
            raise Invalid("this attempt is already running", param="attempt")
        running = self._attempts[key] = Attempt()
        self._idle.clear()
        try:
            yield running
        finally:
            del self._attempts[key]
            if not self._attempts:
                self._idle.set()

    @asynccontextmanager
    async def slot(self, attempt: Attempt, scope: str = "") -> AsyncIterator[HeldSlot]:
        """A slot that is the attempt's alone. Raises `Aborted`."""
        await attempt.race(self._permits.acquire())
        held = self._take(scope)
        self._holding += 1
        try:
            yield held
        finally:
            self._holding -= 1
            self._free.append(held.number)
            self._permits.release()

    def _take(self, scope: str) -> HeldSlot:
        warm = [number for number in self._free if scope and self._last_scope[number] == scope]
        number = (warm or self._free)[0]
        self._free.remove(number)
        self._last_scope[number] = scope
        return HeldSlot(number, bool(warm))

    def abort(self, request_id: str, attempt: int) -> bool:
        running = self._attempts.get((request_id, attempt))
        if running is not None:
            running.abort()
        return running is not None

    def load(self) -> Load:
        return Load(running=self._holding, waiting=len(self._attempts) - self._holding, slots=self._slots)

    async def drain(self) -> None:
        """Admit nobody more, and wait for those inside."""
        self._draining = True
        await self._idle.wait()
