"""Money that came and that nobody may credit by a rule."""

from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from chappe_billing.funds.once import clean_reason
from chappe_billing.payments import queries
from chappe_kernel.errors import Conflict


async def close(session: AsyncSession, quarantined_id: UUID, resolution: str) -> None:
    """As the operator: somebody saw to it, in the books or at the service, and says how. Raises `Invalid`, and
    `Conflict` for what is not open."""
    if not await queries.close_quarantined(session, quarantined_id, clean_reason(resolution)):
        raise Conflict("this is not open", code="already_closed")
