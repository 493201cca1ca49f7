"""The engines' own witness, read from the region's Redis stream: final counts of answers that were cut short."""

import asyncio
from dataclasses import dataclass, field
from typing import Any

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


@dataclass(slots=True)
class _Watched:
    final: dict[int, Counts] = field(default_factory=dict)
    waiters: list[asyncio.Future[None]] = field(default_factory=list)


class EngineRecords:
    """One reader per process. A request is watched from before its engine is called until it is settled."""

    def __init__(self, redis_client: "redis.asyncio.Redis") -> None:
        self._redis = redis_client
        self._watched: dict[str, _Watched] = {}
        self._last_id: str | bytes | None = None
        self._decoder = msgspec.json.Decoder(EngineRecord)

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
                away = False

    async def _read_batch(self) -> None:
        if self._last_id is None:
            # Only a definite position misses nothing between two reads.
            async with asyncio.timeout(_HUNG_S):
                newest: Any = await self._redis.xrevrange(RECORD_STREAM, count=1)
            self._last_id = newest[0][0] if newest else b"0-0"
        async with asyncio.timeout(_HUNG_S):
            answer: Any = await self._redis.xread({RECORD_STREAM: self._last_id}, count=_BATCH, block=_BLOCK_MS)
        for _, entries in answer.items() if isinstance(answer, dict) else answer or ():
            for entry_id, fields in entries:
                self._last_id = entry_id
                self._take(fields)

    def _take(self, fields: Any) -> None:
        try:
            record = self._decoder.decode(fields.get(RECORD_FIELD.encode(), b""))
        except (msgspec.DecodeError, UnicodeDecodeError, ChappeError):
            return
        watched = self._watched.get(record.request_id)
        if watched is None or record.end is None:
            return
        watched.final[record.attempt] = record.end.counts
        for waiter in watched.waiters:
            if not waiter.done():
                waiter.set_result(None)
        watched.waiters.clear()
