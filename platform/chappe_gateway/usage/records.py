"""The engines' own witness, read from the region's Redis stream: counts of answers that were cut short."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, Protocol

import msgspec
import redis.asyncio
import structlog
from redis.exceptions import RedisError

from chappe_kernel.errors import ChappeError
from chappe_kernel.rating import Counts
from chappe_kernel.wire.engine import RECORD_FIELD, RECORD_STREAM, EngineRecord

_log = structlog.get_logger()

_BLOCK_MS = 2000
_HUNG_S = 10.0
_BATCH = 1000
_RETRY_S = 0.5


NO_RECORDS = "0-0"
"""The position before all records."""
_LOOK_TIMEOUT_S = 1.0
_SCAN_BATCH = 250
_SCAN_PAUSE_S = 0.005


class Bystander(Protocol):
    """Hears of requests that nobody here is serving."""

    def hear(self, record: EngineRecord, at_ms: int) -> None: ...

    def listened(self) -> None:
        """Everything that was there until now has been heard."""
        ...

    def listen_again(self) -> None:
        """Redis was away, and answers again."""
        ...


@dataclass(slots=True)
class _Watched:
    final: dict[int, Counts] = field(default_factory=dict)
    latest: dict[int, Counts] = field(default_factory=dict)
    waiters: list[asyncio.Future[None]] = field(default_factory=list)


class EngineRecords:
    """One reader per process. A request is watched from before its engine is called until it is settled."""

    def __init__(self, redis_client: "redis.asyncio.Redis") -> None:
        self._redis = redis_client
        self._watched: dict[str, _Watched] = {}
        self._last_id: str | bytes | None = None
        self._decoder = msgspec.json.Decoder(EngineRecord)
        self._bystander: Bystander | None = None
        self.following = asyncio.Event()
        """Set once the reader has its place in the stream: whatever is written from then on is heard."""

    def watch(self, request_id: str) -> None:
        """Keep what engines say of this request."""
        self._watched[request_id] = _Watched()

    def forget(self, request_id: str) -> None:
        """The request is settled."""
        self._watched.pop(request_id, None)

    async def final_counts(self, request_id: str, attempt: int, timeout_s: float) -> Counts | None:
        """The counts of the attempt's last record, or `None` when none came in time."""
        watched = self._watched.get(request_id)
        if watched is None:
            return None
        loop = asyncio.get_running_loop()
        give_up_at = loop.time() + timeout_s
        while attempt not in watched.final:
            waiter: asyncio.Future[None] = loop.create_future()
            watched.waiters.append(waiter)
            try:
                async with asyncio.timeout_at(give_up_at):
                    await waiter
            except TimeoutError:
                return None
        return watched.final[attempt]

    def latest_counts(self, request_id: str, attempt: int) -> Counts | None:
        """The attempt's last record so far, be it final or not."""
        watched = self._watched.get(request_id)
        return None if watched is None else watched.latest.get(attempt)

    def tell(self, bystander: Bystander) -> None:
        """Pass on every record whose request is not watched."""
        self._bystander = bystander

    async def position(self) -> str:
        """The newest record's id; `NO_RECORDS` when Redis does not say in time: then all may be newer."""
        try:
            async with asyncio.timeout(_LOOK_TIMEOUT_S):
                newest: Any = await self._redis.xrevrange(RECORD_STREAM, count=1)
        except (RedisError, OSError, TimeoutError):
            return NO_RECORDS
        return newest[0][0].decode() if newest else NO_RECORDS

    async def scan(self, after: str) -> AsyncIterator[list[tuple[int, EngineRecord]]]:
        """All records after a position that are there now, in portions between which others may run.

        Raises `RedisError`, `OSError`, `TimeoutError`.
        """
        while True:
            async with asyncio.timeout(_HUNG_S):
                entries: Any = await self._redis.xrange(RECORD_STREAM, min=f"({after}", count=_SCAN_BATCH)
            if not entries:
                return
            after = entries[-1][0].decode()
            decoded = ((_milliseconds(entry_id), self._decode(fields)) for entry_id, fields in entries)
            yield [(at_ms, record) for at_ms, record in decoded if record is not None]
            await asyncio.sleep(_SCAN_PAUSE_S)

    async def run(self) -> None:
        """Read for ever. While Redis is away there are no records, and requests are settled without."""
        away = False
        while True:
            try:
                await self._read_batch()
            except (RedisError, OSError) as error:
                if not away:
                    _log.warning("engine_records_unreadable", reason=type(error).__name__)
                away = True
                await asyncio.sleep(_RETRY_S)
            else:
                if self._bystander is not None:
                    if away:
                        self._bystander.listen_again()
                    self._bystander.listened()
                away = False

    async def _read_batch(self) -> None:
        if self._last_id is None:
            # Only a definite position misses nothing between two reads.
            async with asyncio.timeout(_HUNG_S):
                newest: Any = await self._redis.xrevrange(RECORD_STREAM, count=1)
            self._last_id = newest[0][0] if newest else NO_RECORDS
            self.following.set()
        async with asyncio.timeout(_HUNG_S):
            answer: Any = await self._redis.xread({RECORD_STREAM: self._last_id}, count=_BATCH, block=_BLOCK_MS)
        for _, entries in answer.items() if isinstance(answer, dict) else answer or ():
            for entry_id, fields in entries:
                self._last_id = entry_id
                self._take(entry_id, fields)

    def _take(self, entry_id: bytes, fields: Any) -> None:
        record = self._decode(fields)
        if record is None:
            return
        watched = self._watched.get(record.request_id)
        if watched is None:
            if self._bystander is not None:
                self._bystander.hear(record, _milliseconds(entry_id))
            return
        watched.latest[record.attempt] = record.counts
        if record.end is None:
            return
        watched.final[record.attempt] = record.end.counts
        for waiter in watched.waiters:
            if not waiter.done():
                waiter.set_result(None)
        watched.waiters.clear()

    def _decode(self, fields: Any) -> EngineRecord | None:
        try:
            return self._decoder.decode(fields.get(RECORD_FIELD.encode(), b""))
        except (msgspec.DecodeError, UnicodeDecodeError, ChappeError):
            return None


def _milliseconds(entry_id: bytes) -> int:
    return int(entry_id.partition(b"-")[0])
