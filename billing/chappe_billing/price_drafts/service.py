"""Writing a draft of prices, and publishing it: all of its lines from one moment on, or none."""

import hashlib
from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

import msgspec
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_billing.price_drafts import queries
from chappe_billing.price_drafts.comparing import Difference, DraftLine, compare
from chappe_billing.price_drafts.models import PriceDraft
from chappe_billing.prices import queries as prices
from chappe_billing.prices.following import Known, in_force
from chappe_billing.prices.models import PriceVersion
from chappe_billing.prices.queries import PriceList
from chappe_billing.prices.service import DEFAULT_NOTICE, MAX_COMPONENT_NANO, publish_discount, publish_price
from chappe_kernel.errors import Conflict, Invalid, NotFound
from chappe_kernel.ids import PriceVersionId, new_id
from chappe_kernel.rating import Price, discounted

MAX_LINES = 500


class Draft(msgspec.Struct, frozen=True):
    """A draft with its lines, by listing and region."""

    row: PriceDraft
    lines: list[DraftLine]

    @property
    def lines_digest(self) -> bytes:
        """What was simulated, told from what was written since."""
        return hashlib.sha256(msgspec.json.encode(self.lines)).digest()

    @property
    def is_simulated(self) -> bool:
        return self.row.simulated_lines == self.lines_digest

    @property
    def is_open(self) -> bool:
        return self.row.published_at is None and self.row.discarded_at is None


async def create_draft(
    session: AsyncSession, *, title: str, tenant_id: UUID | None, lines: Sequence[DraftLine]
) -> Draft:
    """As the operator. Raises `Invalid`."""
    _check_lines(lines, tenant_id)
    row = await queries.insert_draft(session, PriceDraft(id=new_id(), title=title, tenant_id=tenant_id))
    await queries.replace_lines(session, row.id, lines)
    return await get_draft(session, row.id)


async def get_draft(session: AsyncSession, draft_id: UUID, *, lock: bool = False) -> Draft:
    """Raises `NotFound`."""
    row = await queries.find_draft(session, draft_id, lock=lock)
    if row is None:
        raise NotFound("there is no such price draft")
    return Draft(row, await queries.read_lines(session, draft_id))


async def change_draft(session: AsyncSession, draft: Draft, *, title: str, lines: Sequence[DraftLine]) -> Draft:
    """All that it says from now on. As the operator, who has locked it. Raises `Invalid`, `Conflict`."""
    _check_open(draft)
    _check_lines(lines, draft.row.tenant_id)
    await queries.update_draft(session, draft.row.id, {"title": title})
    await queries.replace_lines(session, draft.row.id, lines)
    return await get_draft(session, draft.row.id)


async def discard_draft(session: AsyncSession, draft: Draft) -> None:
    """It stays, and nothing can be done with it any more. Raises `Conflict` for one that has ended."""
    _check_open(draft)
    await queries.end_draft(session, draft.row.id, published=False)


async def publish_draft(
    session: AsyncSession, draft: Draft, *, starts_at: datetime | None = None, notice: timedelta = DEFAULT_NOTICE
) -> list[PriceVersionId]:
    """Every line becomes a version that starts then, or as soon as allowed; which versions, in the lines' order.

    As the operator, who has locked the draft. A line that says what the last version says publishes nothing. Raises
    `Conflict` (ended, empty, never simulated as it is, a later price is published already), `Invalid` (too soon).
    """
    _check_open(draft)
    if not draft.lines:
        raise Conflict("this draft has no lines", code="empty_draft")
    if not draft.is_simulated:
        raise Conflict("simulate this draft as it is before you publish it", code="not_simulated")
    start = await _one_start(session, draft, starts_at, notice)
    ids = [await _publish_line(session, draft.row, line, start) for line in draft.lines]
    await queries.end_draft(session, draft.row.id, published=True)
    return ids


async def differences(session: AsyncSession, draft: Draft, at: datetime) -> list[Difference]:
    """Each line beside what is in force at that moment; a tenant's beside its own price, or the list price."""
    return [await _difference(session, draft.row.tenant_id, line, at) for line in draft.lines]


