"""The client of the region's Redis."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

TIMEOUT_S = 0.15
"""How long a request waits for Redis before it goes on without."""
_LOOKS = 3


def open_redis(url: str) -> "redis.asyncio.Redis":
    """A client that tries again once, at once, for a stale connection: our own breaker does the rest."""
    return redis.asyncio.Redis.from_url(url, retry=Retry(NoBackoff(), 1))


async def answered(call: Coroutine[Any, Any, Any]) -> Any:
    """What Redis answers. Raises `TimeoutError` after `TIMEOUT_S` in which this process ran: one that was held up for
    longer finds an answer that has come meanwhile, and must not take Redis for gone."""
    asking = asyncio.ensure_future(call)
    try:
        for _ in range(_LOOKS):
            await asyncio.wait([asking], timeout=TIMEOUT_S / _LOOKS)
            if asking.done():
                return asking.result()
        raise TimeoutError
    finally:
        if not asking.done():
            asking.cancel()
            await asyncio.wait([asking])
