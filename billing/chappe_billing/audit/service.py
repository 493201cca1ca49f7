"""Verifying that nothing was tampered with and no posting went wrong."""

from sqlalchemy.ext.asyncio import AsyncSession

from chappe_billing.audit.queries import RULES, Difference, find_difference


async def verify_ledger(session: AsyncSession) -> Difference | None:
    """Recompute everything from the records; the first difference, or None. In a read-only snapshot (`audit`)."""
    for rule in RULES:
        difference = await find_difference(session, rule)
        if difference is not None:
            return difference
    return None
