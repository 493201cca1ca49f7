"""How a tenant's discount follows the list price. Pure.

A discount is rounded once, when it is published, so that rating an event stays exact: what a tenant has is not "ten
per cent less" but versions of its own. A list price that changes publishes them anew, from the same moment on.
"""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from msgspec import Struct

from chappe_kernel.rating import Price, discounted


class Known(Struct, frozen=True):
    """A published version. `discount_basis_points` is None where it follows nothing: everybody's, and fixed ones."""

    id: UUID
    starts_at: datetime
    price: Price
    discount_basis_points: int | None = None


class Following(Struct, frozen=True):
    """A tenant's version to publish; `replaces` is one that has not started, to be withdrawn for it."""

    starts_at: datetime
    price: Price
    discount_basis_points: int
    replaces: UUID | None = None


def in_force(versions: Sequence[Known], at: datetime) -> Known | None:
    """The last one that has started by then; `versions` ascend by their start."""
    started = [version for version in versions if version.starts_at <= at]
    return started[-1] if started else None


def follow(price: Price, starts_at: datetime, own: Sequence[Known]) -> list[Following]:
    """What a tenant's own list needs when the list price becomes `price` at `starts_at`, after all that it was before.

    Whatever follows in force then, and later: those that are scheduled were reckoned from the price of before.
    """
    current = in_force(own, starts_at)
    found = []
    if current is not None and current.discount_basis_points is not None and current.starts_at < starts_at:
        found.append(_following(price, starts_at, current.discount_basis_points))
    later = [version for version in own if version.starts_at >= starts_at]
    return found + [
        _following(price, version.starts_at, version.discount_basis_points, version.id)
        for version in later
        if version.discount_basis_points is not None
    ]


def discount_from(listed: Sequence[Known], starts_at: datetime, basis_points: int) -> list[Following]:
    """What a discount means from `starts_at` on: a version then, and one at each change of the list price after it.

    Empty if there is no list price then."""
    current = in_force(listed, starts_at)
    if current is None:
        return []
    later = [version for version in listed if version.starts_at > starts_at]
    return [
        _following(current.price, starts_at, basis_points),
        *(_following(version.price, version.starts_at, basis_points) for version in later),
    ]


def _following(price: Price, starts_at: datetime, basis_points: int, replaces: UUID | None = None) -> Following:
    return Following(starts_at, discounted(price, basis_points), basis_points, replaces)
