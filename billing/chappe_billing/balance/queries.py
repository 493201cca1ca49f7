"""What a tenant has."""

from msgspec import Struct
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_billing.budgets.models import Budget
from chappe_billing.grants.models import BudgetGrant
from chappe_kernel.errors import NotFound
from chappe_store.session import TenantScope


class Balance(Struct, frozen=True):
    """`available` is funds minus posted usage, without the credit limit: it falls when usage is settled, not while it
    is held. `pending` is what unexpired grants could still spend."""

    currency: str
    available_nano: int
    pending_nano: int
    credit_limit_nano: int


async def read_balance(session: AsyncSession, scope: TenantScope) -> Balance:
    """One statement, so one instant. Raises `NotFound` for a tenant that has no budget."""
    # From the grants, not from the budget's own sum: a grant that expired counts no more, though nobody has come by
    # to free it yet.
    pending = (
        select(
            func.coalesce(func.sum(BudgetGrant.amount_nano - BudgetGrant.returned_nano - BudgetGrant.posted_nano), 0)
        )
        .where(
            BudgetGrant.tenant_id == scope.tenant_id,
            BudgetGrant.released_at.is_(None),
            BudgetGrant.release_at > func.now(),
        )
        .scalar_subquery()
    )
    statement = select(
        Budget.currency, Budget.funds_nano - Budget.posted_nano, pending, Budget.credit_limit_nano
    ).where(Budget.tenant_id == scope.tenant_id)
    row = (await session.execute(statement)).one_or_none()
    if row is None:
        raise NotFound("this tenant has no budget")
    currency, available_nano, pending_nano, credit_limit_nano = row
    return Balance(currency, available_nano, int(pending_nano), credit_limit_nano)
