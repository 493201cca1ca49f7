"""A circuit breaker for what is called over a network: pure, time in monotonic seconds and chance are passed in.

Closed, everything passes. Failures open it when they are many, at least half of what was tried lately, and go on for a
while: all streams of one replica that dies break off at once, and the other replicas are well. Open, nothing passes
until its time is over. Half-open, one call passes and decides: closed again, or open for twice as long.
"""

import math
from enum import IntEnum

_WINDOW_S = 10.0
_FEWEST_FAILURES = 5
_LASTING_S = 0.25
_FIRST_OPEN_S = 1.0
_LONGEST_OPEN_S = 30.0
# A probe that is never heard of again is given up for lost after this.
_PROBE_S = 10.0


class BreakerState(IntEnum):
    """Also what the metrics show."""

    CLOSED = 0
    HALF_OPEN = 1
    OPEN = 2


class Breaker:
    """One of them for each thing that can fail by itself."""

    __slots__ = (
        "_failing_since",
        "_failures",
        "_open_s",
        "_probe_until",
        "_successes",
        "_until",
        "_window_ends_at",
        "is_closed",
    )

    def __init__(self) -> None:
        self.is_closed = True
        """Whoever finds it so need not ask anything else."""
        self._failures = 0
        self._successes = 0
        self._failing_since = 0.0
        self._window_ends_at = -math.inf
        self._open_s = _FIRST_OPEN_S
        self._until = 0.0
        self._probe_until = 0.0

    def state(self, now: float) -> BreakerState:
        if self.is_closed:
            return BreakerState.CLOSED
        return BreakerState.OPEN if now < self._until else BreakerState.HALF_OPEN

    def would_pass(self, now: float) -> bool:
        """Whether `take` would say yes now; takes nothing."""
        return self.is_closed or (now >= self._until and now >= self._probe_until)

    def take(self, now: float) -> bool:
        """Whether this call may go out. `succeeded`, `failed` or `forget` follows, at the latest after 10 s."""
        if self.is_closed:
            return True
        if not self.would_pass(now):
            return False
        self._probe_until = now + _PROBE_S
        return True

    def succeeded(self, now: float) -> None:
        if not self.is_closed:
            if now < self._until:
                # It was sent before the breaker opened, and says nothing about now.
                return
            self._close()
        if now >= self._window_ends_at:
            self._begin_window(now)
        self._successes += 1

    def failed(self, now: float, draw: float) -> None:
        """`draw` is uniform in [0, 1): it keeps many gateways from trying again in the same instant."""
        if not self.is_closed:
            if now >= self._until:
                self._open_s = min(_LONGEST_OPEN_S, 2 * self._open_s)
                self._open(now, draw)
            return
        if now >= self._window_ends_at:
            self._begin_window(now)
        if self._failures == 0:
            self._failing_since = now
        self._failures += 1
        lasts = now - self._failing_since >= _LASTING_S
        if lasts and self._failures >= _FEWEST_FAILURES and self._failures >= self._successes:
            self._open(now, draw)

    def forget(self) -> None:
        """The call ended for a reason of its own, and says nothing: another may probe."""
        self._probe_until = 0.0

    def _open(self, now: float, draw: float) -> None:
        self.is_closed = False
        self._until = now + self._open_s * (0.5 + draw)
        self._probe_until = 0.0

    def _close(self) -> None:
        self.is_closed = True
        self._open_s = _FIRST_OPEN_S
        self._window_ends_at = -math.inf

    def _begin_window(self, now: float) -> None:
        self._window_ends_at = now + _WINDOW_S
        self._failures = self._successes = 0
