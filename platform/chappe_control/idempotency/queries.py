"""SQL for calls that must not happen twice."""

from typing import Any, TypeAlias

from msgspec import Struct
from sqlalchemy import ColumnElement, and_, delete, func, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_control.idempotency.models import IdempotencyRecord, OperatorIdempotencyRecord
from chappe_kernel.ids import OperatorUserId
from chappe_store.session import TenantScope

Owner: TypeAlias = TenantScope | OperatorUserId
"""Whose calls share keys: all of a tenant's, or all of one of the operator's people."""


class Known(Struct, frozen=True):
    """What is known of a call that was made."""

    body_digest: bytes
    answer: dict[str, Any] | None


_KEPT = text("interval '24 hours'")


async def drop_old(session: AsyncSession, owner: Owner) -> None:
    record = _table(owner)
    await session.execute(delete(record).where(_is_of(owner), record.created_at < func.now() - _KEPT))


async def insert_record(session: AsyncSession, owner: Owner, *, route: str, key: str, body_digest: bytes) -> bool:
    """False if the call is known. Waits for another transaction that is just making the same call."""
    record = _table(owner)
    inserted = await session.scalar(
        insert(record)
        .values(**_owned(owner), route=route, key=key, body_digest=body_digest)
        .on_conflict_do_nothing(index_elements=[*_owned(owner), "route", "key"])
        .returning(record.key)
    )
    return inserted is not None


async def read_record(session: AsyncSession, owner: Owner, *, route: str, key: str) -> Known:
    record = _table(owner)
    query = select(record.body_digest, record.answer).where(_is_call(owner, route, key))
    return Known(*(await session.execute(query)).one())


async def keep_answer(session: AsyncSession, owner: Owner, *, route: str, key: str, answer: dict[str, Any]) -> None:
    await session.execute(update(_table(owner)).where(_is_call(owner, route, key)).values(answer=answer))


def _table(owner: Owner) -> type[IdempotencyRecord] | type[OperatorIdempotencyRecord]:
    if isinstance(owner, TenantScope):
        return IdempotencyRecord
    return OperatorIdempotencyRecord


def _owned(owner: Owner) -> dict[str, Any]:
    return {"tenant_id": owner.tenant_id} if isinstance(owner, TenantScope) else {"user_id": owner}


def _is_of(owner: Owner) -> ColumnElement[bool]:
    if isinstance(owner, TenantScope):
        return IdempotencyRecord.tenant_id == owner.tenant_id
    return OperatorIdempotencyRecord.user_id == owner


def _is_call(owner: Owner, route: str, key: str) -> ColumnElement[bool]:
    record = _table(owner)
    return and_(_is_of(owner), record.route == route, record.key == key)
