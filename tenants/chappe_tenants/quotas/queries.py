"""SQL for plans and quotas."""

from collections.abc import Collection, Sequence
from datetime import datetime
from functools import cache
from typing import Any
from uuid import UUID

from msgspec import Struct
from sqlalchemy import (
    ColumnElement,
    Executable,
    RowMapping,
    Select,
    and_,
    bindparam,
    delete,
    func,
    literal,
    null,
    or_,
    select,
    text,
    true,
    update,
)
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_kernel.ids import KeyId, ProjectId, QuotaId, QuotaRaiseId
from chappe_store.arrays import is_among
from chappe_store.session import TenantScope
from chappe_tenants.api_keys.models import ApiKey
from chappe_tenants.organisations.models import Tenant
from chappe_tenants.projects.models import Project
from chappe_tenants.quotas.effective import Level, Measure, Rule
from chappe_tenants.quotas.models import Plan, PlanQuota, Quota, QuotaRaise


class Values(Struct, frozen=True):
    """What a quota says, without whose it is."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    concurrent_requests: int | None = None
    monthly_budget_nano: int | None = None
    hard_stop: bool = True
    alert_percents: tuple[int, ...] = ()


class Subject(Struct, frozen=True):
    """Whose quota it is: the level, and the project or key where the level is one."""

    level: Level
    project_id: ProjectId | None = None
    key_id: KeyId | None = None


class Raise(Struct, frozen=True):
    """What the operator allows beyond plan and contract for a time."""

    id: UUID
    model: str | None
    values: Values
    reason: str
    created_at: datetime
    ends_at: datetime


_MEASURES = tuple(str(measure) for measure in Measure)
_VALUES = (*_MEASURES, "hard_stop", "alert_percents")
# Spelt out, so that the planner sees that it is the partial index's own condition.
_NONE = text("'{}'")


async def read_rules(session: AsyncSession, scope: TenantScope, subjects: Sequence[Subject]) -> list[Rule]:
    """The plan's rules, the tenant's, the raises in force, and those of these projects and keys: two reads, each
    by an index."""
    values: dict[str, Any] = {"tenant_id": scope.tenant_id}
    for number, subject in enumerate(subjects):
        values |= {f"project_{number}": subject.project_id, f"key_{number}": subject.key_id}
    shapes = tuple(_Shape(one.level, one.project_id is not None, one.key_id is not None) for one in subjects)
    own = await session.execute(_of_subjects(shapes), values)
    return [*await _read_operators(session, scope), *(_rule(row) for row in own.mappings())]


async def read_all_rules(session: AsyncSession, scope: TenantScope) -> list[Rule]:
    """The same with those of every project and key."""
    return [*await _read_operators(session, scope), *await _read_own(session, scope)]


async def read_budget_rules(session: AsyncSession, scope: TenantScope, quota_ids: Sequence[UUID]) -> list[Rule]:
    """The plan's rules, the raises in force, and of the tenant's own rules those with these ids."""
    return [*await _read_operators(session, scope), *await _read_own(session, scope, is_among(Quota.id, quota_ids))]


async def read_alerting(session: AsyncSession, tenant_ids: Collection[UUID]) -> dict[UUID, list[UUID]]:
    """The ids of the quotas, plans' included, whose spending somebody wants to be told of, by tenant."""
    own = select(Quota.tenant_id, Quota.id).where(is_among(Quota.tenant_id, tenant_ids), Quota.alert_percents != _NONE)
    of_plans = (
        select(Tenant.id, PlanQuota.id)
        .join(PlanQuota, PlanQuota.plan == Tenant.plan)
        .where(is_among(Tenant.id, tenant_ids), PlanQuota.alert_percents != _NONE)
    )
    found: dict[UUID, list[UUID]] = {}
    for tenant_id, quota_id in await session.execute(own.union_all(of_plans)):
        found.setdefault(tenant_id, []).append(quota_id)
    return found


async def list_quotas(
    session: AsyncSession, scope: TenantScope, *, limit: int, before: UUID | None = None
) -> list[Rule]:
    """Newest first: what is set for this tenant, without its plan's and the raises."""
    conditions = [] if before is None else [Quota.id < before]
    return await _read_own(session, scope, *conditions, newest=limit)


async def count_quotas(session: AsyncSession, scope: TenantScope) -> int:
    return await session.scalar(select(func.count()).where(Quota.tenant_id == scope.tenant_id)) or 0


async def read_quota(
    session: AsyncSession, scope: TenantScope, quota_id: QuotaId, *, lock: bool = False
) -> Rule | None:
    """With `lock` nobody else changes it until the transaction ends."""
    if lock:
        query = select(Quota.id).where(Quota.tenant_id == scope.tenant_id, Quota.id == quota_id)
        await session.execute(query.with_for_update())
    found = await _read_own(session, scope, Quota.id == quota_id)
    return found[0] if found else None


