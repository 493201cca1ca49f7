"""SQL of a database that was restored, or promoted."""

from datetime import timedelta
from uuid import UUID

from msgspec import Struct
from sqlalchemy import delete, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.sql import ColumnElement

from chappe_billing.budgets.models import Budget
from chappe_billing.grants.models import BudgetGrant
from chappe_catalogue.regions.models import GatewayHeartbeat
from chappe_store.models import Instance

_LENDING: ColumnElement[bool] = or_(Instance.lends_from.is_(None), Instance.lends_from <= func.now())


class Reopening(Struct, frozen=True):
    """A grant as it counts from now on."""

    grant_id: UUID
    returned_nano: int
    settle_for_s: float
    release_for_s: float


async def is_lending(session: AsyncSession) -> bool:
    """Whether this database may lend: it is the one that gateways know, and they have told it everything."""
    query = select((Instance.server == func.server_identity()) & _LENDING)
    return bool((await session.execute(query)).scalar_one())


async def read_longest_grant(session: AsyncSession) -> timedelta | None:
    """The longest that any grant of those kept was lent for, until its release."""
    longest: timedelta | None = await session.scalar(select(func.max(BudgetGrant.release_at - BudgetGrant.created_at)))
    return longest


async def stop_lending(session: AsyncSession, *, listening: timedelta, at_most: timedelta) -> None:
    """Lend nothing until all gateways have told, but listen for `listening` at least and wait for `at_most`."""
    await session.execute(
        update(Instance).values(listens_until=func.now() + listening, lends_from=func.now() + at_most)
    )


async def lock_all_budgets(session: AsyncSession) -> None:
    """In the order in which everybody does."""
    await session.execute(select(Budget.tenant_id).order_by(Budget.tenant_id).with_for_update())


async def close_grants(session: AsyncSession) -> int:
    """Close every open grant and free its rest; how many. All budgets must be locked."""
    closed = await session.execute(
        update(BudgetGrant)
        .where(BudgetGrant.released_at.is_(None))
        .values(released_at=func.now())
        .returning(BudgetGrant.id)
        .execution_options(synchronize_session=False)
    )
    await session.execute(update(Budget).where(Budget.pending_nano > 0).values(pending_nano=0))
    return len(closed.all())


async def forget_silent_gateways(session: AsyncSession, silent_for: timedelta) -> None:
    """Those that had not been heard of for so long when the newest was heard: they are nobody to wait for."""
    newest = select(func.max(GatewayHeartbeat.seen_at)).scalar_subquery()
    await session.execute(delete(GatewayHeartbeat).where(GatewayHeartbeat.seen_at < newest - silent_for))


async def reopen_grant(session: AsyncSession, reopening: Reopening) -> None:
    await session.execute(
        update(BudgetGrant)
        .where(BudgetGrant.id == reopening.grant_id)
        .values(
            returned_nano=reopening.returned_nano,
            settle_by=func.now() + timedelta(seconds=reopening.settle_for_s),
            release_at=func.now() + timedelta(seconds=reopening.release_for_s),
            released_at=None,
        )
        .execution_options(synchronize_session=False)
    )


async def lend_from_now(session: AsyncSession) -> bool:
    """End the waiting, whoever is still awaited. As the operator; false when nobody waited."""
    statement = update(Instance).where(Instance.lends_from > func.now()).values(lends_from=func.now())
    return await session.scalar(statement.returning(Instance.singleton)) is not None
