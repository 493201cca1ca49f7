"""Requests at once, out of places that were leased from the region. Pure: time is passed in.

A process holds as many places as it was leased, for a few seconds, and renews them. What runs is told with each
renewal even if it is more than there is (after a FLUSHALL, or a process that was held up): nobody new gets in until
enough have ended.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from chappe_kernel.wire.control import RateLimit

LEASE_S = 5.0
# Beside those in use a process keeps this part of a limit, so that the next request needs no round trip. Of a small
# limit it keeps nothing: what it kept would be missing elsewhere.
_SPARE_PART = 20
_MOST_SPARE = 16


@dataclass(slots=True, eq=False)
class Gauge:
    """One limit of concurrent requests in one gateway process. Instants are monotonic seconds."""

    key: str
    """What the region counts it under."""
    whose: str
    model: str | None
    limit: int
    running: int = 0
    leased: int = 0
    ends_at: float = 0.0
    """Until when the places are leased, unless they are renewed."""
    is_short: bool = False
    """Somebody found none free: whatever ends is given back at once, and nothing is kept."""
    none_until: float = 0.0
    """The region has just said that there is none, and is not asked again before then."""

    def has_room(self, now: float) -> bool:
        """Whether one more may run without asking anybody."""
        return self.running < self.leased and now < self.ends_at

    @property
    def spare(self) -> int:
        """How many places to keep beside those in use."""
        return 0 if self.is_short else min(self.limit // _SPARE_PART, _MOST_SPARE)

    def lease(self, sent_at: float, places: int, *, is_short: bool) -> None:
        """All places of this process from now on, as asked for at `sent_at`."""
        self.leased = places
        self.ends_at = sent_at + LEASE_S
        self.is_short = is_short

    def wants_to_give_back(self, waiting: int) -> bool:
        """Whether a request's end leaves a place that others may be waiting for, and nobody here."""
        return self.spare == 0 and self.leased > self.running + waiting


def gauged(limits: Iterable[RateLimit], model: str) -> list[tuple[str, RateLimit, int]]:
    """Key, limit and number of places for each limit on requests at once that a request for `model` keeps to."""
    return [
        (limit.scope if limit.model is None else f"{limit.scope}:{limit.model}", limit, limit.concurrent_requests)
        for limit in limits
        if limit.concurrent_requests is not None and limit.model in (None, model)
    ]