async def copy_key_quotas(session: AsyncSession, scope: TenantScope, key_id: KeyId, successor_id: KeyId) -> None:
    """The successor, which has none of its own yet, is limited as the key is."""
    said = ("model", *Values.__struct_fields__)
    own = select(
        Quota.tenant_id,
        func.uuidv7(),
        Quota.level,
        literal(successor_id),
        *(getattr(Quota, name) for name in said),
    ).where(Quota.tenant_id == scope.tenant_id, Quota.level == Level.KEY, Quota.key_id == key_id)
    await session.execute(insert(Quota).from_select(["tenant_id", "id", "level", "key_id", *said], own))


async def insert_quota(
    session: AsyncSession,
    scope: TenantScope,
    quota_id: QuotaId,
    subject: Subject,
    *,
    model: str | None,
    values: Values,
) -> bool:
    """False, and nothing inserted, if the subject has a quota for this model."""
    inserted = await session.scalar(
        insert(Quota)
        .values(
            tenant_id=scope.tenant_id,
            id=quota_id,
            level=subject.level,
            project_id=subject.project_id,
            key_id=subject.key_id,
            model=model,
            **_columns(values),
        )
        .on_conflict_do_nothing(index_elements=["tenant_id", "level", "project_id", "key_id", "model"])
        .returning(Quota.id)
    )
    return inserted is not None


async def update_quota(session: AsyncSession, scope: TenantScope, quota_id: QuotaId, values: Values) -> None:
    await session.execute(
        update(Quota)
        .where(Quota.tenant_id == scope.tenant_id, Quota.id == quota_id)
        .values(**_columns(values))
        .execution_options(synchronize_session=False)
    )


async def delete_quota(session: AsyncSession, scope: TenantScope, quota_id: QuotaId) -> None:
    await session.execute(delete(Quota).where(Quota.tenant_id == scope.tenant_id, Quota.id == quota_id))


async def list_raises(
    session: AsyncSession, scope: TenantScope, *, limit: int, before: UUID | None = None
) -> list[Raise]:
    """Newest first, those that have ended included."""
    query = select(QuotaRaise).where(QuotaRaise.tenant_id == scope.tenant_id).order_by(QuotaRaise.id.desc())
    if before is not None:
        query = query.where(QuotaRaise.id < before)
    return [_raise(row) for row in await session.scalars(query.limit(limit))]


async def read_raise(session: AsyncSession, scope: TenantScope, raise_id: QuotaRaiseId) -> Raise | None:
    row = await session.get(QuotaRaise, (scope.tenant_id, raise_id), with_for_update=True, populate_existing=True)
    return None if row is None else _raise(row)


async def insert_raise(
    session: AsyncSession,
    scope: TenantScope,
    raise_id: QuotaRaiseId,
    *,
    model: str | None,
    values: Values,
    reason: str,
    ends_at: datetime,
) -> None:
    measures = {name: getattr(values, name) for name in _MEASURES}
    await session.execute(
        insert(QuotaRaise).values(
            tenant_id=scope.tenant_id, id=raise_id, model=model, reason=reason, ends_at=ends_at, **measures
        )
    )


async def end_raise(session: AsyncSession, scope: TenantScope, raise_id: QuotaRaiseId) -> None:
    """Now, in the database's time; one that has ended keeps its end."""
    await session.execute(
        update(QuotaRaise)
        .where(QuotaRaise.tenant_id == scope.tenant_id, QuotaRaise.id == raise_id, QuotaRaise.ends_at > func.now())
        .values(ends_at=func.now())
        .execution_options(synchronize_session=False)
    )


async def read_plan(session: AsyncSession, name: str, *, lock: bool = False) -> Plan | None:
    return await session.get(Plan, name, with_for_update=lock, populate_existing=True)


async def list_plans(session: AsyncSession, *, limit: int, before: UUID | None = None) -> Sequence[Plan]:
    """Newest first."""
    query = select(Plan).order_by(Plan.id.desc()).limit(limit)
    if before is not None:
        query = query.where(Plan.id < before)
    return (await session.scalars(query)).all()


async def read_plan_quotas(session: AsyncSession, names: Sequence[str]) -> dict[str, list[tuple[str | None, Values]]]:
    """By plan: what it says, the rule about all models first."""
    query = select(PlanQuota).where(PlanQuota.plan.in_(names)).order_by(PlanQuota.model.asc().nulls_first())
    found: dict[str, list[tuple[str | None, Values]]] = {name: [] for name in names}
    for row in await session.scalars(query.execution_options(populate_existing=True)):
        found[row.plan].append((row.model, _values(row)))
    return found


async def insert_plan(session: AsyncSession, name: str, title: str, share: int) -> bool:
    """False, and nothing inserted, if there is a plan of this name."""
    statement = insert(Plan).values(name=name, title=title, share=share).on_conflict_do_nothing(index_elements=["name"])
    return await session.scalar(statement.returning(Plan.name)) is not None


async def update_plan(session: AsyncSession, name: str, title: str, share: int) -> None:
    await session.execute(
        update(Plan)
        .where(Plan.name == name)
        .values(title=title, share=share)
        .execution_options(synchronize_session=False)
    )


