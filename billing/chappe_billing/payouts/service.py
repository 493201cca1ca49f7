"""Recording what publishers were paid. As the operator, in the caller's transaction, once for each reference."""

from datetime import UTC, date, datetime, time
from uuid import UUID

from msgspec import Struct
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_billing.cut_off.months import next_month
from chappe_billing.funds import once
from chappe_billing.funds import queries as posted
from chappe_billing.funds.moving import MAX_AMOUNT_NANO
from chappe_billing.funds.once import Moved
from chappe_billing.ledger import service as ledger
from chappe_billing.ledger.postings import Account, AccountKind, Line, Posting, Rail, TransactionKind
from chappe_billing.payouts import queries
from chappe_billing.payouts.queries import Earned, Owed
from chappe_catalogue.publishers.models import Publisher
from chappe_kernel.errors import Conflict, Invalid, NotFound
from chappe_kernel.ids import LedgerTransactionId, LegalEntityId, PublisherId
from chappe_kernel.money import format_nano
from chappe_tenants.legal_entities.service import get_entity


class AskedPayout(Struct, frozen=True, kw_only=True):
    """A payment that somebody made. `reference` is the bank's name for it."""

    legal_entity_id: UUID
    amount_nano: int
    reference: str
    rail: Rail
    note: str | None = None


class PublisherStatement(Struct, frozen=True):
    """A publisher's account in one legal entity's books in a month: what it was before, what happened, what it is.

    `earned_nano` is its part of what tenants paid, `taken_back_nano` (never positive) its part of what they got back,
    `paid_nano` what it was paid, less payouts that were taken back.
    """

    currency: str
    opening_nano: int
    earned_nano: int
    taken_back_nano: int
    paid_nano: int
    closing_nano: int
    shares: list[Earned]


async def record_payout(session: AsyncSession, publisher_id: UUID, asked: AskedPayout) -> Moved:
    """Book a payment to a publisher, out of all that it earned in the entity's books, wherever.

    Raises `NotFound`, `Conflict` (`reference_taken`) when the reference stands for something else, and `Invalid` for
    more than is payable.
    """
    if not 0 < asked.amount_nano <= MAX_AMOUNT_NANO:
        raise Invalid("an amount is over 0 and at most a billion", code="invalid_amount", param="amount")
    publisher = PublisherId((await get_publisher(session, publisher_id)).id)
    found = await get_entity(session, asked.legal_entity_id)
    entity, currency = LegalEntityId(found.id), found.currency
    account = Account(AccountKind.PUBLISHER_PAYABLE, currency, entity, publisher_id=publisher)
    await queries.lock_payouts(session, publisher, entity)
    posting = Posting(
        id=ledger.new_transaction_id(),
        kind=TransactionKind.PUBLISHER_SHARE,
        tenant_id=None,
        currency=currency,
        lines=(
            Line(account, -asked.amount_nano),
            Line(Account(AccountKind.PAYMENT_CLEARING, currency, entity), asked.amount_nano),
        ),
        reference=once.clean_reference(asked.reference),
        reason=None if asked.note is None else once.clean_reason(asked.note, param="note"),
        rail=asked.rail,
    )
    repeat = await once.find_repeat(session, posting)
    if repeat is not None:
        return repeat
    payable_nano = sum(
        owed.payable_nano for owed in await owed_to(session, publisher) if owed.legal_entity_id == entity
    )
    if asked.amount_nano > payable_nano:
        text = f"{format_nano(max(0, payable_nano))} is payable"
        raise Invalid(text, code="amount_too_large", param="amount")
    return await once.post(session, posting)


async def take_payout_back(
    session: AsyncSession, publisher_id: UUID, payout_id: UUID, *, reference: str, reason: str
) -> Moved:
    """Take the whole of a payout back, once: it did not arrive, or was typed wrongly. Raises `NotFound`, and `Conflict`
    when it is taken back already or the reference is taken."""
    payout = await queries.find_payout(session, publisher_id, payout_id)
    if payout is None:
        raise NotFound("the publisher has no such payout")
    await queries.lock_payouts(session, PublisherId(publisher_id), LegalEntityId(payout.legal_entity_id))
    posting = Posting(
        id=ledger.new_transaction_id(),
        kind=TransactionKind.REVERSAL,
        tenant_id=None,
        currency=payout.currency,
        lines=once.opposite(await posted.read_lines(session, payout_id)),
        reference=once.clean_reference(reference),
        reason=once.clean_reason(reason),
        reverses=LedgerTransactionId(payout_id),
    )
    repeat = await once.find_repeat(session, posting)
    if repeat is not None:
        return repeat
    if await posted.is_reversed(session, payout_id):
        raise Conflict("this payout is taken back already", code="already_reversed")
    return await once.post(session, posting)


async def read_statement(session: AsyncSession, publisher_id: UUID, entity_id: UUID, month: date) -> PublisherStatement:
    """In a read-only snapshot (`audit`), so that its figures agree. Raises `NotFound`."""
    publisher = await get_publisher(session, publisher_id)
    entity = await get_entity(session, entity_id)
    since, until = _bounds(month)
    moved = await queries.read_movements(session, publisher.id, entity.id, since, until)
    of_kind = moved.by_kind.get
    return PublisherStatement(
        currency=entity.currency,
        opening_nano=moved.before_nano,
        earned_nano=of_kind(TransactionKind.USAGE, 0),
        taken_back_nano=of_kind(TransactionKind.USAGE_CORRECTION, 0),
        paid_nano=-of_kind(TransactionKind.PUBLISHER_SHARE, 0) - of_kind(TransactionKind.REVERSAL, 0),
        closing_nano=moved.before_nano + sum(moved.by_kind.values()),
        shares=await queries.read_earned(session, publisher.id, entity.id, since, until),
    )


async def get_publisher(session: AsyncSession, publisher_id: UUID) -> Publisher:
    """Raises `NotFound`."""
    found = await queries.find_publisher(session, publisher_id)
    if found is None:
        raise NotFound("no such publisher")
    return found


async def owed_to(session: AsyncSession, publisher_id: UUID) -> list[Owed]:
    return await queries.read_owed(session, [publisher_id])


def _bounds(month: date) -> tuple[datetime, datetime]:
    since, until = (datetime.combine(day, time(tzinfo=UTC)) for day in (month, next_month(month)))
    return since, until
