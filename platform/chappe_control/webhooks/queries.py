"""SQL of webhooks. With a scope as the tenant; without one as the operator, for the worker."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from msgspec import Struct
from sqlalchemy import any_, delete, func, insert, literal, select, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_control.webhooks.models import WebhookAttempt, WebhookDelivery, WebhookEndpoint, WebhookEvent
from chappe_control.webhooks.sending import Answer
from chappe_store.session import TenantScope


class Work(Struct, frozen=True):
    """A delivery that is to be tried, with all that it takes."""

    tenant_id: UUID
    event_id: UUID
    body: str
    endpoint_id: UUID
    url: str
    secret: bytes
    old_secret: bytes | None
    is_open: bool
    """Whether its endpoint takes any: neither removed nor disabled."""


class Health(Struct, frozen=True):
    """Of an endpoint, at the database's time."""

    failing_since: datetime | None
    is_disabled: bool
    now: datetime


class LoggedDelivery(Struct, frozen=True):
    """As the log shows it. `status` and `error` are of the last try."""

    id: UUID
    event_id: UUID
    kind: str
    state: str
    attempts: int
    next_at: datetime | None
    created_at: datetime
    ended_at: datetime | None
    redelivers: UUID | None
    status: int | None
    error: str | None
    duration_ms: int | None


async def insert_endpoint(session: AsyncSession, scope: TenantScope, endpoint_id: UUID, **values: Any) -> None:
    await session.execute(insert(WebhookEndpoint).values(tenant_id=scope.tenant_id, id=endpoint_id, **values))


async def read_endpoint(
    session: AsyncSession, scope: TenantScope, endpoint_id: UUID, *, lock: bool = False
) -> WebhookEndpoint | None:
    """One that is not removed."""
    query = (
        select(WebhookEndpoint)
        .where(
            WebhookEndpoint.tenant_id == scope.tenant_id,
            WebhookEndpoint.id == endpoint_id,
            WebhookEndpoint.removed_at.is_(None),
        )
        .execution_options(populate_existing=True)
    )
    found: WebhookEndpoint | None = await session.scalar(query.with_for_update() if lock else query)
    return found


async def list_endpoints(session: AsyncSession, scope: TenantScope) -> Sequence[WebhookEndpoint]:
    """Newest first; there are few."""
    query = (
        select(WebhookEndpoint)
        .where(WebhookEndpoint.tenant_id == scope.tenant_id, WebhookEndpoint.removed_at.is_(None))
        .order_by(WebhookEndpoint.id.desc())
    )
    return (await session.scalars(query)).all()


async def count_endpoints(session: AsyncSession, scope: TenantScope) -> int:
    query = select(func.count()).where(
        WebhookEndpoint.tenant_id == scope.tenant_id, WebhookEndpoint.removed_at.is_(None)
    )
    return await session.scalar(query) or 0


async def update_endpoint(session: AsyncSession, tenant_id: UUID, endpoint_id: UUID, values: Mapping[str, Any]) -> None:
    await session.execute(
        update(WebhookEndpoint)
        .where(WebhookEndpoint.tenant_id == tenant_id, WebhookEndpoint.id == endpoint_id)
        .values(**values)
        .execution_options(synchronize_session=False)
    )


async def endpoints_that_ask_for(session: AsyncSession, tenant_id: UUID, kind: str) -> Sequence[UUID]:
    """Those that are open."""
    query = select(WebhookEndpoint.id).where(
        WebhookEndpoint.tenant_id == tenant_id,
        literal(kind) == any_(WebhookEndpoint.kinds),
        WebhookEndpoint.disabled_at.is_(None),
        WebhookEndpoint.removed_at.is_(None),
    )
    return (await session.scalars(query.order_by(WebhookEndpoint.id))).all()


async def insert_event(session: AsyncSession, tenant_id: UUID, event_id: UUID, *, kind: str, body: str) -> None:
    await session.execute(insert(WebhookEvent).values(tenant_id=tenant_id, id=event_id, kind=kind, body=body))


async def insert_delivery(
    session: AsyncSession,
    tenant_id: UUID,
    delivery_id: UUID,
    *,
    endpoint_id: UUID,
    event_id: UUID,
    redelivers: UUID | None = None,
) -> None:
    await session.execute(
        insert(WebhookDelivery).values(
            tenant_id=tenant_id,
            id=delivery_id,
            endpoint_id=endpoint_id,
            event_id=event_id,
            redelivers=redelivers,
            next_at=func.now(),
        )
    )