async def replace_plan_quotas(
    session: AsyncSession, name: str, quotas: Sequence[tuple[UUID, str | None, Values]]
) -> None:
    """The plan says exactly this afterwards. A rule that stays keeps its id, which alerts are counted by."""
    models = [model for _, model, _ in quotas if model is not None]
    gone = and_(PlanQuota.model.is_not(None), PlanQuota.model.not_in(models))
    if all(model is not None for _, model, _ in quotas):
        gone = or_(gone, PlanQuota.model.is_(None))
    await session.execute(delete(PlanQuota).where(PlanQuota.plan == name, gone))
    for quota_id, model, values in quotas:
        columns = _columns(values)
        await session.execute(
            insert(PlanQuota)
            .values(id=quota_id, plan=name, model=model, **columns)
            .on_conflict_do_update(index_elements=["plan", "model"], set_=columns)
        )


async def count_tenants_of_plan(session: AsyncSession, name: str) -> int:
    return await session.scalar(select(func.count()).where(Tenant.plan == name)) or 0


async def delete_plan(session: AsyncSession, name: str) -> None:
    await session.execute(delete(Plan).where(Plan.name == name))


async def _read_operators(session: AsyncSession, scope: TenantScope) -> list[Rule]:
    found = await session.execute(_operators(), {"tenant_id": scope.tenant_id})
    return [_rule(row) for row in found.mappings()]


# Gateways ask for every key that they don't know: to build these statements takes longer than to run them.


@cache
def _operators() -> Executable:
    of_plan = (
        select(
            literal(Level.PLAN.value).label("level"),
            PlanQuota.id,
            Plan.title.label("name"),
            PlanQuota.model,
            *(getattr(PlanQuota, name) for name in _VALUES),
            null().label("ends_at"),
        )
        .join(Plan, Plan.name == PlanQuota.plan)
        .join(Tenant, Tenant.plan == Plan.name)
        .where(Tenant.id == bindparam("tenant_id"))
    )
    raised = select(
        literal(Level.RAISE.value),
        QuotaRaise.id,
        literal(""),
        QuotaRaise.model,
        *(getattr(QuotaRaise, name) for name in _MEASURES),
        true(),
        literal([], PlanQuota.alert_percents.type),
        QuotaRaise.ends_at,
    ).where(QuotaRaise.tenant_id == bindparam("tenant_id"), QuotaRaise.ends_at > func.now())
    return of_plan.union_all(raised)


class _Shape(Struct, frozen=True):
    """What of a subject stands in the statement itself."""

    level: Level
    has_project: bool
    has_key: bool


@cache
def _of_subjects(shapes: tuple[_Shape, ...]) -> Executable:
    subjects = [_is_of(shape, number) for number, shape in enumerate(shapes)]
    own = or_(Quota.level.in_((Level.CONTRACT, Level.TENANT)), *subjects)
    return _own().where(Quota.tenant_id == bindparam("tenant_id"), own).order_by(Quota.id)


async def _read_own(
    session: AsyncSession, scope: TenantScope, *conditions: ColumnElement[bool], newest: int | None = None
) -> list[Rule]:
    query = _own().where(Quota.tenant_id == scope.tenant_id, *conditions)
    query = query.order_by(Quota.id.desc() if newest else Quota.id)
    found = await session.execute(query.limit(newest) if newest else query)
    return [_rule(row) for row in found.mappings()]


def _own() -> Select[Any]:
    return (
        select(
            Quota.level,
            Quota.id,
            func.coalesce(Project.name, ApiKey.name, "").label("name"),
            Quota.model,
            *(getattr(Quota, name) for name in _VALUES),
            Quota.project_id,
            Quota.key_id,
        )
        .outerjoin(Project, and_(Project.tenant_id == Quota.tenant_id, Project.id == Quota.project_id))
        .outerjoin(ApiKey, and_(ApiKey.tenant_id == Quota.tenant_id, ApiKey.id == Quota.key_id))
    )


def _is_of(shape: _Shape, number: int) -> ColumnElement[bool]:
    # All of the unique index's columns but the model, so that it finds them among thousands.
    return and_(
        Quota.level == shape.level,
        Quota.project_id == bindparam(f"project_{number}") if shape.has_project else Quota.project_id.is_(None),
        Quota.key_id == bindparam(f"key_{number}") if shape.has_key else Quota.key_id.is_(None),
    )


def _columns(values: Values) -> dict[str, Any]:
    return {name: getattr(values, name) for name in _VALUES} | {"alert_percents": list(values.alert_percents)}


def _values(row: PlanQuota) -> Values:
    columns = {name: getattr(row, name) for name in _VALUES}
    return Values(**columns | {"alert_percents": tuple(row.alert_percents)})


def _raise(row: QuotaRaise) -> Raise:
    measures = {name: getattr(row, name) for name in _MEASURES}
    return Raise(row.id, row.model, Values(**measures), row.reason, row.created_at, row.ends_at)


def _rule(row: RowMapping) -> Rule:
    return Rule(**dict(row) | {"level": Level(row["level"]), "alert_percents": tuple(row["alert_percents"])})
