"""SQL for calls that must not happen twice."""

from typing import Any

from sqlalchemy import delete, func, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_control.idempotency.models import IdempotencyRecord as Record
from chappe_store.session import TenantScope

_KEPT = text("interval '24 hours'")


async def drop_old(session: AsyncSession, scope: TenantScope) -> None:
    await session.execute(
        delete(Record).where(Record.tenant_id == scope.tenant_id, Record.created_at < func.now() - _KEPT)
    )


async def insert_record(session: AsyncSession, scope: TenantScope, *, route: str, key: str, body_digest: bytes) -> bool:
    """False if the call is known. Waits for another transaction that is just making the same call."""
    inserted = await session.scalar(
        insert(Record)
        .values(tenant_id=scope.tenant_id, route=route, key=key, body_digest=body_digest)
        .on_conflict_do_nothing(index_elements=["tenant_id", "route", "key"])
        .returning(Record.key)
    )
    return inserted is not None


async def read_record(session: AsyncSession, scope: TenantScope, *, route: str, key: str) -> Record:
    query = select(Record).where(Record.tenant_id == scope.tenant_id, Record.route == route, Record.key == key)
    return (await session.scalars(query)).one()


async def keep_answer(
    session: AsyncSession, scope: TenantScope, *, route: str, key: str, answer: dict[str, Any]
) -> None:
    await session.execute(
        update(Record)
        .where(Record.tenant_id == scope.tenant_id, Record.route == route, Record.key == key)
        .values(answer=answer)
    )
