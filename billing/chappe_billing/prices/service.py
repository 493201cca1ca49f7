"""Publishing prices."""

from datetime import datetime, timedelta
from uuid import UUID

import msgspec
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_billing.prices import queries
from chappe_billing.prices.models import PriceVersion
from chappe_kernel.errors import Conflict, Invalid
from chappe_kernel.ids import PriceVersionId, new_id
from chappe_kernel.rating import Price

MAX_COMPONENT_NANO = 10**12
"""A thousand units of currency per token: a typing error. It also keeps every charge within 64 bits."""

DEFAULT_NOTICE = timedelta(seconds=300)


async def publish_price(
    session: AsyncSession,
    *,
    listing_id: UUID,
    region: str,
    currency: str,
    price: Price,
    starts_at: datetime | None = None,
    notice: timedelta = DEFAULT_NOTICE,
) -> PriceVersionId:
    """Publish `price` from `starts_at` on; None is as soon as allowed. As the operator; locks this price list.

    The first version takes effect at once. A later one gives `notice`, the snapshot's maximum age, so that no gateway
    holds money under the old price when the new one is in force. When the last published version is equal, nothing is
    published and its id is returned.

    Raises `Invalid` (a start without zone, too soon, or an absurd component) and `Conflict` (a later version exists).
    """
    if max(msgspec.structs.astuple(price)) > MAX_COMPONENT_NANO:
        raise Invalid("a price component is over a thousand units of currency", code="invalid_price")
    if starts_at is not None and starts_at.tzinfo is None:
        raise Invalid("a price's start needs a time zone", code="invalid_starts_at", param="starts_at")
    now = await queries.lock_price_book(session, listing_id, region)
    last = await queries.last_price(session, listing_id, region)
    if last is not None and queries.price_of(last) == price and last.currency == currency:
        return PriceVersionId(last.id)
    earliest = now if last is None else now + notice
    start = starts_at or earliest
    if last is not None:
        _check_start(start, earliest, last)
    version = PriceVersion(
        id=new_id(),
        listing_id=listing_id,
        region=region,
        currency=currency,
        starts_at=start,
        **msgspec.structs.asdict(price),
    )
    session.add(version)
    await session.flush()
    return PriceVersionId(version.id)


def _check_start(start: datetime, earliest: datetime, last: PriceVersion) -> None:
    if start <= last.starts_at:
        raise Conflict("a price with a later start is published already", code="price_scheduled")
    if start < earliest:
        raise Invalid("a price takes effect no sooner than every gateway knows it", code="price_too_soon")
