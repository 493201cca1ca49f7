"""How long to wait before another try, and when to look before sending again. Pure."""

from datetime import datetime, timedelta

_FIRST_WAIT_S = 2.0
_LONGEST_WAIT_S = 900.0
_MOST_DOUBLINGS = 20
COMPARE_AFTER = timedelta(hours=23)
"""The service forgets an idempotency key after 24 hours; an hour is for clocks and for the last try's own time."""


def wait_s(attempts: int, retry_after_s: float | None) -> float:
    """After this many tries, the last of them just now: what the service asks for, if that is longer than ours."""
    ours = min(_FIRST_WAIT_S * (1 << min(attempts - 1, _MOST_DOUBLINGS)), _LONGEST_WAIT_S)
    return max(ours, min(retry_after_s or 0.0, _LONGEST_WAIT_S))


def must_compare(first_tried_at: datetime, now: datetime) -> bool:
    """Whether the key may be forgotten, so that sending it again could do it twice."""
    return now - first_tried_at >= COMPARE_AFTER
