"""What a gateway is told of the quotas that bear on a key."""

from collections.abc import Sequence
from uuid import UUID

from msgspec import Struct
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_kernel.ids import KEY, PROJECT, TENANT, KeyId, ProjectId, TenantId, encode_id
from chappe_kernel.wire.control import MonthlyBudget, RateLimit
from chappe_store.queries import read_now
from chappe_store.session import TenantScope
from chappe_tenants.quotas import queries
from chappe_tenants.quotas.effective import Holder, Level, Measure, Rule, budgets, holds_until, limits
from chappe_tenants.quotas.queries import Subject


class KeyQuotas(Struct, frozen=True):
    """`hold_for_s` is when a raise among them ends, if one does."""

    limits: tuple[RateLimit, ...]
    budgets: tuple[MonthlyBudget, ...]
    hold_for_s: float | None


async def read_key_quotas(session: AsyncSession, *, tenant_id: UUID, project_id: UUID, key_id: UUID) -> KeyQuotas:
    """Of a key that somebody has just shown to have, whoever's it is."""
    rules = await queries.read_rules(
        session, TenantScope(TenantId(tenant_id)), subjects_of_key(ProjectId(project_id), KeyId(key_id))
    )
    ends_at = holds_until(rules)
    holders = {
        Holder.TENANT: encode_id(TENANT, tenant_id),
        Holder.PROJECT: encode_id(PROJECT, project_id),
        Holder.KEY: encode_id(KEY, key_id),
    }
    stopping = [budget.rule for budget in budgets(rules) if budget.rule.hard_stop]
    return KeyQuotas(
        limits=rate_limits(rules, holders),
        budgets=tuple(MonthlyBudget(rule.id, rule.model) for rule in stopping),
        hold_for_s=None if ends_at is None else (ends_at - await read_now(session)).total_seconds(),
    )


def subjects_of_key(project_id: ProjectId, key_id: KeyId) -> tuple[Subject, ...]:
    """Whose quotas a key has beside its tenant's."""
    return Subject(Level.PROJECT, project_id=project_id), Subject(Level.KEY, key_id=key_id)


def rate_limits(rules: Sequence[Rule], holders: dict[Holder, str]) -> tuple[RateLimit, ...]:
    """One for each holder and model that has any, with all that holds there."""
    found: dict[tuple[Holder, str | None], dict[Measure, int]] = {}
    for measure in (Measure.REQUESTS_PER_MINUTE, Measure.TOKENS_PER_MINUTE, Measure.CONCURRENT_REQUESTS):
        for limit in limits(rules, measure):
            found.setdefault((limit.holder, limit.model), {})[measure] = limit.value
    return tuple(
        RateLimit(
            scope=f"{holder}:{holders[holder]}",
            requests_per_minute=values.get(Measure.REQUESTS_PER_MINUTE),
            model=model,
            tokens_per_minute=values.get(Measure.TOKENS_PER_MINUTE),
            concurrent_requests=values.get(Measure.CONCURRENT_REQUESTS),
        )
        for (holder, model), values in found.items()
    )
