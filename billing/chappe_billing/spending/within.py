"""Which spending counts within a budget, and which of its thresholds are reached. Pure."""

from collections.abc import Iterable
from uuid import UUID

from msgspec import Struct

from chappe_tenants.quotas.effective import Rule

_WHOLE = 100


class Spending(Struct, frozen=True):
    """What a key paid for a model this month."""

    project_id: UUID
    key_id: UUID
    model: str
    paid_nano: int


def spent_within(rule: Rule, spending: Iterable[Spending]) -> int:
    """The part of a tenant's spending that `rule` is about."""
    return sum(
        one.paid_nano
        for one in spending
        if rule.project_id in (None, one.project_id)
        and rule.key_id in (None, one.key_id)
        and rule.model in (None, one.model)
    )


def reached(alert_percents: Iterable[int], amount_nano: int, spent_nano: int) -> list[int]:
    """The thresholds that spending has come to. Of a budget of nothing all, as soon as anything is spent."""
    return [percent for percent in alert_percents if spent_nano > 0 and spent_nano * _WHOLE >= amount_nano * percent]
