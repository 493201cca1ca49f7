"""Locking a budget as it truly is now."""

from collections.abc import Collection
from uuid import UUID

import msgspec
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_billing.budgets import queries
from chappe_billing.budgets.queries import LockedBudget, Movement


async def lock_budgets(session: AsyncSession, tenant_ids: Collection[UUID]) -> dict[UUID, LockedBudget]:
    """Lock these tenants' budgets until the transaction ends, and free what their expired grants left unexplained.

    Tenants without a budget are missing from the answer. Grants are read and changed only under this lock.
    """
    locked = await queries.lock_budgets(session, tenant_ids)
    freed = await queries.release_expired_grants(session, list(locked))
    await queries.move(session, [Movement(tenant_id, 0, rest) for tenant_id, rest in freed.items() if rest])
    return {
        tenant_id: msgspec.structs.replace(budget, pending_nano=budget.pending_nano - freed.get(tenant_id, 0))
        for tenant_id, budget in locked.items()
    }
