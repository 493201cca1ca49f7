"""Quotas and plans as the API shows them and takes them."""

from datetime import datetime
from typing import Annotated, TypeVar

from msgspec import UNSET, Meta, Struct, UnsetType

from chappe_kernel.errors import Invalid
from chappe_kernel.ids import KEY, PROJECT, QUOTA, QUOTA_RAISE, encode_id
from chappe_kernel.money import format_nano, parse_nano
from chappe_tenants.naming import MAX_NAME_LENGTH
from chappe_tenants.quotas.effective import Level, Limit, Rule
from chappe_tenants.quotas.queries import Raise, Values
from chappe_tenants.quotas.service import MAX_MODELS_PER_PLAN, MAX_REASON_LENGTH, PlanTerms

T = TypeVar("T")

MAX_RATE = 10**12
MAX_BUDGET_NANO = 10**18
MAX_ALERTS = 10
MAX_ALERT_PERCENT = 1000

_Rate = Annotated[int, Meta(ge=1, le=MAX_RATE)]
RequestsPerMinute = Annotated[_Rate, Meta(description="Per region and minute of the clock.")]
TokensPerMinute = Annotated[_Rate, Meta(description="Prompt and output together, per region and minute of the clock.")]
ConcurrentRequests = Annotated[
    _Rate, Meta(description="At the same time, per region. Told to gateways, which do not hold to it yet.")
]
MonthlyBudget = Annotated[
    str,
    Meta(
        pattern=r"^[0-9]{1,9}(\.[0-9]{1,9})?$",
        description="A decimal string, in the organisation's currency, per calendar month (UTC).",
    ),
]
HardStop = Annotated[
    bool, Meta(description="Whether requests are refused once the budget is used up, or it is only announced.")
]
AlertPercents = Annotated[
    list[Annotated[int, Meta(ge=1, le=MAX_ALERT_PERCENT)]],
    Meta(max_length=MAX_ALERTS, description="Parts of the monthly budget that are announced when they are spent."),
]
Model = Annotated[
    str,
    Meta(min_length=1, max_length=MAX_NAME_LENGTH, description="A listing's name. Null counts all models together."),
]
Reason = Annotated[str, Meta(min_length=1, max_length=MAX_REASON_LENGTH)]
PlanKey = Annotated[str, Meta(pattern="^[a-z0-9][a-z0-9_-]{0,62}$", description="What tenants' rows say.")]
Share = Annotated[
    int, Meta(ge=1, le=1000, description="How many shares of a busy model each organisation of the plan has.")
]
PlanName = Annotated[str, Meta(min_length=1, max_length=MAX_NAME_LENGTH, description="Without control characters.")]


class Limits(Struct, frozen=True, forbid_unknown_fields=True):
    """What to limit. What is left out or null is not limited here."""

    requests_per_minute: RequestsPerMinute | None = None
    tokens_per_minute: TokensPerMinute | None = None
    concurrent_requests: ConcurrentRequests | None = None
    monthly_budget: MonthlyBudget | None = None


class LimitsWithBudget(Limits, frozen=True, forbid_unknown_fields=True):
    hard_stop: HardStop = True
    alert_percents: AlertPercents = []


class CreateQuota(LimitsWithBudget, frozen=True, forbid_unknown_fields=True):
    project_id: Annotated[str | None, Meta(description="For one project.")] = None
    key_id: Annotated[str | None, Meta(description="For one key. Without either, for the whole organisation.")] = None
    model: Model | None = None


class CreateContractQuota(LimitsWithBudget, frozen=True, forbid_unknown_fields=True):
    model: Model | None = None


class ChangeQuota(Struct, frozen=True, forbid_unknown_fields=True):
    """What is left out stays, what is null is not limited any more."""

    requests_per_minute: RequestsPerMinute | UnsetType | None = UNSET
    tokens_per_minute: TokensPerMinute | UnsetType | None = UNSET
    concurrent_requests: ConcurrentRequests | UnsetType | None = UNSET
    monthly_budget: MonthlyBudget | UnsetType | None = UNSET
    hard_stop: HardStop | UnsetType = UNSET
    alert_percents: AlertPercents | UnsetType = UNSET


class CreateRaise(Limits, frozen=True, forbid_unknown_fields=True, kw_only=True):
    model: Model | None = None
    reason: Reason
    ends_at: datetime


class PlanQuotaTerms(LimitsWithBudget, frozen=True, forbid_unknown_fields=True):
    model: Model | None = None


class ChangePlan(Struct, frozen=True, forbid_unknown_fields=True):
    """All that the plan says from now on."""

    title: PlanName
    share: Share = 1
    quotas: Annotated[list[PlanQuotaTerms], Meta(max_length=MAX_MODELS_PER_PLAN + 1)] = []


