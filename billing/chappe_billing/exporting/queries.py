"""SQL of the exports. Each statement reads a page: no reader, however slow, holds a transaction open."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from msgspec import Struct
from sqlalchemy import Row, Uuid, bindparam, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_billing.usage.models import UsageHour
from chappe_store.session import TenantScope
from chappe_tenants.legal_entities.models import LegalEntity
from chappe_tenants.organisations.models import Tenant

_TENANT = bindparam("tenant_id", type_=Uuid())

# From `after_at` on by the index; the row's comparison leaves out what the page before had of that instant.
_EVENTS = text(
    """
    SELECT u.*, l.name AS model, p.currency, j.name AS project, k.name AS key
    FROM usage_event u
    JOIN listing l ON l.id = u.listing_id
    JOIN price_version p ON p.id = u.price_version_id
    LEFT JOIN project j ON j.tenant_id = u.tenant_id AND j.id = u.project_id
    LEFT JOIN api_key k ON k.tenant_id = u.tenant_id AND k.id = u.key_id
    WHERE u.tenant_id = :tenant_id AND u.posted_at >= :after_at AND u.posted_at < :until
      AND (u.posted_at, u.request_id) > (:after_at, :after_id)
    ORDER BY u.posted_at, u.request_id LIMIT :limit
    """
).bindparams(_TENANT, bindparam("after_id", type_=Uuid()))

# What cost nothing is no charge. All requests of a group had one price, so quantities times prices are their sum.
_GROUPS = text(
    """
    SELECT g.*, l.name AS model, l.task, b.title AS publisher, p.currency, p.input_nano_per_token,
           p.cached_input_nano_per_token, p.output_nano_per_token, p.request_nano,
           p.second_nano, p.image_nano, j.name AS project, k.name AS key, i.number AS invoice
    FROM (
        SELECT project_id, key_id, listing_id, region, price_version_id, x.cut_id, count(*) AS requests,
               sum(prompt_tokens - cached_tokens)::bigint AS input_tokens, sum(cached_tokens)::bigint AS cached_tokens,
               sum(completion_tokens)::bigint AS output_tokens,
               sum(seconds)::bigint AS seconds, sum(images)::bigint AS images, sum(amount_nano)::bigint AS amount_nano,
               sum(written_off_nano)::bigint AS written_off_nano
        FROM usage_event e
        LEFT JOIN invoice_transaction x ON x.transaction_id = e.transaction_id
        WHERE e.tenant_id = :tenant_id AND e.posted_at >= :since AND e.posted_at < :until AND e.amount_nano > 0
        GROUP BY 1, 2, 3, 4, 5, 6
    ) g
    -- Of several, one for each project, what has none of its own is on the first.
    LEFT JOIN LATERAL (
        SELECT i.number FROM invoice_part b JOIN invoice i ON i.id = b.invoice_id AND i.kind = 'invoice'
        WHERE b.cut_id = g.cut_id ORDER BY coalesce(i.project_id = g.project_id, false) DESC, i.ordinal LIMIT 1
    ) i ON true
    JOIN listing l ON l.id = g.listing_id
    JOIN publisher b ON b.id = l.publisher_id
    JOIN price_version p ON p.id = g.price_version_id
    LEFT JOIN project j ON j.tenant_id = :tenant_id AND j.id = g.project_id
    LEFT JOIN api_key k ON k.tenant_id = :tenant_id AND k.id = g.key_id
    ORDER BY l.name, g.region, g.key_id, g.price_version_id, i.number
    """
).bindparams(_TENANT)

_OTHER_CHARGES = text(
    """
    SELECT t.id, t.kind, t.currency, t.created_at AS posted_at, (
               SELECT i.number FROM invoice_transaction x
               JOIN invoice_part b ON b.cut_id = x.cut_id
               JOIN invoice i ON i.id = b.invoice_id AND i.kind = 'invoice'
               WHERE x.transaction_id = t.id ORDER BY i.ordinal LIMIT 1
           ) AS invoice,
           CASE WHEN t.kind = 'reversal' THEN r.kind ELSE t.kind END AS about,
           r.created_at AS about_at,
           (SELECT -coalesce(sum(e.amount_nano), 0) FROM ledger_entry e
            WHERE e.transaction_id = t.id AND e.tenant_id = t.tenant_id)::bigint AS amount_nano
    FROM ledger_transaction t
    LEFT JOIN ledger_transaction r ON r.id = t.reverses
    WHERE t.tenant_id = :tenant_id AND t.created_at >= :since AND t.created_at < :until
      AND CASE WHEN t.kind = 'reversal' THEN r.kind ELSE t.kind END = ANY(:kinds)
      AND t.kind <> 'usage'
    ORDER BY t.created_at, t.id
    """
).bindparams(_TENANT)


class Account(Struct, frozen=True):
    """Whose usage it is, and who of the operator sells it."""

    tenant_id: UUID
    name: str
    seller: str
    currency: str


async def read_account(session: AsyncSession, scope: TenantScope) -> Account:
    statement = (
        select(Tenant.id, Tenant.name, LegalEntity.name, Tenant.currency)
        .join(LegalEntity, LegalEntity.id == Tenant.legal_entity_id)
        .where(Tenant.id == scope.tenant_id)
    )
    return Account(*(await session.execute(statement)).one())


async def list_tenants(session: AsyncSession, after: UUID | None, limit: int) -> Sequence[UUID]:
    """Every tenant's id, in order. As the operator."""
    statement = select(Tenant.id).order_by(Tenant.id).limit(limit)
    if after is not None:
        statement = statement.where(Tenant.id > after)
    return (await session.scalars(statement)).all()


async def read_events(
    session: AsyncSession, scope: TenantScope, *, after_at: datetime, after_id: UUID, until: datetime, limit: int
) -> Sequence[Row[Any]]:
    """The tenant's next requests by when they were posted."""
    values = {"tenant_id": scope.tenant_id, "after_at": after_at, "after_id": after_id, "until": until, "limit": limit}
    return (await session.execute(_EVENTS, values)).all()


async def list_hours(
    session: AsyncSession, scope: TenantScope, *, since: datetime, until: datetime
) -> Sequence[datetime]:
    """The hours in which something of the tenant's was posted."""
    statement = (
        select(UsageHour.hour)
        .distinct()
        .where(UsageHour.tenant_id == scope.tenant_id, UsageHour.hour >= since, UsageHour.hour < until)
        .order_by(UsageHour.hour)
    )
    return (await session.scalars(statement)).all()


async def read_groups(
    session: AsyncSession, scope: TenantScope, *, since: datetime, until: datetime
) -> Sequence[Row[Any]]:
    """What was charged, summed by project, key, listing, region and price version."""
    return (await session.execute(_GROUPS, {"tenant_id": scope.tenant_id, "since": since, "until": until})).all()


async def read_other_charges(
    session: AsyncSession, scope: TenantScope, kinds: Sequence[str], *, since: datetime, until: datetime
) -> Sequence[Row[Any]]:
    """Charges of these kinds that are no request's, and reversals of them."""
    values = {"tenant_id": scope.tenant_id, "since": since, "until": until, "kinds": list(kinds)}
    return (await session.execute(_OTHER_CHARGES, values)).all()
