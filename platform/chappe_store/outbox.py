"""Messages for the outside world, written in the transaction that made them true, and delivered after it.

Delivery is at least once: whoever claims a message has it alone for a while, and if nothing is heard of it by then, it
is due again.
"""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

import msgspec
from msgspec import Struct
from sqlalchemy import false, func, insert, select, text, update
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_kernel.ids import new_id
from chappe_store.models import OutboxMessage


class Claimed(Struct, frozen=True):
    """A message that is this process's to deliver. `attempts` counts this one."""

    id: UUID
    payload: dict[str, Any]
    attempts: int
    expired: bool


class Message(Struct, frozen=True):
    """One with the id of what it tells of, so that everybody can see that it was told, and told once."""

    id: UUID
    topic: str
    payload: Mapping[str, Any]


async def enqueue_as(session: AsyncSession, messages: Sequence[Message]) -> None:
    """Messages under ids of the caller's. Amounts are decimal strings: JSON numbers lose digits elsewhere."""
    if messages:
        values = {
            "ids": [message.id for message in messages],
            "topics": [message.topic for message in messages],
            "payloads": [msgspec.json.encode(dict(message.payload)).decode() for message in messages],
        }
        await session.execute(_ENQUEUE, values)


_ENQUEUE = text(
    """
    INSERT INTO outbox (id, topic, payload)
    SELECT id, topic, CAST(payload AS jsonb)
    FROM unnest(CAST(:ids AS uuid[]), CAST(:topics AS text[]), CAST(:payloads AS text[])) p (id, topic, payload)
    """
)


async def enqueue(session: AsyncSession, topic: str, payloads: Sequence[Mapping[str, Any]]) -> None:
    """One message for each payload. Amounts in payloads are decimal strings: JSON numbers lose digits elsewhere."""
    await enqueue_as(session, [Message(new_id(), topic, payload) for payload in payloads])


async def enqueue_until(
    session: AsyncSession, topic: str, payload: Mapping[str, Any], *, useful_for: timedelta
) -> None:
    """One message that nobody wants any more after this time."""
    await session.execute(
        insert(OutboxMessage).values(
            id=new_id(), topic=topic, payload=dict(payload), expires_at=func.now() + useful_for
        )
    )


async def is_any_due(session: AsyncSession, topics: Sequence[str]) -> bool:
    """Whether it is worth claiming: an idle control plane asks often, and should do no more."""
    due = select(OutboxMessage.id).where(
        OutboxMessage.topic.in_(topics),
        OutboxMessage.delivered_at.is_(None),
        OutboxMessage.given_up_at.is_(None),
        OutboxMessage.due_at <= func.now(),
    )
    return bool(await session.scalar(select(due.exists())))


async def claim_due(
    session: AsyncSession, topic: str, *, lease: timedelta, limit: int, newest_first: bool = False
) -> list[Claimed]:
    """The messages that are due, longest due first, or those that became so last. Each is this caller's alone until
    `lease` is over."""
    due = (
        select(OutboxMessage.id)
        .where(
            OutboxMessage.topic == topic,
            OutboxMessage.delivered_at.is_(None),
            OutboxMessage.given_up_at.is_(None),
            OutboxMessage.due_at <= func.now(),
        )
        .order_by(OutboxMessage.due_at.desc() if newest_first else OutboxMessage.due_at)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    claimed = await session.execute(
        update(OutboxMessage)
        .where(OutboxMessage.id.in_(due))
        .values(attempts=OutboxMessage.attempts + 1, due_at=func.now() + lease)
        .returning(
            OutboxMessage.id,
            OutboxMessage.payload,
            OutboxMessage.attempts,
            func.coalesce(OutboxMessage.expires_at <= func.now(), false()).label("expired"),
        )
    )
    return [Claimed(**row) for row in claimed.mappings()]


async def hold(session: AsyncSession, message_id: UUID) -> bool:
    """Whether it is still to be delivered; then it is this transaction's, and what is done about it here is done once
    even if somebody else has claimed it meanwhile."""
    waiting = select(OutboxMessage.id).where(
        OutboxMessage.id == message_id, OutboxMessage.delivered_at.is_(None), OutboxMessage.given_up_at.is_(None)
    )
    return await session.scalar(waiting.with_for_update()) is not None


async def mark_delivered(session: AsyncSession, message_id: UUID) -> None:
    """It is done, and its content is forgotten."""
    await _end(session, message_id, delivered_at=func.now())


async def give_up(session: AsyncSession, message_id: UUID) -> None:
    """It can never be delivered, and its content is forgotten."""
    await _end(session, message_id, given_up_at=func.now())


async def postpone(session: AsyncSession, message_id: UUID, wait: timedelta) -> None:
    """Try again after `wait`."""
    await session.execute(update(OutboxMessage).where(OutboxMessage.id == message_id).values(due_at=func.now() + wait))


async def _end(session: AsyncSession, message_id: UUID, **ended: Any) -> None:
    await session.execute(update(OutboxMessage).where(OutboxMessage.id == message_id).values(payload={}, **ended))
