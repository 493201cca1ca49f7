"""Messages for the outside world, written in the transaction that made them true."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import insert
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_kernel.ids import new_id
from chappe_store.models import OutboxMessage


async def enqueue(session: AsyncSession, topic: str, payloads: Sequence[Mapping[str, Any]]) -> None:
    """One message for each payload. Amounts in payloads are decimal strings: JSON numbers lose digits elsewhere."""
    if payloads:
        rows = [{"id": new_id(), "topic": topic, "payload": dict(payload)} for payload in payloads]
        await (await session.connection()).execute(insert(OutboxMessage), rows)
