"""What holds, and because of whom. Pure.

| level | set by | counts over |
|---|---|---|
| plan, contract | the operator, for all tenants of a plan or for one | the tenant |
| raise | the operator, for a time: lifts plan and contract | the tenant |
| tenant | the organisation itself | the tenant |
| project, key | the organisation | the project, the key |

Every level but the raise only narrows. A rule about one model counts over that model alone, beside the rules about all.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from msgspec import Struct


class Level(StrEnum):
    """Who set a rule, the outermost first."""

    PLAN = "plan"
    CONTRACT = "contract"
    RAISE = "raise"
    TENANT = "tenant"
    PROJECT = "project"
    KEY = "key"


class Holder(StrEnum):
    """Over whose requests a limit counts."""

    TENANT = "tenant"
    PROJECT = "project"
    KEY = "key"


class Measure(StrEnum):
    """What is limited: the names of a rule's fields."""

    REQUESTS_PER_MINUTE = "requests_per_minute"
    TOKENS_PER_MINUTE = "tokens_per_minute"
    CONCURRENT_REQUESTS = "concurrent_requests"
    MONTHLY_BUDGET = "monthly_budget_nano"


class Rule(Struct, frozen=True):
    """What one level says about one model, or about all. A measure that it does not mention is None.

    `name` is the plan's, the project's or the key's. Rates are per region and minute, the budget is in the tenant's
    currency and per calendar month (UTC). `alert_percents` are the parts of the budget whose spending is announced;
    unless it is a `hard_stop`, announcing is all that it does.
    """

    id: UUID
    level: Level
    name: str = ""
    model: str | None = None
    project_id: UUID | None = None
    key_id: UUID | None = None
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    concurrent_requests: int | None = None
    monthly_budget_nano: int | None = None
    hard_stop: bool = True
    alert_percents: tuple[int, ...] = ()
    ends_at: datetime | None = None

    @property
    def holder(self) -> Holder:
        return Holder(self.level) if self.level in (Level.PROJECT, Level.KEY) else Holder.TENANT


class Limit(Struct, frozen=True):
    """What holds of one measure over one holder and model, and the rule that it comes from."""

    holder: Holder
    model: str | None
    value: int
    origin: Rule


class Budget(Struct, frozen=True):
    """A monthly budget as it holds now: its rule's, or the raise's that lifts it."""

    rule: Rule
    amount_nano: int
    origin: Rule


def limits(rules: Iterable[Rule], measure: Measure) -> list[Limit]:
    """The limits of one key's chain of rules, or of a part of it: at most one per holder and model, the outermost
    holder first."""
    mentioned = [rule for rule in rules if _value(rule, measure) is not None]
    models = sorted({rule.model for rule in mentioned}, key=lambda model: (model is not None, model))
    found = []
    for holder in Holder:
        for model in models:
            of_model = [rule for rule in mentioned if rule.model == model and rule.holder is holder]
            limit = _tightest(of_model, measure)
            if limit is not None:
                found.append(Limit(holder, model, *limit))
    return found


def effective(rules: Iterable[Rule], measure: Measure, model: str | None) -> Limit | None:
    """The tightest limit that a request for `model` meets, or with None one for any model. Of equals the outermost."""
    applying = [limit for limit in limits(rules, measure) if limit.model is None or limit.model == model]
    return min(applying, key=lambda limit: limit.value, default=None)


def budgets(rules: Sequence[Rule]) -> list[Budget]:
    """Every monthly budget in a chain: they hold side by side, since each may stop or only announce."""
    return [
        Budget(rule, *_lifted(rule, rules, Measure.MONTHLY_BUDGET))
        for rule in rules
        if rule.monthly_budget_nano is not None and rule.level is not Level.RAISE
    ]


def holds_until(rules: Iterable[Rule]) -> datetime | None:
    """When the first of these rules ends by itself, if one does."""
    return min((rule.ends_at for rule in rules if rule.ends_at is not None), default=None)


def _tightest(rules: Sequence[Rule], measure: Measure) -> tuple[int, Rule] | None:
    lifted = [_lifted(rule, rules, measure) for rule in rules if rule.level is not Level.RAISE]
    return min(lifted, key=lambda found: (found[0], _DEPTH[found[1].level]), default=None)


def _lifted(rule: Rule, rules: Iterable[Rule], measure: Measure) -> tuple[int, Rule]:
    """A rule's own value, or that of the highest raise about the same model, if the operator set the rule."""
    lifting = (raised for raised in rules if raised.level is Level.RAISE and raised.model == rule.model)
    candidates = [rule, *lifting] if rule.level in (Level.PLAN, Level.CONTRACT) else [rule]
    highest = max(candidates, key=lambda candidate: _value(candidate, measure) or 0)
    return _value(highest, measure) or 0, highest


def _value(rule: Rule, measure: Measure) -> int | None:
    value: int | None = getattr(rule, measure)
    return value


_DEPTH = {level: depth for depth, level in enumerate(Level)}
