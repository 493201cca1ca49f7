"""What a draft changes. Pure."""

from datetime import datetime
from uuid import UUID

from msgspec import Struct
from msgspec.structs import asdict

from chappe_kernel.rating import Price


class DraftLine(Struct, frozen=True):
    """What a listing will cost in a region: `price`, or `discount_basis_points` less than the list price."""

    listing_id: UUID
    listing: str
    region: str
    currency: str
    price: Price | None
    discount_basis_points: int | None


class Change(Struct, frozen=True):
    """One component of one line. `before_nano` is None where nothing was sold before."""

    component: str
    before_nano: int | None
    after_nano: int

    @property
    def percent(self) -> float | None:
        """For a reader: how much more it is. None from nothing, or from zero."""
        return None if not self.before_nano else 100 * (self.after_nano - self.before_nano) / self.before_nano


class Difference(Struct, frozen=True):
    """A line beside what is in force where it will apply, or will be by then (`version_id`, since `starts_at`)."""

    line: DraftLine
    price: Price
    version_id: UUID | None
    starts_at: datetime | None
    changes: tuple[Change, ...]


def compare(before: Price | None, after: Price) -> tuple[Change, ...]:
    """The components that differ; all of those that are not zero, where there was no price before."""
    old = {} if before is None else asdict(before)
    return tuple(
        Change(name, old.get(name), value)
        for name, value in asdict(after).items()
        if (value != 0 if before is None else value != old[name])
    )
