"""How long a grant lives."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from chappe_kernel.errors import Invalid


@dataclass(frozen=True)
class GrantTerms:
    """Seconds from the asking: new requests are admitted, streams may go on, and the rest is freed."""

    admit_s: float
    settle_s: float
    release_s: float

    def __post_init__(self) -> None:
        if not 0 < self.admit_s <= self.settle_s <= self.release_s:
            raise Invalid("a grant admits, then settles, then is released", code="invalid_setting")


@dataclass(frozen=True)
class GrantTimes:
    admit_until: datetime
    settle_by: datetime
    release_at: datetime


def grant_times(now: datetime, terms: GrantTerms) -> GrantTimes:
    """The three instants of a grant asked for at `now` (UTC). None admits across a month's end, so that a request and
    its price belong to one month; what was admitted before may settle after it."""
    first_of_month = now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    next_month = (first_of_month + timedelta(days=32)).replace(day=1)
    return GrantTimes(
        admit_until=min(now + timedelta(seconds=terms.admit_s), next_month),
        settle_by=now + timedelta(seconds=terms.settle_s),
        release_at=now + timedelta(seconds=terms.release_s),
    )
