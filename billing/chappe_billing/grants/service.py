"""Leasing budget to gateways, and taking back what they did not need."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from chappe_billing.budgets import queries as budget_queries
from chappe_billing.budgets import service as budgets
from chappe_billing.budgets.queries import LockedBudget, Movement
from chappe_billing.gateways import check_gateway_name
from chappe_billing.grants import queries
from chappe_billing.grants.errors import BudgetLent
from chappe_billing.grants.lending import lent_nano
from chappe_billing.grants.models import BudgetGrant
from chappe_billing.grants.terms import GrantTerms, grant_times
from chappe_billing.restoring.service import check_lending
from chappe_billing.spending.service import BudgetState, read_states
from chappe_kernel.errors import Conflict, InsufficientFunds, Invalid, NotFound, Unavailable
from chappe_kernel.ids import TenantId
from chappe_kernel.wire import control as wire

_MAX_ASK_NANO = 10**18


async def ask_grant(
    session: AsyncSession, *, region: str, ask: wire.AskGrant, terms: GrantTerms, has_contract: bool = False
) -> wire.Grant:
    """Lease what `lent_nano` says of what is free, also within the monthly budgets that the gateway names. As a
    region; locks the tenant's budget. A tenant with a contract and a credit limit is postpaid.

    Asking again with the same id returns the same grant with what is left of its times; by another tenant or region
    it is a `Conflict`. When less than the minimum could be lent: `InsufficientFunds` if it would still be too little
    with all pending money back (code `monthly_budget_reached` for a monthly one, with its level as `param`), else
    `BudgetLent`. `NotFound`: the tenant has no budget.
    """
    if not 0 <= ask.minimum_nano <= ask.wanted_nano <= _MAX_ASK_NANO or (ask.needed_nano or 0) < 0:
        raise Invalid("a grant needs 0 ≤ minimum ≤ wanted and 0 ≤ needed", code="invalid_grant")
    check_gateway_name(ask.gateway)
    budget = (await budgets.lock_budgets(session, [ask.tenant_id])).get(ask.tenant_id)
    if budget is None:
        raise NotFound("no such tenant")
    now = await budget_queries.read_database_time(session)
    known = await queries.find_grant(session, ask.grant_id)
    if known is not None:
        return _repeat(known, region, ask, now)
    await check_lending(session)
    # Under the tenant's lock, which whatever spends or lends takes first: no lock of their own is needed.
    within = await read_states(session, TenantId(ask.tenant_id), ask.budgets) if ask.budgets else []
    amount_nano = _amount(budget, within, ask)
    if amount_nano is None:
        holders = await queries.list_holders(session, TenantId(ask.tenant_id))
        raise BudgetLent("what is left of the budget is lent to gateways", holders)
    terms = terms.of(postpaid=has_contract and budget.credit_limit_nano > 0)
    times = grant_times(now, terms)
    if not await queries.insert_grant(session, region, ask, amount_nano, times):
        raise Conflict("this grant is another's", code="grant_conflict")
    if not await budget_queries.take_pending(session, TenantId(ask.tenant_id), amount_nano):
        raise Unavailable("the budget changed under its lock", code="budget_unavailable")
    return wire.Grant(
        grant_id=ask.grant_id,
        amount_nano=amount_nano,
        admit_for_s=(times.admit_until - now).total_seconds(),
        settle_for_s=terms.settle_s,
        release_for_s=terms.release_s,
    )


async def return_grant(session: AsyncSession, *, region: str, grant_id: UUID, returned_nano: int) -> TenantId:
    """Free what the gateway will not need: `returned_nano` in all, so far; whose grant it is. As a region; locks the
    tenant's budget.

    A smaller repeat changes nothing, and nothing that was spent can be returned. A grant that expired has been freed
    already. Raises `NotFound`, also for another region's grant.
    """
    if returned_nano < 0:
        raise Invalid("a returned amount cannot be negative", code="invalid_amount")
    found = await queries.find_grant(session, grant_id)
    if found is None or found.region != region:
        raise NotFound("no such grant")
    await budgets.lock_budgets(session, [found.tenant_id])
    grant = await queries.find_grant(session, grant_id)
    if grant is not None and grant.released_at is None:
        returned_in_all_nano = min(returned_nano, grant.amount_nano - grant.posted_nano)
        freed_nano = returned_in_all_nano - grant.returned_nano
        if freed_nano > 0:
            await queries.set_returned(session, grant_id, returned_in_all_nano)
            await budget_queries.move(session, [Movement(grant.tenant_id, 0, freed_nano)])
    return TenantId(found.tenant_id)


def _amount(budget: LockedBudget, within: Sequence[BudgetState], ask: wire.AskGrant) -> int | None:
    """What can be lent now; `None` when too much is lent already."""
    # A minimum is never negative, so debt alone (after a chargeback) is too little for anything.
    if budget.spendable_nano < ask.minimum_nano:
        raise InsufficientFunds("the organisation's funds are used up")
    for state in within:
        if state.spendable_nano < ask.minimum_nano:
            raise InsufficientFunds(
                f"{state.title} is used up", code="monthly_budget_reached", param=state.budget.rule.level
            )
    free_nano = min([budget.free_nano, *(state.free_nano for state in within)])
    return lent_nano(free_nano, wanted_nano=ask.wanted_nano, minimum_nano=ask.minimum_nano, needed_nano=ask.needed_nano)


def _repeat(grant: BudgetGrant, region: str, ask: wire.AskGrant, now: datetime) -> wire.Grant:
    if (grant.tenant_id, grant.region, grant.gateway) != (ask.tenant_id, region, ask.gateway):
        raise Conflict("this grant is another's", code="grant_conflict")
    if grant.released_at is not None:
        # A restore may have closed it long before its time.
        now = max(now, grant.release_at)
    return wire.Grant(
        grant_id=grant.id,
        amount_nano=grant.amount_nano,
        admit_for_s=_seconds_left(grant.admit_until, now),
        settle_for_s=_seconds_left(grant.settle_by, now),
        release_for_s=_seconds_left(grant.release_at, now),
    )


def _seconds_left(until: datetime, now: datetime) -> float:
    return max(0.0, (until - now).total_seconds())