async def read_work(session: AsyncSession, delivery_id: UUID) -> Work | None:
    """None when it has ended, or is not there any more."""
    is_open = WebhookEndpoint.disabled_at.is_(None) & WebhookEndpoint.removed_at.is_(None)
    query = (
        select(
            WebhookDelivery.tenant_id,
            WebhookDelivery.event_id,
            WebhookEvent.body,
            WebhookEndpoint.id,
            WebhookEndpoint.url,
            WebhookEndpoint.secret,
            WebhookEndpoint.old_secret,
            is_open.label("is_open"),
            (WebhookEndpoint.old_secret_until > func.now()).label("old_signs"),
        )
        .join(WebhookEndpoint, _IS_ENDPOINT)
        .join(WebhookEvent, _IS_EVENT)
        .where(WebhookDelivery.id == delivery_id, WebhookDelivery.state == "waiting")
    )
    row = (await session.execute(query)).one_or_none()
    if row is None:
        return None
    return Work(
        tenant_id=row.tenant_id,
        event_id=row.event_id,
        body=row.body,
        endpoint_id=row.id,
        url=row.url,
        secret=row.secret,
        old_secret=row.old_secret if row.old_signs else None,
        is_open=row.is_open,
    )


_IS_ENDPOINT = (WebhookEndpoint.tenant_id == WebhookDelivery.tenant_id) & (
    WebhookEndpoint.id == WebhookDelivery.endpoint_id
)
_IS_EVENT = (WebhookEvent.tenant_id == WebhookDelivery.tenant_id) & (WebhookEvent.id == WebhookDelivery.event_id)


async def insert_attempt(
    session: AsyncSession, tenant_id: UUID, delivery_id: UUID, attempt: int, answer: Answer
) -> None:
    """Once: a process that was held up longer than its lease has nothing to add."""
    await session.execute(
        upsert(WebhookAttempt)
        .values(
            tenant_id=tenant_id,
            delivery_id=delivery_id,
            attempt=attempt,
            status=answer.status,
            error=answer.error,
            duration_ms=answer.duration_ms,
        )
        .on_conflict_do_nothing()
    )


async def note_try(
    session: AsyncSession, tenant_id: UUID, delivery_id: UUID, *, attempts: int, next_in: timedelta
) -> None:
    """It waits for its next try."""
    await _update(session, tenant_id, delivery_id, attempts=attempts, next_at=func.now() + next_in)


async def end_delivery(session: AsyncSession, tenant_id: UUID, delivery_id: UUID, *, state: str, attempts: int) -> None:
    """`delivered` or `failed`."""
    await _update(session, tenant_id, delivery_id, state=state, attempts=attempts, next_at=None, ended_at=func.now())


async def _update(session: AsyncSession, tenant_id: UUID, delivery_id: UUID, **values: Any) -> None:
    await session.execute(
        update(WebhookDelivery)
        .where(WebhookDelivery.tenant_id == tenant_id, WebhookDelivery.id == delivery_id)
        .values(**values)
        .execution_options(synchronize_session=False)
    )


async def lock_endpoint(session: AsyncSession, tenant_id: UUID, endpoint_id: UUID) -> Health:
    query = (
        select(WebhookEndpoint.failing_since, WebhookEndpoint.disabled_at.is_not(None).label("is_disabled"), func.now())
        .where(WebhookEndpoint.tenant_id == tenant_id, WebhookEndpoint.id == endpoint_id)
        .with_for_update()
    )
    return Health(*(await session.execute(query)).one())


async def list_deliveries(
    session: AsyncSession, scope: TenantScope, endpoint_id: UUID, *, limit: int, before: UUID | None = None
) -> list[LoggedDelivery]:
    """Newest first."""
    last = (
        (WebhookAttempt.tenant_id == WebhookDelivery.tenant_id)
        & (WebhookAttempt.delivery_id == WebhookDelivery.id)
        & (WebhookAttempt.attempt == WebhookDelivery.attempts)
    )
    query = (
        select(
            WebhookDelivery.id,
            WebhookDelivery.event_id,
            WebhookEvent.kind,
            WebhookDelivery.state,
            WebhookDelivery.attempts,
            WebhookDelivery.next_at,
            WebhookDelivery.created_at,
            WebhookDelivery.ended_at,
            WebhookDelivery.redelivers,
            WebhookAttempt.status,
            WebhookAttempt.error,
            WebhookAttempt.duration_ms,
        )
        .join(WebhookEvent, _IS_EVENT)
        .outerjoin(WebhookAttempt, last)
        .where(WebhookDelivery.tenant_id == scope.tenant_id, WebhookDelivery.endpoint_id == endpoint_id)
        .order_by(WebhookDelivery.id.desc())
        .limit(limit)
    )
    if before is not None:
        query = query.where(WebhookDelivery.id < before)
    return [LoggedDelivery(**row) for row in (await session.execute(query)).mappings()]


async def read_delivery(
    session: AsyncSession, scope: TenantScope, endpoint_id: UUID, delivery_id: UUID
) -> WebhookDelivery | None:
    found: WebhookDelivery | None = await session.scalar(
        select(WebhookDelivery).where(
            WebhookDelivery.tenant_id == scope.tenant_id,
            WebhookDelivery.endpoint_id == endpoint_id,
            WebhookDelivery.id == delivery_id,
        )
    )
    return found


async def drop_old(session: AsyncSession, kept_for: timedelta) -> int:
    """Events that are older, with all that was tried of them."""
    gone = await session.execute(
        delete(WebhookEvent).where(WebhookEvent.created_at < func.now() - kept_for).returning(WebhookEvent.id)
    )
    return len(gone.all())
