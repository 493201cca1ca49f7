"""Monthly budgets as they stand, and who is to be told that one nears its end."""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from msgspec import Struct
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_billing.spending import queries
from chappe_billing.spending.within import reached, spent_within
from chappe_kernel.ids import QUOTA, TENANT, TenantId, encode_id
from chappe_kernel.money import format_nano
from chappe_store.outbox import enqueue
from chappe_store.session import TenantScope
from chappe_tenants.quotas import queries as quotas
from chappe_tenants.quotas.effective import Budget, Level, Rule, budgets

_WHOSE = {
    Level.PLAN: "the plan {}",
    Level.CONTRACT: "the contract",
    Level.TENANT: "the organisation",
    Level.PROJECT: "the project {}",
    Level.KEY: "the key {}",
}


class BudgetState(Struct, frozen=True):
    """A monthly budget in this month, by the database's clock."""

    budget: Budget
    spent_nano: int
    pending_nano: int

    @property
    def spendable_nano(self) -> int:
        """What would be free if all pending money came back; negative after the budget was lowered."""
        return self.budget.amount_nano - self.spent_nano

    @property
    def free_nano(self) -> int:
        """What may still be lent."""
        return max(0, self.spendable_nano - self.pending_nano)

    @property
    def title(self) -> str:
        """As a message names it."""
        rule = self.budget.rule
        model = "" if rule.model is None else f" for the model {rule.model}"
        return f"the monthly budget of {_WHOSE[rule.level].format(rule.name)}{model}"


async def read_states(session: AsyncSession, tenant_id: TenantId, quota_ids: Sequence[UUID]) -> list[BudgetState]:
    """Of those of these budgets that still exist. Exact while the tenant's budget is locked."""
    rules = await quotas.read_budget_rules(session, TenantScope(tenant_id), quota_ids)
    return await states_of(session, tenant_id, [budget for budget in budgets(rules) if budget.rule.id in quota_ids])


async def states_of(session: AsyncSession, tenant_id: TenantId, found: Sequence[Budget]) -> list[BudgetState]:
    """How these budgets of a tenant's stand."""
    if not found:
        return []
    spending = await queries.read_spending(session, tenant_id)
    pending = await queries.read_pending(session, tenant_id, [budget.rule.id for budget in found])
    return [
        BudgetState(budget, spent_within(budget.rule, spending), pending.get(budget.rule.id, 0)) for budget in found
    ]


async def announce_thresholds(session: AsyncSession, currencies: Mapping[UUID, str]) -> None:
    """After usage of these tenants was posted: note each threshold that it reached, and tell of it once.

    As a region, in the transaction that posts, so that none is missed and none announced of what did not happen.
    """
    alerting = await quotas.read_alerting(session, list(currencies))
    for tenant_id, quota_ids in sorted(alerting.items()):
        states = await read_states(session, TenantId(tenant_id), quota_ids)
        rows = [_row(tenant_id, state, percent) for state in states for percent in _reached(state)]
        news = await queries.insert_alerts(session, rows)
        told = [
            _announcement(state, percent, tenant_id, currencies[tenant_id])
            for state in states
            for percent in _reached(state)
            if (state.budget.rule.id, percent) in news
        ]
        await enqueue(session, "budget.threshold_reached", told)


def _reached(state: BudgetState) -> list[int]:
    return reached(state.budget.rule.alert_percents, state.budget.amount_nano, state.spent_nano)


def _row(tenant_id: UUID, state: BudgetState, percent: int) -> dict[str, Any]:
    return {
        "tenant_id": tenant_id,
        "quota_id": state.budget.rule.id,
        "percent": percent,
        "budget_nano": state.budget.amount_nano,
        "spent_nano": state.spent_nano,
    }


def _announcement(state: BudgetState, percent: int, tenant_id: UUID, currency: str) -> dict[str, Any]:
    rule: Rule = state.budget.rule
    return {
        "tenant_id": encode_id(TENANT, tenant_id),
        "quota_id": encode_id(QUOTA, rule.id),
        "level": rule.level,
        "name": rule.name,
        "model": rule.model,
        "percent": percent,
        "hard_stop": rule.hard_stop,
        "budget": format_nano(state.budget.amount_nano),
        "spent": format_nano(state.spent_nano),
        "currency": currency,
    }
