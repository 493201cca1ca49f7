"""Time as an argument, so that the same rules run in tests and in simulated time."""

import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """Wall time for records, monotonic seconds for every deadline."""

    def now(self) -> datetime: ...

    def monotonic(self) -> float: ...


class SystemClock:
    """The machine's own clocks."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    # Nothing in between: a request asks nine times.
    monotonic = staticmethod(time.monotonic)
