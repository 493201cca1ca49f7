"""What somebody may ask of the feed's records."""

from datetime import datetime
from uuid import UUID

from msgspec import Struct


class Wanted(Struct, frozen=True):
    """Which records; what is None does not matter. Times are those of posting, by the database's clock."""

    sequence: int | None = None
    tenant_id: UUID | None = None
    kind: str | None = None
    posted_from: datetime | None = None
    posted_after: datetime | None = None
    posted_before: datetime | None = None
    posted_until: datetime | None = None

    @property
    def is_all(self) -> bool:
        return self == Wanted()
