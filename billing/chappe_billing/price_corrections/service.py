"""Giving back what was charged too much under prices that were reverted."""

from collections.abc import Sequence
from datetime import timedelta
from fractions import Fraction
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from chappe_billing.budgets import queries as budgets
from chappe_billing.budgets.queries import LockedBudget
from chappe_billing.ledger import service as ledger
from chappe_billing.ledger.postings import Posting, Share, TransactionKind
from chappe_billing.ledger.queries import read_shares_left
from chappe_billing.ledger.sharing import GivenBack, correction_lines
from chappe_billing.price_corrections import queries
from chappe_billing.price_corrections.dues import Due, Wrong, due
from chappe_billing.price_corrections.models import PriceCorrection
from chappe_billing.price_corrections.taking_back import Term, shares_to_take
from chappe_billing.prices.queries import find_prices
from chappe_kernel.ids import TenantId, new_id
from chappe_kernel.money import format_nano
from chappe_kernel.rating import Price
from chappe_store.audit_log.origin import command_origin
from chappe_store.outbox import enqueue
from chappe_store.session import Database

WITHIN = timedelta(days=90)
"""How long after a revert late usage under the wrong price is still given back by itself."""


async def correct_all(database: Database) -> int:
    """Give every tenant what is due to it now; how many corrections that took. Safe to repeat, to kill, and to run at
    several places: one transaction for each tenant, which counts what was given under the lock of its budget."""
    async with database.audit() as session:
        wrong = await queries.find_wrong(session, WITHIN)
        tenant_ids = await _tenants_due(session, wrong) if wrong else []
    corrected = 0
    for tenant_id in tenant_ids:
        async with database.operator(command_origin()) as session:
            corrected += await correct_tenant(session, tenant_id, wrong)
    return corrected


async def correct_tenant(session: AsyncSession, tenant_id: UUID, wrong: Sequence[Wrong]) -> int:
    """One ledger transaction for each wrong version under which the tenant paid too much; how many. As the operator;
    locks the tenant's budget."""
    budget = (await budgets.lock_budgets(session, [tenant_id]))[tenant_id]
    version_ids = {one.version_id for one in wrong}
    used = await queries.sum_used(session, version_ids, tenant_id)
    given = await queries.sum_given(session, version_ids, tenant_id)
    earlier = await queries.given_earlier(session, tenant_id, wrong)
    corrected = 0
    for one in wrong:
        under = tenant_id, one.version_id
        if under not in used:
            continue
        found = due(one, *used[under], earlier.get(one.version_id, ()))
        amount_nano = found.beyond(given.get(under, 0))
        if amount_nano:
            shares = await _shares(session, budget, one, given.get(under, 0) + amount_nano, used[under][1])
            await _give_back(session, budget, one, found, GivenBack(one.listing_id, one.region, amount_nano, shares))
            corrected += 1
    return corrected


async def _tenants_due(session: AsyncSession, wrong: Sequence[Wrong]) -> list[UUID]:
    """Who may have something coming, without a lock: whoever looks again under it sees what it is."""
    of_version = {one.version_id: one for one in wrong}
    used = await queries.sum_used(session, of_version.keys())
    given = await queries.sum_given(session, of_version.keys())
    return sorted(
        {
            tenant_id
            for (tenant_id, version_id), (total, paid_nano) in used.items()
            if due(of_version[version_id], total, paid_nano).beyond(given.get((tenant_id, version_id), 0))
        }
    )


async def right_price(session: AsyncSession, version_id: UUID) -> Price | None:
    """What should have been paid under a version that was reverted; None for one that was right."""
    wrong = await queries.find_wrong(session, WITHIN)
    return next((one.right for one in wrong if one.version_id == version_id), None)


async def _shares(
    session: AsyncSession, budget: LockedBudget, wrong: Wrong, given_nano: int, paid_nano: int
) -> tuple[Share, ...]:
    """What publishers lose, when the tenant will have `given_nano` back of the `paid_nano` under the version: by the
    terms of when it was posted, whatever the listing's are now."""
    tenant_id = TenantId(budget.tenant_id)
    left = await read_shares_left(session, tenant_id, wrong.listing_id, wrong.region)
    return shares_to_take(
        wrong,
        await queries.read_shared(session, tenant_id, wrong),
        given=Fraction(given_nano, paid_nano),
        taken=await queries.read_shares_taken(session, tenant_id, wrong.version_id),
        left_nano={Term(*term): left_nano for term, left_nano in left.items()},
    )


async def _give_back(session: AsyncSession, budget: LockedBudget, wrong: Wrong, found: Due, given: GivenBack) -> None:
    tenant_id, amount_nano = TenantId(budget.tenant_id), given.amount_nano
    listed = (await find_prices(session, [wrong.version_id]))[wrong.version_id]
    posting = Posting(
        id=ledger.new_transaction_id(),
        kind=TransactionKind.USAGE_CORRECTION,
        tenant_id=tenant_id,
        currency=budget.currency,
        lines=correction_lines([given], budget.currency, budget.legal_entity_id, tenant_id),
        reason=f"the price of {listed.listing} in {wrong.region} was wrong",
        shares=given.shares,
    )
    await ledger.post(session, [posting])
    await queries.insert_correction(
        session,
        PriceCorrection(
            id=new_id(),
            tenant_id=tenant_id,
            price_version_id=wrong.version_id,
            reverted_by=wrong.reverted_by,
            paid_nano=found.paid_nano,
            right_nano=found.right_nano,
            corrected_nano=amount_nano,
            transaction_id=posting.id,
        ),
    )
    await budgets.add_funds(session, tenant_id, amount_nano)
    message = {
        "transaction_id": str(posting.id),
        "tenant_id": str(tenant_id),
        "price_version": str(wrong.version_id),
        "reverted_by": str(wrong.reverted_by),
        "amount": format_nano(amount_nano),
        "currency": budget.currency,
    }
    await enqueue(session, "price.corrected", [message])
