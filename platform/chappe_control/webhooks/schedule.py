"""When a delivery is tried again, and when an endpoint is given up. Pure."""

from datetime import datetime, timedelta

_WAITS = tuple(
    timedelta(seconds=seconds) for seconds in (5, 30, 120, 600, 1800, 3600, 7200, 4 * 3600, 8 * 3600, 8 * 3600)
)
MOST_ATTEMPTS = len(_WAITS) + 1
"""Over a day and a bit."""
OLD_SECRET_FOR = timedelta(hours=24)
"""How long the secret before a rotation signs too."""
_FAILING_FOR = timedelta(days=3)
_GONE = 410


def wait_after(attempts: int) -> timedelta | None:
    """After this many tries that were not taken; None: that was the last one."""
    return _WAITS[attempts - 1] if attempts < MOST_ATTEMPTS else None


def reason_to_disable(status: int | None, failing_since: datetime, now: datetime) -> str | None:
    """After a try that was not taken. `gone`: the endpoint said that it is no more (410); `failing`: for three days
    nothing was taken there."""
    if status == _GONE:
        return "gone"
    return "failing" if now - failing_since >= _FAILING_FOR else None
