"""Runs batches: whichever gateway of the region holds one goes on where the last one was.

A line's answer is kept before it is charged, as a repeat's is. A gateway that dies before has given the line no answer,
and it runs again; what the engine did for the first run may be charged or the second, and never both: they carry one
digest, and the control plane posts the second event with it at zero.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from functools import partial

import structlog

from chappe_gateway.batches import records
from chappe_gateway.batches.line_call import LineAnswer, LineCall
from chappe_gateway.batches.model import (
    MAX_ERRORS,
    OVER,
    BatchHead,
    Line,
    LineError,
    Status,
    answered,
    read_line,
    unanswered,
)
from chappe_gateway.batches.records import Found
from chappe_gateway.content.objects import CONTENT_LIMIT, Kind, Name
from chappe_gateway.files.lines import lines_of
from chappe_gateway.gateway import Gateway
from chappe_kernel.errors import ChappeError, TooLarge, Unavailable
from chappe_kernel.ids import REQUEST, encode_id, new_id
from chappe_kernel.wire.engine import End

_log = structlog.get_logger()

_BATCHES_AT_ONCE = 4
_STOPPED = "stopped"
_LONGEST_PAUSE_S = 30.0
_SHORTEST_PAUSE_S = 0.25
_MAX_DOUBLINGS = 7
_ROOM_BYTES = 64 * 1024
_OK = 200
_TRIES_OF_A_FAILURE = 3
# No fault of the line's: it waits, for as long as its batch has time.
_PASSING = frozenset({408, 429, 503})
_OUR_FAILURE = 500
# What an engine did for these is free: not for a day.
_FEW_TRIES = ("engine_error", CONTENT_LIMIT)


class BatchRunner:
    """One per gateway process."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._holder = gateway.settings.gateway_id
        self._runs: dict[Name, _Run] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._drains = False
        self.wake = asyncio.Event()
        """There may be a new one."""

    async def run(self) -> None:
        """Look for ever for batches that nobody holds."""
        while True:
            try:
                while not self._is_full() and (name := await self._claim()) is not None:
                    if name in self._runs:
                        # Its lease ran out in our own hands, and is ours again.
                        continue
                    task = asyncio.create_task(self._hold(name))
                    self._tasks.add(task)
                    task.add_done_callback(self._tasks.discard)
            except Unavailable as error:
                _log.warning("batches_not_looked_at", reason=error.code)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._gateway.settings.batch_look_s):
                    await self.wake.wait()
            self.wake.clear()

    def cancel(self, name: Name) -> None:
        """Somebody cancelled it: at once if it runs here, soon if elsewhere."""
        if (run := self._runs.get(name)) is not None:
            run.cancel()

    def drain(self) -> None:
        """Begin nothing more. What an engine works on comes to its end, what waits for one is left to other gateways;
        so is a batch as soon as none of its lines runs here."""
        self._drains = True
        for run in self._runs.values():
            run.drain()

    async def stop(self) -> None:
        """Begin nothing more, and cut off what runs: it is free, and another gateway runs it again."""
        for run in self._runs.values():
            run.stop()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def _is_full(self) -> bool:
        return self._drains or len(self._tasks) >= _BATCHES_AT_ONCE

    async def _claim(self) -> Name | None:
        content = self._gateway.content
        if not content.exists():
            return None
        return await content.do(
            lambda db: records.claim(content.objects, db, self._holder, self._gateway.settings.batch_lease_s)
        )

    async def _hold(self, name: Name) -> None:
        run = self._runs[name] = _Run(self._gateway, name, self._holder)
        if self._drains:
            # It was claimed as the drain began.
            run.drain()
        renewing = asyncio.create_task(run.renew())
        # One that failed keeps its lease, so that it is not tried again all the time.
        failed = True
        try:
            await run.run()
            failed = False
        except* ChappeError as errors:
            _log.warning("batch_interrupted", batch=str(name.id), reason=str(errors.exceptions[0]))
        except* Exception as errors:  # noqa: BLE001  # a defect: another try comes, and other batches go on
            # Without the error's own words: they may quote a line.
            _log.error("batch_failed", batch=str(name.id), error=type(errors.exceptions[0]).__name__)
        finally:
            run.stop()
            renewing.cancel()
            del self._runs[name]
            if not failed:
                with contextlib.suppress(ChappeError):
                    await self._gateway.content.do(lambda db: records.give_up(db, name, self._holder))


