"""Rating a month's sums under a draft. Pure.

Rating is linear in what is chargeable, so the sums of a tenant's requests under a version cost what the requests do.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from uuid import UUID

from msgspec import Struct

from chappe_kernel.rating import Price, Total, discounted, rate_total

Place = tuple[UUID, str]
"""Listing and region."""


class Used(Struct, frozen=True):
    """What a tenant used of a listing in a region at list price, at a price of its own (`is_own`), or at the list price
    less a discount, and what that was charged with."""

    tenant_id: UUID
    listing_id: UUID
    region: str
    is_own: bool
    discount_basis_points: int | None
    total: Total
    charged_nano: int


class Sums(Struct, frozen=True):
    requests: int = 0
    before_nano: int = 0
    after_nano: int = 0

    def __add__(self, other: "Sums") -> "Sums":
        return Sums(
            self.requests + other.requests,
            self.before_nano + other.before_nano,
            self.after_nano + other.after_nano,
        )


class Reckoned(Struct, frozen=True):
    """By place, and by tenant, of what the draft would have changed."""

    places: Mapping[Place, Sums]
    tenants: Mapping[UUID, Sums]

    @property
    def total(self) -> Sums:
        return sum(self.places.values(), Sums())


def reckon(used: Iterable[Used], prices: Mapping[Place, Price], tenant_id: UUID | None) -> Reckoned:
    """What it would have cost: everybody at the draft's prices, but for those with fixed prices of their own, and with
    their discounts; or with `tenant_id` that tenant's, whatever it paid."""
    places: defaultdict[Place, Sums] = defaultdict(Sums)
    tenants: defaultdict[UUID, Sums] = defaultdict(Sums)
    for one in used:
        place = one.listing_id, one.region
        price = _price_of(one, prices[place], tenant_id)
        if price is not None:
            sums = Sums(one.total.requests, one.charged_nano, rate_total(price, one.total))
            places[place] += sums
            tenants[one.tenant_id] += sums
    return Reckoned(dict(places), dict(tenants))


def _price_of(one: Used, price: Price, tenant_id: UUID | None) -> Price | None:
    """None: the draft is not about it."""
    if tenant_id is not None:
        return price if one.tenant_id == tenant_id else None
    if one.discount_basis_points is not None:
        # A tenant's own, or of batches.
        return discounted(price, one.discount_basis_points)
    return None if one.is_own else price
