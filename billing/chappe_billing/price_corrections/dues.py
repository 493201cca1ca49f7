"""What is due to a tenant for what it used under a wrong price. Pure."""

from collections.abc import Sequence
from uuid import UUID

from msgspec import Struct

from chappe_kernel.rating import Counts, Outcome, Price, Total, charge, rate_total


class Wrong(Struct, frozen=True):
    """A version that was reverted, or followed one that was, and what should have been paid instead."""

    version_id: UUID
    listing_id: UUID
    region: str
    right: Price
    reverted_by: UUID


class Story(Struct, frozen=True):
    """What a request used, or by the other witness should have counted as."""

    outcome: Outcome
    counts: Counts


class GivenEarlier(Struct, frozen=True):
    """What a discrepancy gave back at the wrong price, before that was reverted."""

    corrected_nano: int
    posted: Story
    other: Story


class Due(Struct, frozen=True):
    """`paid_nano` under the wrong version, after what was given back already for other reasons; `right_nano` is what it
    should have been."""

    paid_nano: int
    right_nano: int

    def beyond(self, given_nano: int) -> int:
        """What is to be given back now; never negative: who paid too little owes nothing."""
        return max(0, self.paid_nano - self.right_nano - given_nano)


def due(wrong: Wrong, total: Total, paid_nano: int, earlier: Sequence[GivenEarlier] = ()) -> Due:
    """By the sums of all that a tenant used under the version: rating is linear in them."""
    right_nano: int = rate_total(wrong.right, total)
    for one in earlier:
        paid_nano -= one.corrected_nano
        posted, other = (charge(wrong.right, story.outcome, story.counts) for story in (one.posted, one.other))
        right_nano -= max(0, posted - other)
    return Due(paid_nano, right_nano)
