"""Whether so much is going on that it pays to wait for the end of a turn of the event loop, and do things together.

To wake somebody for each request costs the waker more than the request's bytes do: another process on a core that
sleeps, a thread that needs the interpreter's lock. While many requests run, those of one turn are handed over together.
What comes alone or now and then is handed over at once: a turn may take milliseconds beside thousands of streams.
"""

from collections import deque

_MANY = 8
_WITHIN_S = 0.005


class Rush:
    """Of one kind of thing that happens. Pure: time is passed in."""

    __slots__ = ("_recent",)

    def __init__(self) -> None:
        self._recent = deque([float("-inf")] * _MANY, maxlen=_MANY)

    def note(self, now: float) -> bool:
        """It happens now (monotonic seconds); whether it has happened often in the last milliseconds."""
        first = self._recent[0]
        self._recent.append(now)
        return now - first < _WITHIN_S
