"""One statement ahead: the database works on it, while the caller prepares the next."""

import asyncio
from collections.abc import Coroutine
from types import TracebackType
from typing import Any, Self


class Ahead:
    """Runs one coroutine at a time, in order, beside the caller; which must not use the same session before the block
    has ended. An exception is raised by the next `start`, or at the block's end."""

    def __init__(self) -> None:
        self._running: asyncio.Task[None] | None = None

    async def start(self, work: Coroutine[Any, Any, None]) -> None:
        """Wait for the one before, and see this one begin."""
        try:
            await self._end()
        except BaseException:
            work.close()
            raise
        self._running = asyncio.create_task(work)
        # It runs up to where it waits for the database: by then its data is sent.
        await asyncio.sleep(0)

    async def _end(self) -> None:
        running, self._running = self._running, None
        if running is not None:
            await running

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None:
            await self._end()
        elif self._running is not None:
            # The session is nobody's as long as this runs; what went wrong first is what counts.
            await asyncio.gather(self._running, return_exceptions=True)
