"""Publishing prices, taking them back before they start, and ending those that were wrong."""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from uuid import UUID

import msgspec
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_billing.prices import queries
from chappe_billing.prices.following import Following, Known, discount_from, follow
from chappe_billing.prices.models import PriceVersion
from chappe_billing.prices.queries import PriceList
from chappe_kernel.errors import Conflict, Invalid, NotFound
from chappe_kernel.ids import PriceVersionId, new_id
from chappe_kernel.rating import Price

MAX_COMPONENT_NANO = 10**12
"""A thousand units of currency per token: a typing error. It also keeps every charge within 64 bits."""

DEFAULT_NOTICE = timedelta(seconds=300)
MAX_REASON_LENGTH = 500


async def publish_price(
    session: AsyncSession,
    *,
    listing_id: UUID,
    region: str,
    currency: str,
    price: Price,
    starts_at: datetime | None = None,
    notice: timedelta | None = DEFAULT_NOTICE,
    tenant_id: UUID | None = None,
    draft_id: UUID | None = None,
) -> PriceVersionId:
    """Publish `price` from `starts_at` on; None is as soon as allowed. As the operator; locks this listing's prices.

    Everybody's, or with `tenant_id` that tenant's own. The first of everybody's takes effect at once. Any other gives
    `notice`, the snapshot's maximum age, so that no gateway holds money under the old price when the new one is in
    force; None is no notice, for a start that was checked. When the last published version is equal, nothing is
    published and its id is returned. Discounts follow.

    Raises `Invalid` (a start without zone, too soon, or an absurd component) and `Conflict` (a later version exists).
    """
    if max(msgspec.structs.astuple(price)) > MAX_COMPONENT_NANO:
        raise Invalid("a price component is over a thousand units of currency", code="invalid_price")
    now = await queries.lock_price_book(session, listing_id, region)
    published = await queries.versions_of(session, listing_id, region)
    own = published.get(PriceList(listing_id, region, tenant_id), [])
    last = own[-1] if own else None
    if last is not None and _says_already(last, price, currency):
        return PriceVersionId(last.id)
    is_first = tenant_id is None and last is None
    start = _check_start(starts_at, now, timedelta(0) if is_first else notice, last)
    of_list = PriceList(listing_id, region, tenant_id)
    version = await _insert(session, of_list, currency, price, starts_at=start, draft_id=draft_id)
    if tenant_id is None:
        await _let_follow(session, published, currency, price, start)
    return PriceVersionId(version.id)


async def publish_discount(
    session: AsyncSession,
    *,
    listing_id: UUID,
    region: str,
    currency: str,
    tenant_id: UUID | None,
    basis_points: int,
    starts_at: datetime | None = None,
    notice: timedelta | None = DEFAULT_NOTICE,
    draft_id: UUID | None = None,
) -> PriceVersionId:
    """A tenant, or with None whoever has batches run, pays the list price less this, from `starts_at` on, whatever the
    list price becomes; zero returns it to the list price. As the operator; locks this listing's prices. Its first
    version's id.

    Raises `Invalid` (no list price then, a start too soon, an impossible discount), `Conflict` (a later version of the
    tenant's exists).
    """
    now = await queries.lock_price_book(session, listing_id, region)
    published = await queries.versions_of(session, listing_id, region)
    own_list = PriceList(listing_id, region, tenant_id, for_batches=tenant_id is None)
    own = published.get(own_list, [])
    following = own[-1] if own else None
    if following is not None and following.discount_basis_points == basis_points:
        return PriceVersionId(following.id)
    start = _check_start(starts_at, now, notice, following)
    versions = discount_from(_known(published[PriceList(listing_id, region)]), start, basis_points)
    if not versions:
        raise Invalid("there is no list price to take a discount from", code="no_list_price")
    ids = [await _insert_following(session, own_list, currency, one, draft_id) for one in versions]
    return PriceVersionId(ids[0])


async def withdraw_price(
    session: AsyncSession, version_id: UUID, *, reason: str, notice: timedelta = DEFAULT_NOTICE
) -> PriceVersion:
    """Take back a scheduled version; what was in force stays in force. As the operator; locks the listing's prices.

    In time only, with the notice that gateways need to hear of it: else `Conflict`, as for one that is not the last of
    its list, or withdrawn already. Discounts that followed it follow what is left. Raises `NotFound`, `Invalid`.
    """
    reason = check_reason(reason)
    version = await _locked(session, version_id)
    now = await queries.lock_price_book(session, version.listing_id, version.region)
    if version.starts_at < now + notice:
        raise Conflict("too late to withdraw it: gateways may not hear of it in time", code="price_started")
    if await queries.find_withdrawal(session, version_id) is not None:
        raise Conflict("this price is withdrawn already", code="price_withdrawn")
    published = await queries.versions_of(session, version.listing_id, version.region)
    own = published[_list_of(version)]
    if own[-1].id != version.id:
        raise Conflict("a later price is published already: withdraw that one first", code="price_scheduled")
    await queries.insert_withdrawal(session, version, reason)
    if _is_list_price(version) and len(own) > 1:
        await _let_follow(session, published, version.currency, queries.price_of(own[-2]), version.starts_at)
    return version


