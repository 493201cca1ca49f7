"""SQL of what is told to the service's meters."""

from datetime import date, timedelta
from uuid import UUID

import msgspec
from msgspec import Struct
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

_OLDEST = timedelta(days=33)
"""The service takes nothing that is older than 35 days, and a call may wait for a while."""
_OVER_FOR = timedelta(hours=2)
"""After midnight (UTC): whatever was posted in the day is committed by then."""


class UsedDay(Struct, frozen=True):
    """What a tenant was charged for usage that was posted in a day (UTC), above 0."""

    tenant_id: UUID
    day: date
    amount_nano: int


_UNREPORTED = text(
    """
    SELECT d.tenant_id, d.day, sum(d.amount_nano - d.written_off_nano)::bigint AS amount_nano
    FROM usage_day d
    JOIN tenant t ON t.id = d.tenant_id
    JOIN legal_entity l ON l.id = t.legal_entity_id AND l.payments = 'stripe'
    WHERE d.day >= ((now() - CAST(:oldest AS interval)) AT TIME ZONE 'UTC')::date
      AND d.day < ((now() - CAST(:over_for AS interval)) AT TIME ZONE 'UTC')::date
      AND NOT EXISTS (
          SELECT FROM payment_call c
          WHERE c.tenant_id = d.tenant_id AND c.kind = 'usage' AND c.parameters ->> 'meter' = :meter
            AND left(c.parameters ->> 'at', 10) = d.day::text
      )
    GROUP BY 1, 2 HAVING sum(d.amount_nano - d.written_off_nano) > 0
    ORDER BY 2, 1 LIMIT :limit
    """
)


async def list_unreported(session: AsyncSession, meter: str, limit: int) -> list[UsedDay]:
    """As the operator: days that are over, the oldest first, of tenants whose entity collects by the service."""
    values = {"meter": meter, "limit": limit, "oldest": _OLDEST, "over_for": _OVER_FOR}
    rows = (await session.execute(_UNREPORTED, values)).mappings()
    return msgspec.convert([dict(row) for row in rows], list[UsedDay])
