"""The client of the region's Redis."""

from collections.abc import Coroutine
from typing import Any

import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from chappe_kernel import waiting

TIMEOUT_S = 0.15
"""How long a request waits for Redis before it goes on without."""


def open_redis(url: str) -> "redis.asyncio.Redis":
    """A client that tries again once, at once, for a stale connection: our own breaker does the rest."""
    return redis.asyncio.Redis.from_url(url, retry=Retry(NoBackoff(), 1))


async def answered(call: Coroutine[Any, Any, Any]) -> Any:
    """What Redis answers. Raises `TimeoutError` after `TIMEOUT_S` in which this process ran."""
    return await waiting.answered(call, TIMEOUT_S)
