"""SQL of grants. They change only while their tenant's budget is locked."""

from collections.abc import Collection, Mapping
from uuid import UUID

from sqlalchemy import select, text, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_billing.grants.models import BudgetGrant
from chappe_billing.grants.terms import GrantTimes
from chappe_kernel.ids import TenantId
from chappe_kernel.wire import control as wire
from chappe_store.arrays import is_among


async def find_grant(session: AsyncSession, grant_id: UUID) -> BudgetGrant | None:
    """As it is now, whatever this session read before."""
    return await session.get(BudgetGrant, grant_id, populate_existing=True)


async def find_grants(session: AsyncSession, ids: Collection[UUID]) -> dict[UUID, BudgetGrant]:
    statement = select(BudgetGrant).where(is_among(BudgetGrant.id, ids)).execution_options(populate_existing=True)
    return {grant.id: grant for grant in await session.scalars(statement)}


async def list_holders(session: AsyncSession, tenant_id: TenantId) -> frozenset[tuple[str, str]]:
    """Region and name of the gateways whose open grants could still spend something."""
    query = (
        select(BudgetGrant.region, BudgetGrant.gateway)
        .where(
            BudgetGrant.tenant_id == tenant_id,
            BudgetGrant.released_at.is_(None),
            BudgetGrant.amount_nano > BudgetGrant.returned_nano + BudgetGrant.posted_nano,
        )
        .distinct()
    )
    return frozenset((region, gateway) for region, gateway in await session.execute(query))


async def insert_grant(
    session: AsyncSession, region: str, ask: wire.AskGrant, amount_nano: int, times: GrantTimes
) -> bool:
    """False when the id is taken: by another tenant's grant, since this tenant's were looked at under its lock."""
    values = {
        "id": ask.grant_id,
        "tenant_id": ask.tenant_id,
        "region": region,
        "gateway": ask.gateway,
        "budgets": list(ask.budgets),
        "amount_nano": amount_nano,
        "admit_until": times.admit_until,
        "settle_by": times.settle_by,
        "release_at": times.release_at,
    }
    statement = upsert(BudgetGrant).values(values).on_conflict_do_nothing(index_elements=["id"])
    return await session.scalar(statement.returning(BudgetGrant.id)) is not None


async def set_returned(session: AsyncSession, grant_id: UUID, returned_nano: int) -> None:
    await session.execute(
        update(BudgetGrant)
        .where(BudgetGrant.id == grant_id)
        .values(returned_nano=returned_nano)
        .execution_options(synchronize_session=False)
    )


async def add_posted(session: AsyncSession, posted_nano: Mapping[UUID, int]) -> None:
    """Move money of these grants from pending to posted."""
    if posted_nano:
        values = {"ids": list(posted_nano), "amounts": list(posted_nano.values())}
        await session.execute(_ADD_POSTED, values)


_ADD_POSTED = text(
    """
    UPDATE budget_grant g SET posted_nano = g.posted_nano + p.amount_nano
    FROM unnest(CAST(:ids AS uuid[]), CAST(:amounts AS bigint[])) p (id, amount_nano) WHERE g.id = p.id
    """
)
