"""A TCP proxy that does what networks do: it passes, is silent, or resets."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

_PART_BYTES = 2**16


@dataclass
class FaultProxy:
    """On `port`, in front of `target`. Tests change `silent` and call the others."""

    port: int
    target: int
    silent: bool = False
    """Nothing passes in either direction, and nobody is told."""
    _server: asyncio.Server | None = None
    _writers: set[asyncio.StreamWriter] = field(default_factory=set)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator["FaultProxy"]:
        await self.mend()
        try:
            yield self
        finally:
            self.cut()
            # Whoever was accepted a moment ago gets to his task, which closes him.
            await asyncio.sleep(0.01)
            for task in tuple(self._tasks):
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def cut(self) -> None:
        """End every connection, and refuse new ones."""
        if self._server is not None:
            self._server.close()
            self._server = None
        self.reset()

    async def mend(self) -> None:
        """After `cut`."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)

    def reset(self) -> None:
        """End every connection at once."""
        for writer in tuple(self._writers):
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.add(writer)
        try:
            there_reader, there_writer = await asyncio.open_connection("127.0.0.1", self.target)
            self._writers.add(there_writer)
            try:
                async with asyncio.TaskGroup() as both:
                    both.create_task(self._pass(reader, there_writer))
                    both.create_task(self._pass(there_reader, writer))
            finally:
                self._writers.discard(there_writer)
                there_writer.transport.abort()
        except (OSError, asyncio.CancelledError, ExceptionGroup):
            return
        finally:
            self._writers.discard(writer)
            self._tasks.discard(task)
            writer.transport.abort()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(_PART_BYTES):
            while self.silent:  # noqa: ASYNC110 -- a test sets it
                await asyncio.sleep(0.01)
            writer.write(data)
            await writer.drain()
        raise ConnectionResetError
