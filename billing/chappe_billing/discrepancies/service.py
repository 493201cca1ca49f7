"""Opening discrepancies as usage comes in, and resolving them: with a reason, and only ever in the tenant's favour."""

from collections.abc import Sequence
from hashlib import sha256
from typing import Literal
from uuid import UUID

import msgspec
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_billing.budgets import queries as budgets
from chappe_billing.budgets.queries import LockedBudget
from chappe_billing.discrepancies import queries
from chappe_billing.discrepancies.comparing import in_the_tenants_favour
from chappe_billing.discrepancies.models import UsageDiscrepancy
from chappe_billing.ledger import service as ledger
from chappe_billing.ledger.postings import Posting, TransactionKind
from chappe_billing.ledger.queries import find_share_terms
from chappe_billing.ledger.sharing import GivenBack, correction_lines, taken_by
from chappe_billing.price_corrections.service import right_price
from chappe_billing.usage.models import UsageEvent as PostedEvent
from chappe_kernel.errors import Conflict, Invalid, NotFound
from chappe_kernel.ids import LedgerTransactionId, TenantId, new_id
from chappe_kernel.rating import Counts, Outcome, charge
from chappe_kernel.wire.control import UsageEvent

Kind = Literal["witnesses_differ", "later_record"]

MAX_REASON_LENGTH = 500


async def open_discrepancies(
    session: AsyncSession, region: str, gateway: str, kind: Kind, stories: Sequence[UsageEvent]
) -> int:
    """Keep what other witnesses say of posted requests; how many stories were new. As a region; safe to repeat."""
    rows = {}
    for event in stories:
        digest = sha256(msgspec.json.encode((event.outcome, event.counts, event.amount_nano))).digest()
        rows[event.request_id, digest] = {
            "id": new_id(),
            "request_id": event.request_id,
            "digest": digest,
            "tenant_id": event.tenant_id,
            "region": region,
            "gateway": gateway,
            "kind": kind,
            "outcome": event.outcome,
            "prompt_tokens": event.counts.prompt_tokens,
            "cached_tokens": event.counts.cached_tokens,
            "completion_tokens": event.counts.completion_tokens,
            "amount_nano": event.amount_nano,
        }
    return await queries.insert_discrepancies(session, list(rows.values()))


async def resolve_discrepancy(session: AsyncSession, discrepancy_id: UUID, *, reason: str, correct: bool) -> int:
    """Close a discrepancy for good, and with `correct` give back what the tenant paid more than the other witness says.

    As the operator; locks the tenant's budget. Returns the nanos given back. The posted event stays: the correction is
    a ledger transaction that reverses a part of it. Raises `NotFound`, `Conflict` when it is resolved already,
    `Invalid` without a reason, or when there is nothing to correct in the tenant's favour.
    """
    reason = reason.strip()
    if not 1 <= len(reason) <= MAX_REASON_LENGTH:
        raise Invalid(f"a reason has 1 to {MAX_REASON_LENGTH} characters", param="reason")
    tenant_id = await queries.find_tenant(session, discrepancy_id)
    if tenant_id is None:
        raise NotFound("there is no such discrepancy")
    # All discrepancies of a tenant are resolved one after another: no two give back the same money.
    budget = (await budgets.lock_budgets(session, [tenant_id]))[tenant_id]
    found = await queries.read_discrepancy(session, discrepancy_id)
    if found.resolved_at is not None:
        raise Conflict("this discrepancy is resolved already", code="already_resolved")
    posting = await _correction(session, found, budget, reason) if correct else None
    given_back_nano = 0 if posting is None else posting.lines[0].amount_nano
    await queries.resolve(
        session,
        discrepancy_id,
        reason=reason,
        corrected_nano=given_back_nano or None,
        transaction_id=None if posting is None else posting.id,
    )
    if posting is not None:
        await ledger.post(session, [posting])
        await budgets.add_funds(session, TenantId(found.tenant_id), given_back_nano)
    return given_back_nano


async def _correction(session: AsyncSession, found: UsageDiscrepancy, budget: LockedBudget, reason: str) -> Posting:
    event = await queries.find_event(session, found.request_id)
    if event is None:
        raise NotFound("the request of this discrepancy is not posted")
    corrected_nano = await queries.sum_corrected(session, found.request_id)
    paid_nano, other_nano = _paid_nano(event), found.amount_nano
    right = await right_price(session, event.price_version_id)
    if right is not None:
        # What a wrong price took too much is given back for all requests together.
        paid_nano = min(paid_nano, charge(right, Outcome(event.outcome), _counts_of(event)))
        other_nano = charge(right, Outcome(found.outcome), _counts_of(found))
    given_back_nano = in_the_tenants_favour(paid_nano, corrected_nano, other_nano)
    if given_back_nano == 0:
        raise Invalid("there is nothing to correct in the tenant's favour", code="nothing_to_correct")
    reverses = None if event.transaction_id is None else LedgerTransactionId(event.transaction_id)
    tenant_id = TenantId(found.tenant_id)
    terms = await find_share_terms(session, reverses, event.listing_id, tenant_id)
    shares = taken_by(terms, event.listing_id, event.region, given_back_nano)
    given = GivenBack(event.listing_id, event.region, given_back_nano, shares)
    return Posting(
        id=ledger.new_transaction_id(),
        kind=TransactionKind.USAGE_CORRECTION,
        tenant_id=tenant_id,
        currency=budget.currency,
        lines=correction_lines([given], budget.currency, budget.legal_entity_id, tenant_id),
        reason=reason,
        reverses=reverses,
        shares=shares,
    )


def _counts_of(row: PostedEvent | UsageDiscrepancy) -> Counts:
    return Counts(row.prompt_tokens, row.cached_tokens, row.completion_tokens)


def _paid_nano(event: PostedEvent) -> int:
    return event.amount_nano - event.written_off_nano
