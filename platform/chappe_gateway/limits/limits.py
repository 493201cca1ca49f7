"""Requests and tokens per fixed minute, out of blocks that were leased from the region. Pure: time is passed in.

A block dies with its minute. Its end is counted from when the lease was sent, so it never outlives the minute of the
Redis that gave it.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from chappe_kernel.wire.control import RateLimit

# A block is this part of the limit at most, so that few gateways hoard little, within these bounds.
_BLOCKS_PER_LIMIT = 20
# The first one is this part of it; each that is used up fast is followed by one twice as large.
_FIRST_BLOCKS_PER_LIMIT = 200
_FAST_S = 1.0
"""A block that is used up faster than this is followed by a larger one, which is asked for before its end."""


class Unit(StrEnum):
    """What is counted."""

    REQUESTS = "requests"
    TOKENS = "tokens"


_MAX_BLOCK = {Unit.REQUESTS: 200, Unit.TOKENS: 100_000}


class Meter(NamedTuple):
    """One count that a request takes part in: `amount` of at most `limit` per minute."""

    key: str
    """What the region counts it under."""
    whose: str
    model: str | None
    unit: Unit
    limit: int
    amount: int


def meters(limits: Iterable[RateLimit], model: str, tokens: int) -> list[Meter]:
    """What a request for `model` that may use `tokens` is counted by."""
    found = []
    for limit in limits:
        if limit.model is not None and limit.model != model:
            continue
        whose = limit.scope.partition(":")[0]
        key = limit.scope if limit.model is None else f"{limit.scope}:{limit.model}"
        if limit.requests_per_minute is not None:
            found.append(Meter(key, whose, limit.model, Unit.REQUESTS, limit.requests_per_minute, 1))
        if limit.tokens_per_minute is not None:
            found.append(Meter(f"{key}:tokens", whose, limit.model, Unit.TOKENS, limit.tokens_per_minute, tokens))
    return found


@dataclass(slots=True)
class Window:
    """One count's current minute in this gateway. `ends_at` is on the monotonic clock."""

    limit: int
    left: int = 0
    minute: int = -1
    """The number of the minute by Redis's clock that the block belongs to."""
    ends_at: float = 0.0
    turns_at: float = 0.0
    """When that minute is over for Redis too, at the latest."""
    left_elsewhere: int = 0
    """What the region still had after our last lease."""
    refused: bool = False
    """Whether that lease gave nothing, because less was left than it needed."""
    leased_at: float = 0.0
    """When that lease was asked for."""
    after_lease: int = 0
    """What was here after it."""
    last_spare: int = 0
    """How much that lease asked for beyond what was waited for."""

    def take(self, now: float, amount: int = 1) -> bool:
        """Use `amount` of the block, if there is as much in this minute."""
        if now >= self.ends_at or self.left < amount:
            return False
        self.left -= amount
        return True

    def give_back(self, now: float, minute: int, amount: int = 1) -> None:
        """What was taken in `minute` and not used. The next minute has no part in it."""
        if now < self.ends_at and minute == self.minute:
            self.left += amount

    def is_exhausted(self, now: float, amount: int = 1) -> bool:
        """Whether the region has said that there is not as much in this minute any more."""
        return self.refused and now < self.ends_at and amount > self.left + self.left_elsewhere

    def lease(self, sent_at: float, minute: int, granted: int, ends_in_s: float, left_elsewhere: int) -> None:
        """Add a block of `minute` that was asked for at `sent_at`."""
        ends_at = sent_at + ends_in_s
        if minute != self.minute:
            self.minute, self.left, self.ends_at = minute, 0, ends_at
        self.left += granted
        # Two leases in one minute differ by a round trip: the earlier end is the safe one.
        self.ends_at = min(ends_at, self.ends_at)
        self.left_elsewhere = left_elsewhere
        self.refused = granted == 0
        self.leased_at = sent_at
        self.after_lease = self.left

    def spare(self, now: float, unit: Unit) -> int:
        """How much to lease now beyond what is waited for."""
        first = max(1, self.limit // _FIRST_BLOCKS_PER_LIMIT)
        soon = self.last_spare > 0 and now - self.leased_at < _FAST_S
        most = block_size(self.limit, 0, unit, self.pace(now))
        self.last_spare = min(most, 2 * self.last_spare if soon else first)
        return self.last_spare

    def is_running_out(self, now: float) -> bool:
        """Whether half of what the last lease left here is used already, soon after it, and the region has most of this
        minute's limit to give. Who takes slowly hoards nothing ahead, and the last half is for whoever asks."""
        return (
            2 * self.left < self.after_lease
            and 2 * self.left_elsewhere > self.limit
            and now < self.ends_at
            and now - self.leased_at < _FAST_S
        )

    def pace(self, now: float) -> int:
        """How much was used in each second since the last lease."""
        elapsed = now - self.leased_at
        return int((self.after_lease - self.left) / elapsed) if now < self.ends_at and elapsed > 0 else 0

    def remaining(self, now: float) -> int:
        """How much more this minute has, as far as this gateway knows."""
        return self.left + self.left_elsewhere if now < self.ends_at else self.limit


def block_size(limit: int, waiting: int, unit: Unit = Unit.REQUESTS, pace: int = 0) -> int:
    """How much to lease at once, when `pace` is used in a second."""
    return max(waiting, min(limit // _BLOCKS_PER_LIMIT, max(_MAX_BLOCK[unit], pace)), 1)


@dataclass(slots=True)
class LocalShare:
    """What one gateway admits of a count by itself while Redis is away: its part of one limit per minute."""

    minute: int = -1
    used: int = 0

    def take(self, minute: int, share: int, amount: int = 1) -> bool:
        """Use `amount` of the share of this minute, which is counted on over several outages."""
        if minute != self.minute:
            self.minute, self.used = minute, 0
        if self.used + amount > share:
            return False
        self.used += amount
        return True