class _Run:
    """One batch in one gateway's hands."""

    def __init__(self, gateway: Gateway, name: Name, holder: str) -> None:
        self._gateway = gateway
        self._content = gateway.content
        self._name = name
        self._holder = holder
        self._room = asyncio.Semaphore(gateway.settings.batch_lines_at_once)
        self._running: set[LineCall] = set()
        self._stopped = asyncio.Event()
        """Begin no line any more."""
        self._is_cancelled = False
        self._failure: LineError | None = None

    async def run(self) -> None:
        """Up to its end, or until it is stopped. Raises `Unavailable`."""
        found = await self._read()
        if found is not None and found.head.status == "validating":
            found = await self._validate(found)
        if found is None or found.head.status in OVER:
            return
        self._is_cancelled = found.head.status == "cancelling"
        if not self._is_cancelled:
            await self._run_lines(found)
        if self._is_cancelled or self._failure is not None or not self._stopped.is_set():
            await self._end(found)

    async def renew(self) -> None:
        """Renew the lease for as long as the run lasts, and look whether somebody cancelled it."""
        lease_s = self._gateway.settings.batch_lease_s
        while True:
            await asyncio.sleep(lease_s / 4)
            try:
                found = await self._content.do(
                    lambda db: records.renew(self._content.objects, db, self._name, self._holder, lease_s)
                )
            except Unavailable:
                continue
            if found is None:
                self.stop()
            elif found.head.status == "cancelling":
                self.cancel()

    def stop(self) -> None:
        """Begin no line any more, and cut off those that run."""
        self._stopped.set()
        for line in tuple(self._running):
            line.call.cut_engine(_STOPPED)

    def drain(self) -> None:
        """Begin no line any more; cut off those of which no engine knows yet."""
        self._stopped.set()
        for line in tuple(self._running):
            if not line.is_at_engine:
                line.call.cut_engine(_STOPPED)

    def cancel(self) -> None:
        """What runs comes to its end, and is charged; nothing more begins."""
        self._is_cancelled = True
        self._stopped.set()

    async def _read(self) -> Found | None:
        return await self._content.do(lambda db: records.read(self._content.objects, db, self._name))

    async def _become(self, status: Status, **changes: object) -> Found | None:
        now = self._content.objects.now()

        def become(head: BatchHead) -> BatchHead:
            # Somebody may have cancelled it since.
            kept = head.status == "cancelling" and status not in OVER
            return head if kept else head.become(status, now, **changes)

        return await self._content.do(lambda db: records.change(self._content.objects, db, self._name, become))

    async def _lines(self, head: BatchHead) -> AsyncIterator[tuple[int, bytes]]:
        """Numbers from one."""
        number = 0
        pieces = self._content.pieces(Name(self._name.owner, Kind.FILE, head.input_file))
        async for text in lines_of(pieces, self._gateway.settings.max_body_bytes):
            number += 1
            yield number, text

    async def _validate(self, found: Found) -> Found | None:
        errors: list[LineError] = []
        ids: set[str] = set()
        total = 0
        async for number, text in self._lines(found.head):
            total = number
            line = read_line(text, number, found.head.endpoint)
            if isinstance(line, LineError):
                errors.append(line)
            elif line.custom_id in ids:
                errors.append(LineError("duplicate_custom_id", "`custom_id` comes twice", "custom_id", number))
            else:
                ids.add(line.custom_id)
            if len(errors) >= MAX_ERRORS:
                break
        if not total:
            errors.append(LineError("invalid_input_file", "the input file is not there any more", "input_file_id"))
        if errors:
            return await self._become("failed", errors=tuple(errors))
        return await self._become("in_progress", total=total)

    async def _run_lines(self, found: Found) -> None:
        done = await self._content.do(lambda db: records.done_lines(self._content.objects, db, found.head))
        async with asyncio.TaskGroup() as group:
            async for number, text in self._lines(found.head):
                if number in done:
                    continue
                await self._room.acquire()
                if self._stopped.is_set():
                    self._room.release()
                    break
                line = read_line(text, number, found.head.endpoint)
                if isinstance(line, Line):
                    group.create_task(self._run_line(found, number, line))

    async def _run_line(self, found: Found, number: int, line: Line) -> None:
        try:
            tries = 0
            while not self._stopped.is_set():
                if self._content.objects.now() >= found.head.expires_at:
                    told = unanswered(line, encode_id(REQUEST, new_id()), "batch_expired", "the batch's time was over")
                    await self._keep(found, number, told, is_error=True)
                    return
                tries += 1
                if await self._try(found, number, line, tries):
                    return
        finally:
            self._room.release()

    async def _try(self, found: Found, number: int, line: Line, tries: int) -> bool:
        """Whether the line has its answer now."""
        if not await self._has_room(number):
            return False
        running = LineCall(self._gateway, found.head, line)
        call = running.call
        call.line_digest = self._gateway.repeats.seal.line_digest(self._name.id, number)
        call.keep_as_well(partial(self._keep_answer, found, number, line, call.public_id))
        self._running.add(running)
        try:
            answer = await running.run()
        finally:
            self._running.discard(running)
        if answer.status == _OK:
            return True
        if self._stopped.is_set():
            return False
        if not _is_passing(answer, tries):
            told = answered(line, call.public_id, answer.status, answer.body)
            await self._keep(found, number, told, is_error=True)
            return True
        await self._pause(max(answer.retry_after_s, _SHORTEST_PAUSE_S * 2 ** min(tries, _MAX_DOUBLINGS)))
        return False

    async def _has_room(self, number: int) -> bool:
        """Before an engine works for an answer that could not be kept, which would be free."""
        try:
            await self._content.check_room(self._name.owner, _ROOM_BYTES)
        except TooLarge as error:
            self._failure = LineError(error.code, error.message, None, number)
            self._stopped.set()
            return False
        except Unavailable:
            await self._pause(_LONGEST_PAUSE_S)
            return False
        return True

    async def _pause(self, wanted_s: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(min(_LONGEST_PAUSE_S, wanted_s)):
                await self._stopped.wait()

    async def _keep_answer(self, found: Found, number: int, line: Line, request_id: str, body: bytes, _: End) -> None:
        """Before it is charged."""
        await self._keep(found, number, answered(line, request_id, 200, body), is_error=False)

    async def _keep(self, found: Found, number: int, text: bytes, *, is_error: bool) -> None:
        objects = self._content.objects
        try:
            await self._content.do(lambda db: records.keep_line(objects, db, found, number, text, is_error=is_error))
        except TooLarge as error:
            self._failure = LineError(error.code, error.message, None, number)
            self._stopped.set()
            raise Unavailable("the answer could not be kept", code=error.code) from None

    async def _end(self, found: Found) -> None:
        if self._failure is not None:
            await self._become("failed", errors=(self._failure,))
            return
        if self._is_cancelled:
            await self._become("cancelled")
            return
        await self._become("finalizing")
        is_expired = self._content.objects.now() >= found.head.expires_at
        await self._become("expired" if is_expired else "completed")


def _is_passing(answer: LineAnswer, tries: int) -> bool:
    if answer.refusal is not None and answer.refusal.code in _FEW_TRIES:
        return tries < _TRIES_OF_A_FAILURE
    return answer.status in _PASSING or (answer.status >= _OUR_FAILURE and tries < _TRIES_OF_A_FAILURE)
