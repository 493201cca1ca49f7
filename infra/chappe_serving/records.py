"""The engine's own witness: its records go to the region's Redis stream, or to a file until Redis is back."""

import asyncio
import fcntl
import os
from pathlib import Path
from typing import IO

import msgspec
import redis.asyncio
import structlog
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from chappe_kernel.wire.engine import RECORD_FIELD, RECORD_STREAM, EngineRecord

_log = structlog.get_logger()

_KEPT_RECORDS = 200_000
"""The stream's length, roughly: half an hour at a hundred requests a second. Gateways read it as it comes."""
_REDIS_TIMEOUT_S = 1.0
_RETRY_S = 1.0


class RecordWriter:
    """One per replica. `write` never raises for a Redis that is away, and never waits for it twice."""

    def __init__(self, redis_url: str, directory: Path) -> None:
        self._redis = redis.asyncio.Redis.from_url(
            redis_url,
            socket_timeout=_REDIS_TIMEOUT_S,
            socket_connect_timeout=_REDIS_TIMEOUT_S,
            retry=Retry(NoBackoff(), 0),  # the file is our second try
        )
        self._directory = directory
        self._spill: IO[bytes] | None = None
        self._resend: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Send what replicas that died have left behind."""
        self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        if any(self._directory.glob("*.jsonl")):
            self._resend = asyncio.create_task(self._send_files())

    async def write(self, record: EngineRecord) -> None:
        """Durable in Redis or in the file when this returns. Order is kept: once in the file, all go there."""
        encoded = msgspec.json.encode(record)
        if self._spill is None:
            try:
                await self._send(encoded)
            except (RedisError, OSError) as error:
                _log.warning("engine_records_to_file", reason=type(error).__name__)
            else:
                return
        if self._spill is None:
            self._spill = _open_locked(self._directory / f"{os.getpid()}-{id(self)}.jsonl")
        self._spill.write(encoded + b"\n")
        self._spill.flush()
        if self._resend is None or self._resend.done():
            self._resend = asyncio.create_task(self._send_files())

    async def close(self) -> None:
        """What could not be sent stays in the file, for the next replica."""
        if self._resend is not None:
            self._resend.cancel()
            await asyncio.gather(self._resend, return_exceptions=True)
        if self._spill is not None:
            self._spill.close()
        await self._redis.aclose()

    async def _send(self, encoded: bytes) -> None:
        await self._redis.xadd(RECORD_STREAM, {RECORD_FIELD: encoded}, maxlen=_KEPT_RECORDS, approximate=True)

    async def _send_files(self) -> None:
        while True:
            try:
                for path in sorted(self._directory.glob("*.jsonl")):
                    await self._send_file(path)
            except (RedisError, OSError):
                await asyncio.sleep(_RETRY_S)
            else:
                return

    async def _send_file(self, path: Path) -> None:
        """Sent twice if we die in between: records are cumulative, so a repeat changes nothing."""
        own = self._spill is not None and Path(self._spill.name) == path
        if own:
            sent = 0
            # More may be appended while we send; the file goes only when nothing was.
            while len(lines := _lines(path)) > sent:
                for line in lines[sent:]:
                    await self._send(line)
                sent = len(lines)
            _remove(path)
            self._close_spill()
            return
        try:
            orphan = _open_locked(path)
        except BlockingIOError:
            return  # another replica of this machine is alive and sends its own
        with orphan:
            for line in _lines(path):
                await self._send(line)
            _remove(path)

    def _close_spill(self) -> None:
        if self._spill is not None:
            self._spill.close()
            self._spill = None


def _lines(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines()


def _remove(path: Path) -> None:
    path.unlink()


def _open_locked(path: Path) -> IO[bytes]:
    """For appending, and ours alone as long as we live. Raises `BlockingIOError` when another process has it."""
    file = path.open("ab")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise
    return file
