"""What happens to plans and quotas: they are set within what the levels above allow, raised for a time, taken away."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from msgspec import Struct
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_kernel.errors import Conflict, Invalid, NotFound
from chappe_kernel.ids import KeyId, ProjectId, QuotaId, QuotaRaiseId, new_id
from chappe_store.queries import read_now
from chappe_store.session import TenantScope
from chappe_tenants.api_keys import queries as api_keys
from chappe_tenants.naming import clean_name
from chappe_tenants.projects.service import get_project
from chappe_tenants.quotas import queries
from chappe_tenants.quotas.effective import Level, Measure, Rule, effective
from chappe_tenants.quotas.facts import subjects_of_key
from chappe_tenants.quotas.models import Plan
from chappe_tenants.quotas.queries import Raise, Subject, Values

MAX_QUOTAS = 5000
MAX_MODELS_PER_PLAN = 200
MAX_REASON_LENGTH = 500
MAX_RAISE = timedelta(days=366)

OF_TENANT = Subject(Level.TENANT)
OF_CONTRACT = Subject(Level.CONTRACT)


class PlanTerms(Struct, frozen=True):
    """A plan with all that it says."""

    plan: Plan
    quotas: list[tuple[str | None, Values]]


async def create_quota(
    session: AsyncSession, scope: TenantScope, subject: Subject, model: str | None, values: Values
) -> Rule:
    """Set what `subject` allows of `model`, or of all together. The caller has checked that the model is on sale.

    Raises `NotFound` for another tenant's project or key, `Invalid` for more than the levels above allow, `Conflict`
    where there is one already.
    """
    outer = await _rules_above(session, scope, subject)
    _check_values(values)
    _check_narrows(values, model, outer)
    if await queries.count_quotas(session, scope) >= MAX_QUOTAS:
        raise Conflict(f"an organisation has at most {MAX_QUOTAS} quotas", code="too_many_quotas")
    quota_id = QuotaId(new_id())
    if not await queries.insert_quota(session, scope, quota_id, subject, model=model, values=values):
        raise Conflict("there is a quota for this already: change it instead", code="quota_exists")
    return await get_quota(session, scope, quota_id)


async def get_quota(session: AsyncSession, scope: TenantScope, quota_id: QuotaId, *, lock: bool = False) -> Rule:
    """Raises `NotFound`, also for another tenant's."""
    rule = await queries.read_quota(session, scope, quota_id, lock=lock)
    if rule is None:
        raise NotFound("no such quota")
    return rule


async def change_quota(session: AsyncSession, scope: TenantScope, rule: Rule, values: Values) -> Rule:
    """Say something else of the same subject and model. Raises as `create_quota` does."""
    _check_values(values)
    _check_narrows(values, rule.model, await _rules_above(session, scope, subject_of(rule)))
    await queries.update_quota(session, scope, QuotaId(rule.id), values)
    return await get_quota(session, scope, QuotaId(rule.id))


async def raise_quota(
    session: AsyncSession, scope: TenantScope, *, model: str | None, values: Values, reason: str, ends_at: datetime
) -> Raise:
    """Allow a tenant more than plan and contract do, from now until `ends_at`. As the operator.

    Raises `Invalid` for an end that is not ahead, a raise by nothing, or one of something that nothing limits.
    """
    _check_measures(values)
    now = await read_now(session)
    if not now < ends_at <= now + MAX_RAISE:
        raise Invalid(f"ends_at must be within the next {MAX_RAISE.days} days", param="ends_at")
    cleaned = reason.strip()
    if not 1 <= len(cleaned) <= MAX_REASON_LENGTH or not cleaned.isprintable():
        raise Invalid(f"reason must have 1 to {MAX_REASON_LENGTH} printable characters", param="reason")
    set_by_operator = [
        rule
        for rule in await queries.read_rules(session, scope, ())
        if rule.level in (Level.PLAN, Level.CONTRACT) and rule.model == model
    ]
    for measure in Measure:
        value = getattr(values, measure)
        present = effective(set_by_operator, measure, model)
        if value is not None and (present is None or present.value >= value):
            raise Invalid(
                "this raises nothing: the present limit is not lower", code="not_a_raise", param=_param(measure)
            )
    raise_id = QuotaRaiseId(new_id())
    await queries.insert_raise(session, scope, raise_id, model=model, values=values, reason=cleaned, ends_at=ends_at)
    return await get_raise(session, scope, raise_id)


async def get_raise(session: AsyncSession, scope: TenantScope, raise_id: QuotaRaiseId) -> Raise:
    """Raises `NotFound`, also for another tenant's."""
    found = await queries.read_raise(session, scope, raise_id)
    if found is None:
        raise NotFound("no such raise")
    return found


async def end_raise(session: AsyncSession, scope: TenantScope, raise_id: QuotaRaiseId) -> None:
    """It holds no longer. Safe to repeat. Raises `NotFound`."""
    await get_raise(session, scope, raise_id)
    await queries.end_raise(session, scope, raise_id)


