"""How long a grant lives."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from chappe_kernel.errors import Invalid

MAX_POSTPAID_ADMIT_S = 24 * 3600.0


@dataclass(frozen=True)
class GrantTerms:
    """Seconds from the asking: new requests are admitted, streams may go on, and the rest is freed.

    Who is postpaid is admitted for `postpaid_admit_s`, if that is longer, and streams and release follow as much later:
    so long its requests go on when a cell is cut off, at the operator's risk.
    """

    admit_s: float
    settle_s: float
    release_s: float
    postpaid_admit_s: float = 0.0

    def __post_init__(self) -> None:
        if not 0 < self.admit_s <= self.settle_s <= self.release_s:
            raise Invalid("a grant admits, then settles, then is released", code="invalid_setting")
        if not 0 <= self.postpaid_admit_s <= MAX_POSTPAID_ADMIT_S:
            raise Invalid("a postpaid grant admits for a day at most", code="invalid_setting")

    def of(self, *, postpaid: bool) -> "GrantTerms":
        """As they are for this tenant."""
        later_s = max(0.0, self.postpaid_admit_s - self.admit_s) if postpaid else 0.0
        return GrantTerms(self.admit_s + later_s, self.settle_s + later_s, self.release_s + later_s)


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
