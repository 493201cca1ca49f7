"""What is in force of the price book, what will be, and what was. Pure."""

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from msgspec import Struct

from chappe_billing.prices.models import PriceVersion, PriceWithdrawal
from chappe_control.console.prices.queries import BookedPrice


class State(StrEnum):
    """What has become of a version."""

    SCHEDULED = "scheduled"
    IN_FORCE = "in_force"
    ENDED = "ended"
    WITHDRAWN = "withdrawn"


class Version(Struct, frozen=True):
    """A version and its end, which follows from the next one's start; None: it is open."""

    booked: BookedPrice
    ends_at: datetime | None


class RegionPrices(Struct, frozen=True):
    """One listing in one region. `on_sale`: the catalogue still offers it there."""

    region: str
    on_sale: bool
    current: Version | None
    scheduled: Sequence[Version]
    past: Sequence[Version]
    """The newest first."""


def arrange(
    versions: Sequence[BookedPrice], now: datetime, sold_in: dict[UUID, list[str]]
) -> dict[UUID, list[RegionPrices]]:
    """Prices by listing; `versions` ascend by start within each listing and region."""
    lists: defaultdict[tuple[UUID, str], list[BookedPrice]] = defaultdict(list)
    for version in versions:
        lists[version.listing_id, version.region].append(version)
    book: defaultdict[UUID, list[RegionPrices]] = defaultdict(list)
    for (listing_id, region), found in lists.items():
        book[listing_id].append(_region(region, found, now, on_sale=region in sold_in.get(listing_id, ())))
    return dict(book)


def _region(region: str, found: Sequence[BookedPrice], now: datetime, *, on_sale: bool) -> RegionPrices:
    ends = [*(version.starts_at for version in found[1:]), None]
    versions = [Version(version, end) for version, end in zip(found, ends, strict=True)]
    started = [version for version in versions if version.booked.starts_at <= now]
    return RegionPrices(
        region=region,
        on_sale=on_sale,
        current=started[-1] if started else None,
        scheduled=versions[len(started) :],
        past=started[-2::-1] if len(started) > 1 else [],
    )


def state_of(
    version: PriceVersion, ends_at: datetime | None, withdrawal: PriceWithdrawal | None, now: datetime
) -> State:
    """`ends_at` is when the next one of its list starts."""
    if withdrawal is not None:
        return State.WITHDRAWN
    if version.starts_at > now:
        return State.SCHEDULED
    return State.IN_FORCE if ends_at is None or ends_at > now else State.ENDED