async def create_plan(
    session: AsyncSession, *, name: str, title: str, quotas: Sequence[tuple[str | None, Values]], share: int = 1
) -> PlanTerms:
    """`share` is how many shares of a busy deployment its tenants have. Raises `Conflict` for a name in use, `Invalid`
    for a model twice."""
    name = clean_name(name, param="name")
    if not await queries.insert_plan(session, name, clean_name(title, param="title"), share):
        raise Conflict("there is a plan of this name", code="name_taken", param="name")
    return await _set_plan_quotas(session, name, quotas)


async def get_plan(session: AsyncSession, name: str, *, lock: bool = False) -> PlanTerms:
    """Raises `NotFound`, also for what no plan could be called."""
    plan = await queries.read_plan(session, name, lock=lock) if name.isprintable() else None
    if plan is None:
        raise NotFound("no such plan")
    return PlanTerms(plan, (await queries.read_plan_quotas(session, [name]))[name])


async def change_plan(
    session: AsyncSession, name: str, *, title: str, quotas: Sequence[tuple[str | None, Values]], share: int = 1
) -> PlanTerms:
    """The plan says exactly this afterwards, to every tenant that has it."""
    await queries.update_plan(session, name, clean_name(title, param="title"), share)
    return await _set_plan_quotas(session, name, quotas)


async def remove_plan(session: AsyncSession, name: str) -> None:
    """Raises `Conflict` while a tenant has it."""
    if await queries.count_tenants_of_plan(session, name):
        raise Conflict("organisations have this plan; give them another one first", code="plan_in_use")
    await queries.delete_plan(session, name)


async def read_chain(
    session: AsyncSession, scope: TenantScope, *, project_id: ProjectId | None = None, key_id: KeyId | None = None
) -> list[Rule]:
    """All rules that bear on a key, on a project, or without either on the organisation. Raises `NotFound`."""
    return await queries.read_rules(session, scope, await _subjects(session, scope, project_id, key_id))


def subject_of(rule: Rule) -> Subject:
    """Whose rule it is."""
    return Subject(
        rule.level,
        project_id=None if rule.project_id is None else ProjectId(rule.project_id),
        key_id=None if rule.key_id is None else KeyId(rule.key_id),
    )


async def _set_plan_quotas(session: AsyncSession, name: str, quotas: Sequence[tuple[str | None, Values]]) -> PlanTerms:
    models = [model for model, _ in quotas]
    if len(set(models)) < len(models):
        raise Invalid("quotas name a model twice", param="quotas")
    for _, values in quotas:
        _check_values(values)
    await queries.replace_plan_quotas(session, name, [(new_id(), model, values) for model, values in quotas])
    return await get_plan(session, name)


async def _subjects(
    session: AsyncSession, scope: TenantScope, project_id: ProjectId | None, key_id: KeyId | None
) -> Sequence[Subject]:
    if key_id is not None:
        key = await api_keys.read_key(session, scope, key_id)
        if key is None or project_id not in (None, key.project_id):
            raise NotFound("no such API key", param="key_id")
        return subjects_of_key(ProjectId(key.project_id), key_id)
    if project_id is not None:
        await get_project(session, scope, project_id)
        return (Subject(Level.PROJECT, project_id=project_id),)
    return ()


async def _rules_above(session: AsyncSession, scope: TenantScope, subject: Subject) -> list[Rule]:
    """What the levels outside `subject` say. Raises `NotFound` for a project or key that is not the tenant's."""
    chain = await read_chain(session, scope, project_id=subject.project_id, key_id=subject.key_id)
    depth = list(Level).index(subject.level)
    return [rule for rule in chain if list(Level).index(rule.level) < depth or rule.level is Level.RAISE]


def _check_narrows(values: Values, model: str | None, outer: Sequence[Rule]) -> None:
    """Silently holding less than somebody asked for would leave them to find out from refusals."""
    for measure in Measure:
        value = getattr(values, measure)
        above = effective(outer, measure, model)
        if value is not None and above is not None and value > above.value:
            raise Invalid(
                "this is more than the level above allows", code="above_inherited_limit", param=_param(measure)
            )


def _check_values(values: Values) -> None:
    _check_measures(values)
    if values.monthly_budget_nano is None and values.alert_percents:
        raise Invalid("alert_percents belong to a monthly budget", param="alert_percents")
    if list(values.alert_percents) != sorted(set(values.alert_percents)):
        raise Invalid("alert_percents must ascend, each once", param="alert_percents")


def _check_measures(values: Values) -> None:
    if all(getattr(values, measure) is None for measure in Measure):
        raise Invalid("a quota limits something: give at least one value", code="empty_quota")


def _param(measure: Measure) -> str:
    return measure.removesuffix("_nano")
