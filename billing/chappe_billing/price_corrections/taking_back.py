"""What publishers' shares a corrected price takes back: a part of what was posted, and never more. Pure."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import NamedTuple
from uuid import UUID

from msgspec import Struct

from chappe_billing.ledger.postings import Share
from chappe_billing.price_corrections.dues import Wrong
from chappe_kernel.ids import PublisherId


class Term(NamedTuple):
    """By which a publisher earned at the time."""

    publisher_id: UUID
    share_bp: int


class Shared(Struct, frozen=True):
    """Shares as they were posted, of which `part` in `whole` is for usage under the version in question."""

    term: Term
    base_nano: int
    share_nano: int
    part: int
    whole: int


class Taken(Struct, frozen=True):
    """What corrections of the version took back under a term so far. Positive."""

    base_nano: int
    share_nano: int


NOTHING = Taken(0, 0)
ROUNDING_NANO = 2
"""By how much a piece may differ from its terms: it is the difference of two sums that are cut off, as its base is. The
database has the same bound."""


def shares_to_take(
    wrong: Wrong,
    posted: Sequence[Shared],
    *,
    given: Fraction,
    taken: Mapping[Term, Taken],
    left_nano: Mapping[Term, int],
) -> tuple[Share, ...]:
    """`given` is the part of all that was paid under the version that tenants will have back after this correction.

    Each term loses that part of what it earned, in whole nanos, cut off in the publisher's favour; from that goes what
    it lost before. So corrections in pieces take what one would take, all of it is what was posted to the nano, and
    no term loses more than `left_nano`, what all corrections of this tenant's usage left of it.
    """
    earned: defaultdict[Term, list[Fraction]] = defaultdict(lambda: [Fraction(0), Fraction(0)])
    for one in posted:
        weight = Fraction(one.part, one.whole)
        earned[one.term][0] += one.base_nano * weight
        earned[one.term][1] += one.share_nano * weight
    shares = []
    for term, (base, share) in sorted(earned.items()):
        before = taken.get(term, NOTHING)
        base_nano = max(0, int(base * given) - before.base_nano)
        back = Share(wrong.listing_id, PublisherId(term.publisher_id), wrong.region, term.share_bp, -base_nano)
        share_nano = min(
            int(share * given) - before.share_nano, left_nano.get(term, 0), ROUNDING_NANO - back.share_nano
        )
        if base_nano:
            shares.append(back.taking(max(0, share_nano)))
    return tuple(shares)
