"""SQL of the calls to the payment service."""

from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from msgspec import Struct
from sqlalchemy import case, exists, func, insert, or_, select, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased

from chappe_billing.payments.models import CallKind, CallState, PaymentCall, PaymentCallAttempt, PaymentCustomer
from chappe_store.arrays import is_among
from chappe_tenants.legal_entities.models import LegalEntity, Payments

_LIST_LIMIT = 100


class ClaimedCall(Struct, frozen=True):
    """A call that is the claimer's alone for a while. `attempts` counts this one."""

    id: UUID
    tenant_id: UUID
    kind: CallKind
    parameters: dict[str, Any]
    payment_id: UUID | None
    refund_id: UUID | None
    attempts: int
    first_tried_at: datetime
    retries: int
    customer: str | None


async def insert_call(session: AsyncSession, values: dict[str, Any]) -> None:
    await session.execute(insert(PaymentCall).values(values))


async def insert_new_call(session: AsyncSession, values: dict[str, Any]) -> bool:
    """Unless it is there, or a tenant's customer is on its way already; whether it is new."""
    statement = upsert(PaymentCall).values(values).on_conflict_do_nothing().returning(PaymentCall.id)
    return await session.scalar(statement) is not None


async def claim_due(
    session: AsyncSession, *, now: datetime, lease: timedelta, limit: int, newest_first: bool = False
) -> list[ClaimedCall]:
    """As the operator: waiting calls whose time has come, longest due first, of entities that collect by the service.

    One that needs a customer waits for the tenant's to be there. `now` is the caller's clock's.
    """
    order = (PaymentCall.due_at.desc(), PaymentCall.id.desc()) if newest_first else (PaymentCall.due_at, PaymentCall.id)
    customer = select(PaymentCustomer.service_id).where(PaymentCustomer.tenant_id == PaymentCall.tenant_id)
    collects = exists().where(LegalEntity.id == PaymentCall.legal_entity_id, LegalEntity.payments == Payments.STRIPE)
    due = (
        select(PaymentCall.id)
        .where(
            PaymentCall.state == CallState.WAITING,
            PaymentCall.due_at <= now,
            or_(PaymentCall.kind == CallKind.CUSTOMER, customer.exists()),
            collects,
        )
        .order_by(*order)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    statement = (
        update(PaymentCall)
        .where(PaymentCall.id.in_(due))
        .values(
            attempts=PaymentCall.attempts + 1,
            first_tried_at=func.coalesce(PaymentCall.first_tried_at, now),
            due_at=now + lease,
        )
        .returning(
            PaymentCall.id,
            PaymentCall.tenant_id,
            PaymentCall.kind,
            PaymentCall.parameters,
            PaymentCall.payment_id,
            PaymentCall.refund_id,
            PaymentCall.attempts,
            PaymentCall.first_tried_at,
            PaymentCall.retries,
            customer.scalar_subquery(),
        )
        .execution_options(synchronize_session=False)
    )
    rows = [ClaimedCall(*row) for row in await session.execute(statement)]
    return sorted(rows, key=lambda row: row.id)


async def lock_call(session: AsyncSession, call_id: UUID) -> PaymentCall:
    """Until the transaction ends; after the tenant's budget."""
    statement = select(PaymentCall).where(PaymentCall.id == call_id).with_for_update()
    return (await session.scalars(statement.execution_options(populate_existing=True))).one()


async def find_any_call(session: AsyncSession, call_id: UUID) -> PaymentCall | None:
    """As the operator, whoever's it is."""
    return await session.scalar(select(PaymentCall).where(PaymentCall.id == call_id))


async def end_call(
    session: AsyncSession, call_id: UUID, state: CallState, *, service_id: str | None = None, url: str | None = None
) -> None:
    ended = {} if state is CallState.POISONED else {"ended_at": func.now()}
    values: dict[str, Any] = {"state": state, "service_id": service_id, "url": url, **ended}
    await _update(session, call_id, values)


async def postpone(session: AsyncSession, call_id: UUID, until: datetime) -> None:
    await _update(session, call_id, {"due_at": until})


async def wait_again(session: AsyncSession, call_id: UUID) -> None:
    """What a person found to be worth another try. Its first try stays what it was: what it may have done is looked
    for before it is sent again."""
    again = {"state": CallState.WAITING, "due_at": func.now(), "retries": PaymentCall.retries + 1}
    await _update(session, call_id, again)


async def _update(session: AsyncSession, call_id: UUID, values: dict[str, Any]) -> None:
    await session.execute(
        update(PaymentCall).where(PaymentCall.id == call_id).values(values).execution_options(synchronize_session=False)
    )


async def note_attempt(
    session: AsyncSession, tenant_id: UUID, call_id: UUID, *, attempt: int, outcome: str, detail: str | None
) -> None:
    statement = upsert(PaymentCallAttempt).values(
        tenant_id=tenant_id, call_id=call_id, attempt=attempt, outcome=outcome, detail=detail and detail[:500]
    )
    await session.execute(statement.on_conflict_do_nothing())


async def list_open_calls(session: AsyncSession, *, limit: int = _LIST_LIMIT) -> list[PaymentCall]:
    """As the operator: what is poisoned, then what waits after a failed try; oldest first."""
    statement = (
        select(PaymentCall)
        .where(
            or_(
                PaymentCall.state == CallState.POISONED,
                (PaymentCall.state == CallState.WAITING) & (PaymentCall.attempts > 1),
            )
        )
        .order_by(case((PaymentCall.state == CallState.POISONED, 0), else_=1), PaymentCall.id)
        .limit(limit)
    )
    return list(await session.scalars(statement))


async def list_last_attempts(
    session: AsyncSession, call_ids: Collection[UUID], *, limit: int
) -> dict[UUID, list[PaymentCallAttempt]]:
    """Of each call so many, in their order; every call is among the keys."""
    newest_first = func.row_number().over(
        partition_by=PaymentCallAttempt.call_id,
        order_by=(PaymentCallAttempt.at.desc(), PaymentCallAttempt.attempt.desc()),
    )
    numbered = (
        select(PaymentCallAttempt, newest_first.label("number"))
        .join(
            PaymentCall,
            (PaymentCall.tenant_id == PaymentCallAttempt.tenant_id) & (PaymentCall.id == PaymentCallAttempt.call_id),
        )
        .where(is_among(PaymentCall.id, call_ids))
        .subquery()
    )
    attempt = aliased(PaymentCallAttempt, numbered)
    statement = select(attempt).where(numbered.c.number <= limit).order_by(attempt.at, attempt.attempt)
    found: dict[UUID, list[PaymentCallAttempt]] = {call_id: [] for call_id in call_ids}
    for one in await session.scalars(statement):
        found[one.call_id].append(one)
    return found


async def list_attempts(session: AsyncSession, call_id: UUID) -> list[PaymentCallAttempt]:
    """In their order."""
    statement = (
        select(PaymentCallAttempt)
        .where(PaymentCallAttempt.call_id == call_id)
        .order_by(PaymentCallAttempt.at, PaymentCallAttempt.attempt)
        .limit(_LIST_LIMIT)
    )
    return list(await session.scalars(statement))
