"""What a month comes to under a contract's terms. Pure, exact, in whole nanos.

Discounts first, on what was used; then minimums, on what is left to pay; a commitment at its last month, on all that
was paid in its months, fees included.
"""

from collections.abc import Sequence
from enum import StrEnum

from msgspec import Struct

from chappe_kernel.rating import WHOLE_BASIS_POINTS


class TermKind(StrEnum):
    VOLUME_DISCOUNT = "volume_discount"
    MINIMUM = "minimum"
    COMMITMENT = "commitment"


class Tier(Struct, frozen=True):
    """Of what was used from `from_nano` on, up to where the next tier begins, so much is given back."""

    from_nano: int
    basis_points: int


def volume_discount(tiers: Sequence[Tier], used_nano: int) -> int:
    """Tier by tier, each on its own part; rounded once, half up, for the whole month. `tiers` ascend."""
    ends = [*(tier.from_nano for tier in tiers[1:]), max(used_nano, 0)]
    parts = (
        max(0, min(used_nano, end) - tier.from_nano) * tier.basis_points for tier, end in zip(tiers, ends, strict=True)
    )
    return (sum(parts) + WHOLE_BASIS_POINTS // 2) // WHOLE_BASIS_POINTS


def shortfall(least_nano: int, paid_nano: int) -> int:
    """What is missing to a minimum or a commitment."""
    return max(0, least_nano - paid_nano)
