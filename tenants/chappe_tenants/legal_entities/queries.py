"""SQL of legal entities. As the operator."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import func, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_kernel.ids import LegalEntityId
from chappe_tenants.legal_entities.models import LegalEntity, PaymentsSince

_BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)
"""Since when the first way holds, as the database notes it."""


async def list_entities(session: AsyncSession, *, limit: int, before: UUID | None = None) -> Sequence[LegalEntity]:
    """Newest first."""
    query = select(LegalEntity).order_by(LegalEntity.id.desc()).limit(limit)
    if before is not None:
        query = query.where(LegalEntity.id < before)
    return (await session.scalars(query)).all()


async def read_entity(session: AsyncSession, entity_id: UUID, *, lock: bool = False) -> LegalEntity | None:
    """As it is now, and with `lock` as it stays until the transaction ends."""
    query = select(LegalEntity).where(LegalEntity.id == entity_id).execution_options(populate_existing=True)
    found: LegalEntity | None = await session.scalar(query.with_for_update() if lock else query)
    return found


async def read_payments_since(session: AsyncSession, entity_ids: Sequence[UUID]) -> dict[UUID, datetime]:
    """Since when each collects as it does, if that was ever changed."""
    query = (
        select(PaymentsSince.legal_entity_id, func.max(PaymentsSince.since))
        .where(PaymentsSince.legal_entity_id.in_(list(entity_ids)), PaymentsSince.since > _BEGINNING)
        .group_by(PaymentsSince.legal_entity_id)
    )
    rows = await session.execute(query)
    return {row[0]: row[1] for row in rows}


async def insert_entity(session: AsyncSession, entity_id: LegalEntityId, values: Mapping[str, Any]) -> bool:
    """False when the name is taken."""
    statement = insert(LegalEntity).values(id=entity_id, **values).on_conflict_do_nothing(index_elements=["name"])
    return await session.scalar(statement.returning(LegalEntity.id)) is not None


async def update_entity(session: AsyncSession, entity_id: UUID, values: Mapping[str, Any]) -> None:
    await session.execute(
        update(LegalEntity)
        .where(LegalEntity.id == entity_id)
        .values(**values)
        .execution_options(synchronize_session=False)
    )


async def name_is_taken(session: AsyncSession, name: str, by_another_than: UUID) -> bool:
    query = select(LegalEntity.id).where(LegalEntity.name == name, LegalEntity.id != by_another_than)
    return await session.scalar(query) is not None


async def has_customers(session: AsyncSession, entity_id: UUID) -> bool:
    """Whether anything is, or was, in its currency: tenants, or accounts of its own."""
    statement = text(
        "SELECT EXISTS (SELECT FROM tenant WHERE legal_entity_id = :id) "
        "OR EXISTS (SELECT FROM ledger_account WHERE legal_entity_id = :id)"
    )
    return bool(await session.scalar(statement, {"id": entity_id}))
