"""Where a request goes that does not run here: pure, over what is known of the regions that offer its model.

Residency comes first and is absolute: whatever is known or unknown of a region, one that is not allowed is never named.
Among the others: those with room before those where it would wait, those that are about as quick as the quickest before
slower ones, then the cheaper one, then the tenant's own order. Nothing is weighed against money at a made-up rate.
"""

from collections.abc import Iterable, Sequence

from msgspec import Struct

# "About as quick": within this factor of the quickest, and this much.
_SLACK_FACTOR = 1.5
_SLACK_S = 0.1


class Candidate(Struct, frozen=True):
    """One region that offers the model, as it was last seen."""

    region: str
    answers: bool
    """Its gateway answered lately, says that the deployment does, and no breaker is open."""
    price_nano: int | None
    """What this request would cost there at most; None while no price is in force."""
    running: int = 0
    waiting: int = 0
    limit: int = 1
    """How many may run at once."""
    ttft_s: float | None = None
    """Of recent streams there, with the way to it. None: none was seen."""

    @property
    def has_room(self) -> bool:
        return self.waiting == 0 and self.running < self.limit

    @property
    def expected_s(self) -> float:
        """Until a first token, roughly. Who was never measured is tried."""
        return (self.ttft_s or 0.0) * (1 + self.waiting / max(1, self.limit))


def rank(allowed: Sequence[str], candidates: Iterable[Candidate]) -> tuple[str, ...]:
    """The regions to try, in order. `allowed` is the request's set, in order of preference."""
    order = {region: place for place, region in enumerate(allowed)}
    usable = [known for known in candidates if known.region in order and known.answers and known.price_nano is not None]
    if not usable:
        return ()
    quickest_s = min(known.expected_s for known in usable)
    bar_s = quickest_s * _SLACK_FACTOR + _SLACK_S

    def place(known: Candidate) -> tuple[bool, bool, int, int]:
        return (not known.has_room, known.expected_s > bar_s, known.price_nano or 0, order[known.region])

    return tuple(known.region for known in sorted(usable, key=place))
