"""How a standing order bears failures."""

from datetime import timedelta

from sqlalchemy.ext.asyncio import AsyncSession

from chappe_billing.payments import queries
from chappe_billing.payments.models import Payment
from chappe_kernel.ids import TenantId
from chappe_store.queries import read_now
from chappe_store.session import TenantScope

MOST_FAILURES = 3
"""In a row; then it is off until somebody turns it on again."""
FIRST_WAIT = timedelta(hours=1)
_WAIT_GROWS = 6


async def note_failure(session: AsyncSession, payment: Payment) -> None:
    """Wait longer after each, and stop after a few: a card that is refused again and again does harm to its owner."""
    scope = TenantScope(TenantId(payment.tenant_id))
    wanted = await queries.find_auto_top_up(session, scope)
    if wanted is None:
        return
    failures = wanted.failures + 1
    next_at = await read_now(session) + FIRST_WAIT * _WAIT_GROWS ** (failures - 1)
    is_on = wanted.is_on and failures < MOST_FAILURES
    await queries.update_auto_top_up(session, payment.tenant_id, failures=failures, next_at=next_at, is_on=is_on)


async def note_success(session: AsyncSession, payment: Payment) -> None:
    await queries.update_auto_top_up(session, payment.tenant_id, failures=0)
