"""The price book as one list, and what the console tells of its versions."""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from msgspec import Struct
from sqlalchemy import ColumnElement, Text, cast, func, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased

from chappe_billing.price_corrections.models import PriceCorrection
from chappe_billing.prices.models import PriceVersion, PriceWithdrawal
from chappe_billing.prices.queries import price_of
from chappe_catalogue.listings.models import Listing
from chappe_kernel.rating import Price
from chappe_store.audit_log.models import AuditEntry
from chappe_tenants.operator_tokens.models import OperatorToken
from chappe_tenants.operators.models import OperatorUser
from chappe_tenants.organisations.models import Tenant


class BookedPrice(Struct, frozen=True):
    """A version of one listing's price in one region."""

    id: UUID
    listing_id: UUID
    region: str
    currency: str
    starts_at: datetime
    published_at: datetime
    price: Price


async def list_versions(session: AsyncSession, *, for_batches: bool = False) -> list[BookedPrice]:
    """Every version for everybody, or those of batches' lines, ascending by start within its listing and region, but
    what was withdrawn."""
    withdrawn = select(PriceWithdrawal.price_version_id).where(PriceWithdrawal.price_version_id == PriceVersion.id)
    statement = (
        select(PriceVersion)
        .where(PriceVersion.tenant_id.is_(None), PriceVersion.for_batches.is_(for_batches), ~withdrawn.exists())
        .order_by(PriceVersion.listing_id, PriceVersion.region, PriceVersion.starts_at)
    )
    return [
        BookedPrice(
            id=version.id,
            listing_id=version.listing_id,
            region=version.region,
            currency=version.currency,
            starts_at=version.starts_at,
            published_at=version.created_at,
            price=price_of(version),
        )
        for version in await session.scalars(statement)
    ]


class Maker(Struct, frozen=True):
    """Who did something. `email` is None for what is no person of the operator's, or one who has gone."""

    kind: str
    actor: str
    email: str | None


Deed = tuple[str, str]
"""What the audit log calls it (`price_version`, `price_withdrawal`), and the version's id."""


class Correction(Struct, frozen=True):
    """Money given back to a tenant for a wrong price."""

    tenant_id: UUID
    tenant: str
    paid_nano: int
    right_nano: int
    corrected_nano: int
    created_at: datetime


async def read_makers(
    session: AsyncSession, tenant_id: UUID | None, version_ids: Collection[UUID]
) -> dict[Deed, Maker]:
    """Who published and who withdrew these versions of one list's, by the audit log; what it does not know is left
    out."""
    person = (OperatorUser.id == OperatorToken.user_id) | (cast(OperatorUser.id, Text) == AuditEntry.actor)
    statement = (
        select(AuditEntry.noun, AuditEntry.subject, AuditEntry.actor_kind, AuditEntry.actor, OperatorUser.email)
        .outerjoin(OperatorToken, cast(OperatorToken.id, Text) == AuditEntry.actor)
        .outerjoin(OperatorUser, person)
        .where(
            # The index is by tenant; the operator's own entries are few beside those of tenants.
            AuditEntry.tenant_id.is_(None) if tenant_id is None else AuditEntry.tenant_id == tenant_id,
            AuditEntry.noun.in_(["price_version", "price_withdrawal"]),
            AuditEntry.subject.in_([str(version_id) for version_id in version_ids]),
        )
    )
    return {
        (noun, subject): Maker(kind, actor, email)
        for noun, subject, kind, actor, email in await session.execute(statement)
    }


async def count_own_prices(session: AsyncSession) -> dict[UUID, int]:
    """How many models in regions have a price of their own, by tenant; what was withdrawn does not count."""
    withdrawn = select(PriceWithdrawal.price_version_id).where(PriceWithdrawal.price_version_id == PriceVersion.id)
    lists = (
        select(PriceVersion.tenant_id, PriceVersion.listing_id, PriceVersion.region)
        .where(PriceVersion.tenant_id.is_not(None), ~withdrawn.exists())
        .distinct()
        .subquery()
    )
    rows = await session.execute(select(lists.c.tenant_id, func.count()).group_by(lists.c.tenant_id))
    return {tenant_id: int(count) for tenant_id, count in rows}


async def list_of_draft(session: AsyncSession, draft_id: UUID) -> Sequence[Any]:
    """(version, listing's name, withdrawal) of what a draft became."""
    statement = (
        select(PriceVersion, Listing.name, PriceWithdrawal)
        .join(Listing, Listing.id == PriceVersion.listing_id)
        .outerjoin(PriceWithdrawal, PriceWithdrawal.price_version_id == PriceVersion.id)
        .where(PriceVersion.draft_id == draft_id)
        .order_by(Listing.name, PriceVersion.region, PriceVersion.starts_at)
    )
    return (await session.execute(statement)).all()


async def find_revert(session: AsyncSession, version_id: UUID) -> PriceVersion | None:
    """What ended this version because it was wrong."""
    return await session.scalar(select(PriceVersion).where(PriceVersion.reverts_id == version_id).limit(1))


async def sum_corrections(session: AsyncSession, version_id: UUID) -> tuple[int, int]:
    """How many tenants got something back for this version and the discounts that followed it, and how much."""
    sums = select(func.count(PriceCorrection.tenant_id.distinct()), func.sum(PriceCorrection.corrected_nano))
    tenants, given_nano = (await session.execute(sums.where(_is_due_to(version_id)))).one()
    return tenants, int(given_nano or 0)


async def list_corrections(session: AsyncSession, version_id: UUID, *, limit: int) -> list[Correction]:
    """At most `limit`, newest first; those under discounts that followed this version too."""
    statement = (
        select(PriceCorrection, Tenant.name)
        .join(Tenant, Tenant.id == PriceCorrection.tenant_id)
        .where(_is_due_to(version_id))
        .order_by(PriceCorrection.id.desc())
        .limit(limit)
    )
    return [
        Correction(row.tenant_id, name, row.paid_nano, row.right_nano, row.corrected_nano, row.created_at)
        for row, name in await session.execute(statement)
    ]


def _is_due_to(version_id: UUID) -> ColumnElement[bool]:
    ends = aliased(PriceVersion)
    ended_by = select(ends.id).where(ends.reverts_id == version_id)
    return (PriceCorrection.price_version_id == version_id) | PriceCorrection.reverted_by.in_(ended_by)
