"""SQL of budgets. Every change begins with the lock on the tenant's row, before any of its grants."""

from collections.abc import Collection, Sequence
from datetime import datetime
from uuid import UUID

from msgspec import Struct
from sqlalchemy import func, literal, select, text, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_billing.budgets.models import Budget
from chappe_billing.grants.models import BudgetGrant
from chappe_kernel.ids import LegalEntityId, TenantId
from chappe_store.arrays import is_among
from chappe_tenants.organisations.models import Tenant


class LockedBudget(Struct, frozen=True):
    """A budget as of the moment since when it has been locked, expired grants already freed."""

    tenant_id: UUID
    currency: str
    legal_entity_id: LegalEntityId
    funds_nano: int
    posted_nano: int
    pending_nano: int
    credit_limit_nano: int

    @property
    def free_nano(self) -> int:
        """What may still be spent or lent; nothing, when there is debt."""
        return max(0, self.spendable_nano - self.pending_nano)

    @property
    def spendable_nano(self) -> int:
        """What would be free if all pending money came back; negative in debt."""
        return self.funds_nano + self.credit_limit_nano - self.posted_nano


class Movement(Struct, frozen=True):
    """What settled usage does to one budget."""

    tenant_id: UUID
    posted_nano: int
    unpended_nano: int


async def open_budget(session: AsyncSession, tenant_id: TenantId, currency: str) -> None:
    """An empty budget in the books of the tenant's legal entity, unless the tenant has one."""
    columns = ("tenant_id", "legal_entity_id", "currency")
    of_tenant = select(Tenant.id, Tenant.legal_entity_id, literal(currency)).where(Tenant.id == tenant_id)
    statement = upsert(Budget).from_select(columns, of_tenant)
    await session.execute(statement.on_conflict_do_nothing(index_elements=["tenant_id"]))


async def lock_budgets(session: AsyncSession, tenant_ids: Collection[UUID]) -> dict[UUID, LockedBudget]:
    """Lock the budgets of these tenants, in one order for everybody, until the transaction ends."""
    statement = (
        select(Budget).where(is_among(Budget.tenant_id, tenant_ids)).order_by(Budget.tenant_id).with_for_update()
    ).execution_options(populate_existing=True)
    return {
        budget.tenant_id: LockedBudget(
            tenant_id=budget.tenant_id,
            currency=budget.currency,
            legal_entity_id=LegalEntityId(budget.legal_entity_id),
            funds_nano=budget.funds_nano,
            posted_nano=budget.posted_nano,
            pending_nano=budget.pending_nano,
            credit_limit_nano=budget.credit_limit_nano,
        )
        for budget in await session.scalars(statement)
    }


async def release_expired_grants(session: AsyncSession, tenant_ids: Collection[UUID]) -> dict[UUID, int]:
    """Close these tenants' grants that are past `release_at`; the unexplained rest of them, by tenant.

    The budgets must be locked, and the caller takes the rest out of their pending money."""
    statement = (
        update(BudgetGrant)
        .where(
            is_among(BudgetGrant.tenant_id, tenant_ids),
            BudgetGrant.released_at.is_(None),
            BudgetGrant.release_at <= func.now(),
        )
        .values(released_at=func.now())
        .returning(BudgetGrant.tenant_id, BudgetGrant.amount_nano - BudgetGrant.returned_nano - BudgetGrant.posted_nano)
        .execution_options(synchronize_session=False)
    )
    freed: dict[UUID, int] = {}
    for tenant_id, rest_nano in await session.execute(statement):
        freed[tenant_id] = freed.get(tenant_id, 0) + rest_nano
    return freed


async def take_pending(session: AsyncSession, tenant_id: TenantId, amount_nano: int) -> bool:
    """Lend `amount_nano` if funds and credit limit cover it on top of all that is posted and pending."""
    statement = (
        update(Budget)
        .where(
            Budget.tenant_id == tenant_id,
            Budget.posted_nano + Budget.pending_nano + amount_nano <= Budget.funds_nano + Budget.credit_limit_nano,
        )
        .values(pending_nano=Budget.pending_nano + amount_nano)
        .returning(Budget.tenant_id)
        .execution_options(synchronize_session=False)
    )
    return await session.scalar(statement) is not None


async def move(session: AsyncSession, movements: Sequence[Movement]) -> None:
    """Post settled usage. The database refuses an increase of `posted + pending` that is not covered."""
    if not movements:
        return
    values = {
        "tenants": [row.tenant_id for row in movements],
        "posted": [row.posted_nano for row in movements],
        "unpended": [row.unpended_nano for row in movements],
    }
    await session.execute(_MOVE, values)


_MOVE = text(
    """
    UPDATE budget b SET posted_nano = b.posted_nano + m.posted_nano, pending_nano = b.pending_nano - m.unpended_nano
    FROM unnest(CAST(:tenants AS uuid[]), CAST(:posted AS bigint[]), CAST(:unpended AS bigint[]))
         m (tenant_id, posted_nano, unpended_nano)
    WHERE b.tenant_id = m.tenant_id
    """
)


async def add_funds(session: AsyncSession, tenant_id: TenantId, amount_nano: int) -> None:
    """As the operator. A negative amount takes funds away, into debt if need be."""
    await session.execute(
        update(Budget)
        .where(Budget.tenant_id == tenant_id)
        .values(funds_nano=Budget.funds_nano + amount_nano)
        .execution_options(synchronize_session=False)
    )


async def set_credit_limit(session: AsyncSession, tenant_id: TenantId, limit_nano: int) -> None:
    """As the operator."""
    await session.execute(
        update(Budget)
        .where(Budget.tenant_id == tenant_id)
        .values(credit_limit_nano=limit_nano)
        .execution_options(synchronize_session=False)
    )


async def read_credit_limits(session: AsyncSession, tenant_ids: Collection[UUID]) -> dict[UUID, int]:
    """By tenant, in nano; who has no budget is missing."""
    query = select(Budget.tenant_id, Budget.credit_limit_nano).where(is_among(Budget.tenant_id, tenant_ids))
    return {row.tenant_id: row.credit_limit_nano for row in await session.execute(query)}


async def read_database_time(session: AsyncSession) -> datetime:
    """The start of this transaction: the time that all of its rows carry."""
    return (await session.execute(select(func.now()))).scalar_one()
