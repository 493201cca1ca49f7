"""One generation that outlives its reader: whoever reads the answer may vanish, the count of it may not."""

import asyncio
from collections.abc import AsyncIterator

import structlog

from chappe_kernel.errors import ChappeError, Unavailable
from chappe_kernel.rating import NO_COUNTS, Counts
from chappe_kernel.wire.engine import End, EngineRecord, GenerateRequest, Start
from chappe_serving.engine import ArgumentsDelta, Delta, Event, GeneratingEngine, Prefill, TokenLogprob
from chappe_serving.records import RecordWriter

_log = structlog.get_logger()

RECORD_EVERY_S = 1.0
"""What an engine that is killed together with its gateway can lose."""


class AttemptRun:
    """Reads the engine in a task of its own, keeps the records, and hands the events on.

    The events wait in a queue that the request's own bound on tokens bounds.
    """

    def __init__(
        self,
        engine: GeneratingEngine,
        records: RecordWriter,
        request: GenerateRequest,
        *,
        record_every_s: float = RECORD_EVERY_S,
    ) -> None:
        self._engine = engine
        self._records = records
        self._request = request
        self._record_every_s = record_every_s
        self._queue: asyncio.Queue[Event | ChappeError] = asyncio.Queue()
        self._counts: Counts | None = None
        self._is_over = asyncio.Event()
        self.task = asyncio.create_task(self._run())

    async def events(self) -> AsyncIterator[Event]:
        """Up to the terminal event. Raises the engine's refusal."""
        while True:
            item = await self._queue.get()
            if isinstance(item, ChappeError):
                raise item
            yield item
            if isinstance(item, End):
                return

    def with_waiting(self, first: Delta | ArgumentsDelta) -> Delta | ArgumentsDelta:
        """`first`, and what is ready of the same kind without waiting: a reader that lags gets fewer, larger chunks."""
        parts, logprobs = [first.text], list[TokenLogprob]()
        while not self._queue.empty():
            item = self._queue.get_nowait()
            if isinstance(item, Delta) and isinstance(first, Delta):
                logprobs += item.logprobs
            elif not (isinstance(item, ArgumentsDelta) and isinstance(first, ArgumentsDelta)):
                self._queue_first(item)
                break
            parts.append(item.text)
        if len(parts) == 1:
            return first
        if isinstance(first, ArgumentsDelta):
            return ArgumentsDelta("".join(parts), first.counts)
        return Delta("".join(parts), first.counts, (*first.logprobs, *logprobs))

    def abort(self) -> None:
        """Nobody reads any more. Harmless at any time."""
        self._engine.abort(self._request.request_id, self._request.attempt)

    def _queue_first(self, item: Event | ChappeError) -> None:
        rest = [self._queue.get_nowait() for _ in range(self._queue.qsize())]
        for each in (item, *rest):
            self._queue.put_nowait(each)

    async def _run(self) -> None:
        reporter = asyncio.create_task(self._report())
        end: End | None = None
        try:
            end = await self._read()
        except ChappeError as refusal:
            self._queue.put_nowait(refusal)
        except Exception as error:  # noqa: BLE001  # whatever broke, the reader and the record must hear of an end
            _log.error("engine_failed", reason=type(error).__name__)
            self._queue.put_nowait(Unavailable("the engine failed", code="internal"))
        finally:
            # Not cancelled: the client of Redis may swallow that, and would report an attempt that ended for ever. Its
            # gateway's successor waits for silence before it settles.
            self._is_over.set()
            await reporter
        if end is None and self._counts is not None:
            end = End("failed", self._counts)
        if end is not None:
            await self._records.write(self._record(end.counts, end))

    async def _read(self) -> End | None:
        async for event in self._engine.generate(self._request):
            if isinstance(event, Prefill | Delta | ArgumentsDelta | End):
                self._counts = event.counts
            elif isinstance(event, Start):
                self._counts = Counts(event.prompt_tokens, event.cached_tokens, 0)
            self._queue.put_nowait(event)
            if isinstance(event, End):
                return event
        self._queue.put_nowait(End("failed", self._counts or NO_COUNTS))
        return None

    async def _report(self) -> None:
        while not await self._over_within(self._record_every_s):
            if self._counts is not None:
                await self._records.write(self._record(self._counts, None))

    async def _over_within(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                return await self._is_over.wait()
        except TimeoutError:
            return False

    def _record(self, counts: Counts, end: End | None) -> EngineRecord:
        return EngineRecord(self._request.request_id, self._request.attempt, counts, end, self._request.slip)
