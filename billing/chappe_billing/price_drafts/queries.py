"""SQL of price drafts. As the operator."""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_billing.price_drafts.comparing import DraftLine
from chappe_billing.price_drafts.models import PriceDraft, PriceDraftLine
from chappe_billing.prices.queries import COMPONENTS, columns_of
from chappe_catalogue.listings.models import Listing
from chappe_kernel.rating import Price


async def insert_draft(session: AsyncSession, draft: PriceDraft) -> PriceDraft:
    session.add(draft)
    await session.flush()
    await session.refresh(draft)
    return draft


async def find_draft(session: AsyncSession, draft_id: UUID, *, lock: bool = False) -> PriceDraft | None:
    """As it is now."""
    statement = select(PriceDraft).where(PriceDraft.id == draft_id).execution_options(populate_existing=True)
    return await session.scalar(statement.with_for_update() if lock else statement)


async def list_drafts(session: AsyncSession, *, limit: int, before: UUID | None) -> Sequence[PriceDraft]:
    """At most `limit`, newest first; published and discarded ones too."""
    statement = select(PriceDraft).order_by(PriceDraft.id.desc()).limit(limit)
    if before is not None:
        statement = statement.where(PriceDraft.id < before)
    return (await session.scalars(statement)).all()


async def update_draft(session: AsyncSession, draft_id: UUID, values: Mapping[str, Any]) -> None:
    await session.execute(
        update(PriceDraft).where(PriceDraft.id == draft_id).values(values).execution_options(synchronize_session=False)
    )


async def end_draft(session: AsyncSession, draft_id: UUID, *, published: bool) -> None:
    await update_draft(session, draft_id, {"published_at" if published else "discarded_at": func.now()})


async def read_lines(session: AsyncSession, draft_id: UUID) -> list[DraftLine]:
    """By listing and region."""
    statement = (
        select(PriceDraftLine, Listing.name, Listing.currency)
        .join(Listing, Listing.id == PriceDraftLine.listing_id)
        .where(PriceDraftLine.draft_id == draft_id)
        .order_by(Listing.name, PriceDraftLine.region)
    )
    return [_line(*row) for row in await session.execute(statement)]


async def replace_lines(session: AsyncSession, draft_id: UUID, lines: Sequence[DraftLine]) -> None:
    await session.execute(delete(PriceDraftLine).where(PriceDraftLine.draft_id == draft_id))
    if lines:
        await session.execute(insert(PriceDraftLine), [_row(draft_id, line) for line in lines])


def _row(draft_id: UUID, line: DraftLine) -> dict[str, Any]:
    prices = dict.fromkeys(COMPONENTS) if line.price is None else columns_of(line.price)
    return {
        "draft_id": draft_id,
        "listing_id": line.listing_id,
        "region": line.region,
        "discount_basis_points": line.discount_basis_points,
        **prices,
    }


def _line(row: PriceDraftLine, listing: str, currency: str) -> DraftLine:
    price = None
    if row.discount_basis_points is None:
        price = Price(**{name: getattr(row, name) for name in COMPONENTS})
    return DraftLine(row.listing_id, listing, row.region, currency, price, row.discount_basis_points)