def list_price_of(line: DraftLine, listed: Sequence[PriceVersion], at: datetime) -> Price:
    """What a line comes to: its own price, or the list price at that moment less its discount; of what is not sold
    yet, the first list price that is scheduled. Raises `Invalid`."""
    if line.price is not None:
        return line.price
    known = [Known(one.id, one.starts_at, prices.price_of(one)) for one in listed]
    base = in_force(known, at) or next(iter(known), None)
    if base is None or line.discount_basis_points is None:
        raise Invalid(f"{line.listing} has no list price in {line.region}", code="no_list_price")
    return discounted(base.price, line.discount_basis_points)


async def _one_start(session: AsyncSession, draft: Draft, starts_at: datetime | None, notice: timedelta) -> datetime:
    """One moment for all lines, with notice: unless nothing was sold before, and prices may be in force at once. Locks
    all lists in one order. Raises `Invalid`."""
    locked_at = [await prices.lock_price_book(session, line.listing_id, line.region) for line in draft.lines]
    sold = [await prices.last_price(session, line.listing_id, line.region) for line in draft.lines]
    is_first = draft.row.tenant_id is None and not any(sold)
    earliest = locked_at[-1] if is_first else locked_at[-1] + notice
    if starts_at is not None and starts_at < earliest and not is_first:
        raise Invalid("a price takes effect no sooner than every gateway knows it", code="price_too_soon")
    return starts_at or earliest


async def _publish_line(
    session: AsyncSession, draft: PriceDraft, line: DraftLine, starts_at: datetime
) -> PriceVersionId:
    if line.discount_basis_points is not None and draft.tenant_id is not None:
        return await publish_discount(
            session,
            listing_id=line.listing_id,
            region=line.region,
            currency=line.currency,
            tenant_id=draft.tenant_id,
            basis_points=line.discount_basis_points,
            starts_at=starts_at,
            notice=None,
            draft_id=draft.id,
        )
    if line.price is None:
        raise Invalid("only a tenant's own prices can be discounts", code="discount_without_tenant", param="lines")
    return await publish_price(
        session,
        listing_id=line.listing_id,
        region=line.region,
        currency=line.currency,
        price=line.price,
        starts_at=starts_at,
        notice=None,
        tenant_id=draft.tenant_id,
        draft_id=draft.id,
    )


async def _difference(session: AsyncSession, tenant_id: UUID | None, line: DraftLine, at: datetime) -> Difference:
    published = await prices.versions_of(session, line.listing_id, line.region)
    listed = published[PriceList(line.listing_id, line.region)]
    own = published.get(PriceList(line.listing_id, line.region, tenant_id), [])
    started = [version for version in own if version.starts_at <= at]
    started = started or [version for version in listed if version.starts_at <= at]
    before = started[-1] if started else None
    after = list_price_of(line, listed, at)
    changes = compare(None if before is None else prices.price_of(before), after)
    if before is None:
        return Difference(line, after, None, None, changes)
    return Difference(line, after, before.id, before.starts_at, changes)


def _check_open(draft: Draft) -> None:
    if not draft.is_open:
        raise Conflict("this draft has been published or discarded", code="draft_ended")


def _check_lines(lines: Sequence[DraftLine], tenant_id: UUID | None) -> None:
    if len(lines) > MAX_LINES:
        raise Invalid(f"a draft has at most {MAX_LINES} lines", param="lines")
    places = [(line.listing_id, line.region) for line in lines]
    if len(set(places)) < len(places):
        raise Invalid("two lines are about one model in one region", code="duplicate_line", param="lines")
    for line in lines:
        if line.price is not None and max(msgspec.structs.astuple(line.price)) > MAX_COMPONENT_NANO:
            raise Invalid("a price component is over a thousand units of currency", code="invalid_price", param="lines")
        if line.discount_basis_points is not None and tenant_id is None:
            raise Invalid("only a tenant's own prices can be discounts", code="discount_without_tenant", param="lines")
