"""What a page of quotas shows: all that is set, what was spent within it, and what therefore holds."""

from collections.abc import Sequence

from msgspec import Struct
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_billing.spending.service import BudgetState, states_of
from chappe_catalogue.listings.queries import list_listings
from chappe_kernel.ids import KEY, PROJECT, encode_id
from chappe_store.session import TenantScope
from chappe_tenants.api_keys.queries import list_key_names
from chappe_tenants.organisations.service import get_organisation
from chappe_tenants.projects.queries import list_projects
from chappe_tenants.quotas import queries
from chappe_tenants.quotas.effective import Holder, Level, Limit, Measure, Rule, budgets, effective

# A select with more than this is no help; the API takes every key.
_MAX_CHOICES = 200


class QuotaRow(Struct, frozen=True):
    """One rule; `state` if it has a monthly budget."""

    rule: Rule
    state: BudgetState | None


class Choices(Struct, frozen=True):
    """What a quota can be for: names by public id."""

    projects: dict[str, str]
    keys: dict[str, str]
    models: list[str]


class QuotasPage(Struct, frozen=True):
    currency: str
    requests: Limit | None
    tokens: Limit | None
    tightest: BudgetState | None
    """The budget of the whole organisation that has least left."""
    rows: list[QuotaRow]


async def read_quotas(session: AsyncSession, scope: TenantScope) -> QuotasPage:
    """As of one instant."""
    tenant = await get_organisation(session, scope)
    rules = await queries.read_all_rules(session, scope)
    of_all = [rule for rule in rules if rule.holder is Holder.TENANT]
    states = await states_of(session, scope.tenant_id, budgets(rules))
    return QuotasPage(
        currency=tenant.currency,
        requests=effective(of_all, Measure.REQUESTS_PER_MINUTE, None),
        tokens=effective(of_all, Measure.TOKENS_PER_MINUTE, None),
        tightest=_tightest(states),
        rows=_rows(rules, states),
    )


async def read_choices(session: AsyncSession, scope: TenantScope) -> Choices:
    projects = await list_projects(session, scope, limit=_MAX_CHOICES, before=None)
    keys = await list_key_names(session, scope, limit=_MAX_CHOICES)
    return Choices(
        projects={encode_id(PROJECT, project.id): project.name for project in projects},
        keys={encode_id(KEY, key.id): key.name for key in keys if not key.revoked},
        models=[listing.name for listing in await list_listings(session)],
    )


def _rows(rules: Sequence[Rule], states: Sequence[BudgetState]) -> list[QuotaRow]:
    """From the plan inwards; within a level by name, what is about all models first."""
    state_of = {state.budget.rule.id: state for state in states}
    order = list(Level)
    ordered = sorted(rules, key=lambda rule: (order.index(rule.level), rule.name, rule.model or ""))
    return [QuotaRow(rule, state_of.get(rule.id)) for rule in ordered]


def _tightest(states: Sequence[BudgetState]) -> BudgetState | None:
    of_all = [
        state for state in states if state.budget.rule.holder is Holder.TENANT and state.budget.rule.model is None
    ]
    return min(of_all, key=lambda state: state.spendable_nano, default=None)
