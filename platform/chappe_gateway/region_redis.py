"""The client of the region's Redis."""

import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff


def open_redis(url: str) -> "redis.asyncio.Redis":
    """A client that tries again once, at once, for a stale connection: our own breaker does the rest."""
    return redis.asyncio.Redis.from_url(url, retry=Retry(NoBackoff(), 1))
