"""Requests per fixed minute, out of blocks that were leased from the region. Pure: time is passed in.

A block dies with its minute. Its end is counted from when the lease was sent, so it never outlives the minute of the
Redis that gave it.
"""

from dataclasses import dataclass

# A block is this part of the limit, so that few gateways hoard little, within these bounds.
_BLOCKS_PER_LIMIT = 20
_MAX_BLOCK = 200


@dataclass(slots=True)
class Window:
    """One scope's current minute in this gateway. `ends_at` is on the monotonic clock."""

    limit: int
    left: int = 0
    minute: int = -1
    """The number of the minute by Redis's clock that the block belongs to."""
    ends_at: float = 0.0
    left_elsewhere: int = 0
    """What the region still had after our last lease."""
    exhausted: bool = False

    def take(self, now: float) -> bool:
        """Use one request of the block, if there is one in this minute."""
        if now >= self.ends_at or self.left <= 0:
            return False
        self.left -= 1
        return True

    def give_back(self, now: float) -> None:
        """Undo a `take` of the same minute, because another scope refused."""
        if now < self.ends_at:
            self.left += 1

    def is_exhausted(self, now: float) -> bool:
        """Whether the region has said that this minute is used up."""
        return self.exhausted and now < self.ends_at

    def lease(self, sent_at: float, minute: int, granted: int, ends_in_s: float, left_elsewhere: int) -> None:
        """Add a block of `minute` that was asked for at `sent_at`."""
        ends_at = sent_at + ends_in_s
        if minute != self.minute:
            self.minute, self.left, self.ends_at = minute, 0, ends_at
        self.left += granted
        # Two leases in one minute differ by a round trip: the earlier end is the safe one.
        self.ends_at = min(ends_at, self.ends_at)
        self.left_elsewhere = left_elsewhere
        self.exhausted = granted == 0

    def remaining(self, now: float) -> int:
        """How many more requests this minute has, as far as this gateway knows."""
        return self.left + self.left_elsewhere if now < self.ends_at else self.limit


def block_size(limit: int, waiting: int) -> int:
    """How many requests to lease at once."""
    return max(waiting, min(limit // _BLOCKS_PER_LIMIT, _MAX_BLOCK), 1)


@dataclass(slots=True)
class LocalShare:
    """What one gateway admits of a scope by itself while Redis is away: its part of one limit per minute."""

    minute: int = -1
    used: int = 0

    def take(self, minute: int, share: int) -> bool:
        """Use one request of the share of this minute, which is counted on over several outages."""
        if minute != self.minute:
            self.minute, self.used = minute, 0
        if self.used >= share:
            return False
        self.used += 1
        return True
