"""SQL of quarantined usage and of the decisions about it."""

from datetime import datetime
from typing import Any
from uuid import UUID

from msgspec import Struct
from sqlalchemy import and_, func, insert, select
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_billing.quarantine.models import QuarantineDecision
from chappe_billing.usage.models import QuarantinedUsage, UsageEvent
from chappe_kernel.ids import LegalEntityId
from chappe_tenants.legal_entities.models import LegalEntity

WRITTEN_OFF = "written_off"


class Quarantined(Struct, frozen=True):
    """An event in quarantine, and what was decided about it. What it says of its tenant is unverified."""

    request_id: UUID
    digest: bytes
    code: str
    region: str
    gateway: str
    tenant_id: UUID
    event: dict[str, Any]
    received_at: datetime
    decision: str | None
    reason: str | None
    amount_nano: int | None
    transaction_id: UUID | None
    decided_at: datetime | None


class Charge(Struct, frozen=True):
    """How a request is posted."""

    amount_nano: int
    transaction_id: UUID | None


_DECIDED = and_(
    QuarantineDecision.request_id == QuarantinedUsage.request_id, QuarantineDecision.digest == QuarantinedUsage.digest
)
_COLUMNS = (
    *(QuarantinedUsage.request_id, QuarantinedUsage.digest, QuarantinedUsage.code, QuarantinedUsage.region),
    *(QuarantinedUsage.gateway, QuarantinedUsage.tenant_id, QuarantinedUsage.event, QuarantinedUsage.received_at),
    *(QuarantineDecision.decision, QuarantineDecision.reason, QuarantineDecision.amount_nano),
    *(QuarantineDecision.transaction_id, QuarantineDecision.decided_at),
)


async def list_quarantined(
    session: AsyncSession, *, decided: bool, limit: int, before: UUID | None = None
) -> list[Quarantined]:
    """At most `limit`, newest request first: the undecided ones, or with `decided` all. As the operator. One request
    may be there in several versions: they stay on one page."""
    statement = select(*_COLUMNS).outerjoin(QuarantineDecision, _DECIDED)
    if not decided:
        statement = statement.where(QuarantineDecision.request_id.is_(None))
    if before is not None:
        statement = statement.where(QuarantinedUsage.request_id < before)
    statement = statement.order_by(QuarantinedUsage.request_id.desc(), QuarantinedUsage.digest).limit(limit)
    return [Quarantined(*row) for row in await session.execute(statement)]


async def find_quarantined(session: AsyncSession, request_id: UUID, digest: bytes) -> Quarantined | None:
    statement = (
        select(*_COLUMNS)
        .outerjoin(QuarantineDecision, _DECIDED)
        .where(QuarantinedUsage.request_id == request_id, QuarantinedUsage.digest == digest)
    )
    row = (await session.execute(statement)).one_or_none()
    return None if row is None else Quarantined(*row)


async def lock_request(session: AsyncSession, request_id: UUID) -> None:
    """Make those who decide about one request take turns until the transaction ends."""
    key = f"quarantine {request_id}"
    await session.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(key, 0))))


async def insert_decision(
    session: AsyncSession, of: Quarantined, *, decision: str, reason: str, charge: Charge
) -> None:
    await session.execute(
        insert(QuarantineDecision).values(
            request_id=of.request_id,
            digest=of.digest,
            decision=decision,
            reason=reason,
            amount_nano=charge.amount_nano,
            transaction_id=charge.transaction_id,
        )
    )


async def find_written_off(session: AsyncSession, first: UUID, last: UUID) -> set[UUID]:
    """The few requests from `first` to `last` that somebody gave up for good."""
    statement = select(QuarantineDecision.request_id).where(
        QuarantineDecision.request_id.between(first, last), QuarantineDecision.decision == WRITTEN_OFF
    )
    return set(await session.scalars(statement))


async def read_charge(session: AsyncSession, request_id: UUID) -> Charge | None:
    statement = select(UsageEvent.amount_nano, UsageEvent.transaction_id).where(UsageEvent.request_id == request_id)
    row = (await session.execute(statement)).one_or_none()
    return None if row is None else Charge(*row)


async def read_currency(session: AsyncSession, legal_entity_id: LegalEntityId) -> str:
    statement = select(LegalEntity.currency).where(LegalEntity.id == legal_entity_id)
    return (await session.execute(statement)).scalar_one()