async def revert_price(session: AsyncSession, version_id: UUID, *, reason: str) -> PriceVersion:
    """End a wrong version at once: what was in force before it is again, under a version of its own that says why.

    As the operator; locks the listing's prices. It gives no notice: each gateway holds under it as soon as it hears of
    it, within a second if it is connected. What was charged too much under the wrong version, then or meanwhile, is
    `price_corrections`' to give back. Raises `NotFound`, `Invalid`, and `Conflict` when the version is not in force or
    nothing came before it.
    """
    reason = check_reason(reason)
    wrong = await _locked(session, version_id)
    now = await queries.lock_price_book(session, wrong.listing_id, wrong.region)
    published = await queries.versions_of(session, wrong.listing_id, wrong.region)
    of_list = _list_of(wrong)
    started = [version for version in published[of_list] if version.starts_at <= now]
    if not started or started[-1].id != wrong.id:
        raise Conflict("this price is not in force", code="price_not_in_force")
    price, basis_points = _before(started, published[PriceList(wrong.listing_id, wrong.region)], now)
    right = await queries.insert_version(
        session,
        PriceVersion(
            id=new_id(),
            listing_id=wrong.listing_id,
            region=wrong.region,
            tenant_id=wrong.tenant_id,
            for_batches=wrong.for_batches,
            currency=wrong.currency,
            starts_at=now,
            discount_basis_points=basis_points,
            reverts_id=wrong.id,
            reason=reason,
            **queries.columns_of(price),
        ),
    )
    if _is_list_price(wrong):
        await _let_follow(session, published, wrong.currency, price, now, until=_next_start(published[of_list], now))
    return right


def check_reason(reason: str) -> str:
    """Without blanks around it. Raises `Invalid`."""
    reason = reason.strip()
    if not 1 <= len(reason) <= MAX_REASON_LENGTH:
        raise Invalid(f"a reason has 1 to {MAX_REASON_LENGTH} characters", param="reason")
    return reason


async def _locked(session: AsyncSession, version_id: UUID) -> PriceVersion:
    """Versions never change: there is nothing to read again under the lock."""
    version = await queries.find_version(session, version_id)
    if version is None:
        raise NotFound("there is no such price version")
    return version


def _says_already(last: PriceVersion, price: Price, currency: str) -> bool:
    return queries.price_of(last) == price and last.currency == currency and last.discount_basis_points is None


def _check_start(
    asked: datetime | None, now: datetime, notice: timedelta | None, last: PriceVersion | None
) -> datetime:
    if asked is not None and asked.tzinfo is None:
        raise Invalid("a price's start needs a time zone", code="invalid_starts_at", param="starts_at")
    earliest = now + (notice or timedelta(0))
    start = asked or earliest
    if last is not None and start <= last.starts_at:
        raise Conflict("a price with a later start is published already", code="price_scheduled")
    if last is not None and notice is not None and start < earliest:
        raise Invalid("a price takes effect no sooner than every gateway knows it", code="price_too_soon")
    return start


def _before(started: Sequence[PriceVersion], listed: Sequence[PriceVersion], now: datetime) -> tuple[Price, int | None]:
    """What was right before the last of `started`, without what was reverted itself; a list of discounts begins with
    the list price."""
    wrong = {started[-1].id, *(version.reverts_id for version in started)}
    right = [version for version in started if version.id not in wrong]
    if right:
        return queries.price_of(right[-1]), right[-1].discount_basis_points
    if _is_list_price(started[-1]):
        raise Conflict("no price was in force before this one", code="nothing_before")
    (back, *_) = discount_from(_known(listed), now, 0)
    return back.price, 0


def _next_start(versions: Sequence[PriceVersion], after: datetime) -> datetime | None:
    return next((version.starts_at for version in versions if version.starts_at > after), None)


async def _let_follow(
    session: AsyncSession,
    published: dict[PriceList, list[PriceVersion]],
    currency: str,
    price: Price,
    starts_at: datetime,
    *,
    until: datetime | None = None,
) -> None:
    """Publish each discount anew that follows the list price. `until` another list price starts, which has been
    followed already."""
    for own in _followers(published):
        of_list = _list_of(own[0])
        before = {version.id: version for version in own}
        for one in follow(price, starts_at, _known(own)):
            if until is not None and one.starts_at >= until:
                continue
            if one.replaces is not None:
                await queries.insert_withdrawal(session, before[one.replaces], "the list price changed")
            await _insert_following(session, of_list, currency, one, None)


def _followers(published: dict[PriceList, list[PriceVersion]]) -> Iterable[list[PriceVersion]]:
    return [own for own in published.values() if own and not _is_list_price(own[0])]


def _list_of(version: PriceVersion) -> PriceList:
    return PriceList(version.listing_id, version.region, version.tenant_id, version.for_batches)


def _is_list_price(version: PriceVersion) -> bool:
    """Which discounts follow."""
    return version.tenant_id is None and not version.for_batches


async def _insert(
    session: AsyncSession,
    of_list: PriceList,
    currency: str,
    price: Price,
    *,
    starts_at: datetime,
    draft_id: UUID | None,
    basis_points: int | None = None,
) -> PriceVersion:
    return await queries.insert_version(
        session,
        PriceVersion(
            id=new_id(),
            listing_id=of_list.listing_id,
            region=of_list.region,
            tenant_id=of_list.tenant_id,
            for_batches=of_list.for_batches,
            currency=currency,
            starts_at=starts_at,
            discount_basis_points=basis_points,
            draft_id=draft_id,
            **queries.columns_of(price),
        ),
    )


async def _insert_following(
    session: AsyncSession, of_list: PriceList, currency: str, one: Following, draft_id: UUID | None
) -> UUID:
    version = await _insert(
        session,
        of_list,
        currency,
        one.price,
        starts_at=one.starts_at,
        draft_id=draft_id,
        basis_points=one.discount_basis_points,
    )
    return version.id


def _known(versions: Iterable[PriceVersion]) -> list[Known]:
    return [
        Known(version.id, version.starts_at, queries.price_of(version), version.discount_basis_points)
        for version in versions
    ]