class CreatePlan(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    name: PlanKey
    title: PlanName
    share: Share = 1
    quotas: Annotated[list[PlanQuotaTerms], Meta(max_length=MAX_MODELS_PER_PLAN + 1)] = []


class LimitsView(Struct, frozen=True, kw_only=True):
    requests_per_minute: int | None
    tokens_per_minute: int | None
    concurrent_requests: int | None
    monthly_budget: Annotated[str | None, Meta(description="A decimal string.")]


class QuotaView(LimitsView, frozen=True, kw_only=True):
    id: Annotated[str, Meta(pattern="^quo_")]
    level: Annotated[
        Level, Meta(description="`contract` was agreed with the operator; `tenant`, `project` and `key` are your own.")
    ]
    project_id: str | None
    key_id: str | None
    model: str | None
    hard_stop: bool
    alert_percents: list[int]


class RaiseView(LimitsView, frozen=True, kw_only=True):
    id: Annotated[str, Meta(pattern="^rse_")]
    model: str | None
    reason: str
    created_at: datetime
    ends_at: datetime


class PlanQuotaView(LimitsView, frozen=True, kw_only=True):
    model: str | None
    hard_stop: bool
    alert_percents: list[int]


class PlanView(Struct, frozen=True):
    name: str
    title: str
    share: Share
    quotas: list[PlanQuotaView]


class OriginView(Struct, frozen=True):
    level: Annotated[Level, Meta(description="Which level it comes from: `raise` was granted by the operator.")]
    name: Annotated[str, Meta(description="The plan's title, the project's or the key's name; else empty.")]
    model: Annotated[str | None, Meta(description="Whether it is about one model.")]
    ends_at: Annotated[datetime | None, Meta(description="When it ends by itself.")]


class EffectiveLimit(Struct, frozen=True):
    value: int
    origin: OriginView


def values_of(asked: Limits) -> Values:
    """What somebody asks to set. Raises `Invalid` for a budget that is too large."""
    hard_stop = True
    alert_percents: tuple[int, ...] = ()
    if isinstance(asked, LimitsWithBudget):
        hard_stop, alert_percents = asked.hard_stop, tuple(asked.alert_percents)
    return Values(
        requests_per_minute=asked.requests_per_minute,
        tokens_per_minute=asked.tokens_per_minute,
        concurrent_requests=asked.concurrent_requests,
        monthly_budget_nano=_budget_nano(asked.monthly_budget),
        hard_stop=hard_stop,
        alert_percents=alert_percents,
    )


def changed_values(rule: Rule, asked: ChangeQuota) -> Values:
    """The rule's values after the change. Alerts go with the budget that they belong to."""
    budget_nano = rule.monthly_budget_nano if asked.monthly_budget is UNSET else _budget_nano(asked.monthly_budget)
    alerts = rule.alert_percents if asked.alert_percents is UNSET else tuple(asked.alert_percents)
    return Values(
        requests_per_minute=_kept(asked.requests_per_minute, rule.requests_per_minute),
        tokens_per_minute=_kept(asked.tokens_per_minute, rule.tokens_per_minute),
        concurrent_requests=_kept(asked.concurrent_requests, rule.concurrent_requests),
        monthly_budget_nano=budget_nano,
        hard_stop=_kept(asked.hard_stop, rule.hard_stop),
        alert_percents=() if budget_nano is None and asked.alert_percents is UNSET else alerts,
    )


def show_quota(rule: Rule) -> QuotaView:
    return QuotaView(
        id=encode_id(QUOTA, rule.id),
        level=rule.level,
        project_id=None if rule.project_id is None else encode_id(PROJECT, rule.project_id),
        key_id=None if rule.key_id is None else encode_id(KEY, rule.key_id),
        model=rule.model,
        requests_per_minute=rule.requests_per_minute,
        tokens_per_minute=rule.tokens_per_minute,
        concurrent_requests=rule.concurrent_requests,
        monthly_budget=_amount(rule.monthly_budget_nano),
        hard_stop=rule.hard_stop,
        alert_percents=list(rule.alert_percents),
    )


def show_raise(found: Raise) -> RaiseView:
    return RaiseView(
        id=encode_id(QUOTA_RAISE, found.id),
        model=found.model,
        requests_per_minute=found.values.requests_per_minute,
        tokens_per_minute=found.values.tokens_per_minute,
        concurrent_requests=found.values.concurrent_requests,
        monthly_budget=_amount(found.values.monthly_budget_nano),
        reason=found.reason,
        created_at=found.created_at,
        ends_at=found.ends_at,
    )


def show_plan(terms: PlanTerms) -> PlanView:
    return PlanView(
        name=terms.plan.name,
        title=terms.plan.title,
        share=terms.plan.share,
        quotas=[
            PlanQuotaView(
                model=model,
                requests_per_minute=values.requests_per_minute,
                tokens_per_minute=values.tokens_per_minute,
                concurrent_requests=values.concurrent_requests,
                monthly_budget=_amount(values.monthly_budget_nano),
                hard_stop=values.hard_stop,
                alert_percents=list(values.alert_percents),
            )
            for model, values in terms.quotas
        ],
    )


def show_origin(rule: Rule) -> OriginView:
    return OriginView(level=rule.level, name=rule.name, model=rule.model, ends_at=rule.ends_at)


def show_limit(limit: Limit | None) -> EffectiveLimit | None:
    return None if limit is None else EffectiveLimit(limit.value, show_origin(limit.origin))


def _kept(asked: T | UnsetType, present: T) -> T:
    return present if isinstance(asked, UnsetType) else asked


def _amount(amount_nano: int | None) -> str | None:
    return None if amount_nano is None else format_nano(amount_nano)


def _budget_nano(text: str | None) -> int | None:
    if text is None:
        return None
    amount_nano = parse_nano(text)
    if amount_nano > MAX_BUDGET_NANO:
        raise Invalid("the budget is too large", code="invalid_amount", param="monthly_budget")
    return amount_nano
