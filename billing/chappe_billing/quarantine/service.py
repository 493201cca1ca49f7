"""Deciding about usage in quarantine: as a region (who posts usage), with the operator's person as the origin."""

from uuid import UUID

import msgspec
from msgspec import Struct
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_billing.budgets import service as budgets
from chappe_billing.ledger import service as ledger
from chappe_billing.ledger.postings import Account, AccountKind, Line, Posting, TransactionKind
from chappe_billing.prices.queries import find_prices
from chappe_billing.quarantine import queries
from chappe_billing.quarantine.queries import WRITTEN_OFF, Charge, Quarantined
from chappe_billing.usage.checking import MAX_AMOUNT_NANO
from chappe_billing.usage.service import ingest
from chappe_kernel.errors import Conflict, Invalid, NotFound
from chappe_kernel.rating import Counts, Outcome, charge
from chappe_kernel.wire.control import UsageBatch, UsageEvent
from chappe_tenants.legal_entities.models import DEFAULT_LEGAL_ENTITY_ID
from chappe_tenants.naming import clean_name

MAX_REASON_LENGTH = 500
ACCEPTED = "accepted"
CORRECTED = "corrected"
DISMISSED = "dismissed"


class Correction(Struct, frozen=True):
    """What an event should have said. Whatever is left out stays; the amount follows from the price book."""

    price_version: UUID | None = None
    outcome: Outcome | None = None
    counts: Counts | None = None


class Decided(Struct, frozen=True):
    """`amount_nano` was posted, or written off."""

    decision: str
    amount_nano: int
    transaction_id: UUID | None


async def accept(session: AsyncSession, request_id: UUID, digest: bytes, *, reason: str) -> Decided:
    """Post the event as it came: what it names is known by now. Raises `NotFound`, and `Conflict` when it is decided
    already, or still cannot be posted."""
    found, reason = await _open(session, request_id, digest, reason)
    posted = await _post(session, found, _event_of(found))
    return await _decide(session, found, ACCEPTED, reason, posted)


async def correct(
    session: AsyncSession, request_id: UUID, digest: bytes, correction: Correction, *, reason: str
) -> Decided:
    """Post the event as it should have been, and never for more than it asked. Raises as `accept` does, and `Invalid`
    for a correction that costs more than the event or its hold."""
    found, reason = await _open(session, request_id, digest, reason)
    event = _event_of(found)
    version = correction.price_version or event.price_version
    price = (await find_prices(session, [version])).get(version)
    if price is None:
        raise Invalid("there is no such price version", code="unknown_price_version", param="price_version")
    outcome, counts = correction.outcome or event.outcome, correction.counts or event.counts
    amount_nano = charge(price.price, outcome, counts)
    if amount_nano > min(event.amount_nano, event.hold_nano):
        raise Invalid("a correction never costs more than the event did", code="not_in_the_tenants_favour")
    corrected = msgspec.structs.replace(
        event,
        listing=price.listing,
        price_version=version,
        outcome=outcome,
        counts=counts,
        amount_nano=amount_nano,
    )
    posted = await _post(session, found, corrected)
    return await _decide(session, found, CORRECTED, reason, posted)


async def write_off(session: AsyncSession, request_id: UUID, digest: bytes, *, reason: str) -> Decided:
    """Give the event up: it is never posted, whoever sends it again. Its amount, if it can be one, is booked as sold
    and lost; of a request that is posted otherwise nothing is. Raises `NotFound`, and `Conflict` when it is decided
    already."""
    found, reason = await _open(session, request_id, digest, reason)
    if await queries.read_charge(session, request_id) is not None:
        # Another version of the request counts, so there is no money in this one.
        return await _decide(session, found, DISMISSED, reason, Charge(0, None))
    amount_nano = int(found.event["amount_nano"])
    lost = Charge(0, None)
    if 0 < amount_nano <= MAX_AMOUNT_NANO:
        posting = await _loss(session, found, amount_nano, reason)
        await ledger.post(session, [posting])
        lost = Charge(amount_nano, posting.id)
    return await _decide(session, found, WRITTEN_OFF, reason, lost)


async def _open(session: AsyncSession, request_id: UUID, digest: bytes, reason: str) -> tuple[Quarantined, str]:
    reason = clean_name(reason, param="reason", max_length=MAX_REASON_LENGTH)
    await queries.lock_request(session, request_id)
    found = await queries.find_quarantined(session, request_id, digest)
    if found is None:
        raise NotFound("there is no such event in quarantine")
    if found.decision is not None:
        raise Conflict("somebody decided about this event already", code="already_resolved")
    return found, reason


def _event_of(found: Quarantined) -> UsageEvent:
    return msgspec.convert(found.event, UsageEvent)


async def _post(session: AsyncSession, found: Quarantined, event: UsageEvent) -> Charge:
    receipt = await ingest(session, region=found.region, batch=UsageBatch(found.gateway, (event,)))
    posted = await queries.read_charge(session, found.request_id)
    if receipt.posted != 1 or posted is None:
        raise Conflict("it still cannot be posted", code="still_refused")
    return posted


async def _loss(session: AsyncSession, found: Quarantined, amount_nano: int, reason: str) -> Posting:
    # What the event says of its tenant is unverified, so this is in no tenant's statement.
    budget = (await budgets.lock_budgets(session, [found.tenant_id])).get(found.tenant_id)
    entity = DEFAULT_LEGAL_ENTITY_ID if budget is None else budget.legal_entity_id
    currency = await queries.read_currency(session, entity)
    return Posting(
        id=ledger.new_transaction_id(),
        kind=TransactionKind.WRITE_OFF,
        tenant_id=None,
        currency=currency,
        lines=(
            Line(Account(AccountKind.WRITE_OFF, currency, entity), -amount_nano),
            Line(Account(AccountKind.REVENUE, currency, entity, region=found.region), amount_nano),
        ),
        reason=reason,
    )


async def _decide(session: AsyncSession, found: Quarantined, decision: str, reason: str, charged: Charge) -> Decided:
    await queries.insert_decision(session, found, decision=decision, reason=reason, charge=charged)
    return Decided(decision, charged.amount_nano, charged.transaction_id)
